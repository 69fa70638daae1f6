"""Parts that somebody else runs: each is asked one question, within a limit, and what it lacks has a remedy."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from orders_platform.contracts import load_contracts
from orders_platform.errors import PlatformError
from orders_platform.ingest.errors import TopicMissingError
from orders_platform.ingest.kafka_admin import KafkaAdmin
from orders_platform.settings import CATALOG, PREFIX, Settings
from orders_platform.stack.local_stack import parts

LIMIT_SECONDS = 30.0
ANSWER_SECONDS = 5


class LackingError(PlatformError):
    """The part answers, and lacks what we need."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True)
class Probe:
    """One question to a part: `ask` says how it is, or raises; `remedy` is for the case that it does not answer."""

    title: str
    ask: Callable[[Settings], str]
    remedy: str


def probes(settings: Settings) -> list[Probe]:
    """A question for each part that the settings place elsewhere."""
    here = {part.name for part in parts(settings)}
    catalog = settings.catalog_properties.get("uri", "")
    asked = (
        ("postgres" not in here, Probe("PostgreSQL", _postgres, _remedy(f"{PREFIX}POSTGRES_DSN"))),
        ("kafka" not in here, Probe("Kafka", _kafka, _remedy(f"{PREFIX}KAFKA__*"))),
        (settings.staging.startswith("s3://"), Probe("S3", _s3, _remedy(f"{PREFIX}STAGING_URL, AWS_*, permissions"))),
        (
            not catalog.startswith("sqlite"),
            Probe("the catalog", _catalog, _remedy(f"PYICEBERG_CATALOG__{CATALOG.upper()}__*")),
        ),
        ("clickhouse" not in here, Probe("ClickHouse", _clickhouse, _remedy(f"{PREFIX}CLICKHOUSE_URL"))),
    )
    return [probe for elsewhere, probe in asked if elsewhere]


def _remedy(settings: str) -> str:
    return f"check {settings}, and the way from this machine to that address"


def ask(probe: Probe, settings: Settings, seconds: float = LIMIT_SECONDS) -> str:
    """What the part answered.

    Raises:
        LackingError: the part answers, and lacks something; or does not, within the limit or at all.
    """
    answers: list[str | Exception] = []

    def run() -> None:
        try:
            answers.append(probe.ask(settings))
        except Exception as error:  # noqa: BLE001 - whatever a client raises is what there is to say
            answers.append(error)

    # A client that never returns must not hold the doctor, nor the end of the process.
    thread = threading.Thread(target=run, name=f"probe of {probe.title}", daemon=True)
    thread.start()
    thread.join(seconds)
    answer = answers[0] if answers else TimeoutError(f"no answer within {seconds:g} s")
    if isinstance(answer, LackingError):
        raise answer
    if isinstance(answer, Exception):
        reason = " ".join((str(answer) or repr(answer)).split())[:300]
        raise LackingError(f"{probe.title}: {reason}", probe.remedy)
    return f"{probe.title}: {answer}"


def _postgres(settings: Settings) -> str:
    import psycopg

    with psycopg.connect(settings.postgres, connect_timeout=ANSWER_SECONDS) as connection:
        row = connection.execute("SELECT current_setting('wal_level'), current_setting('server_version')").fetchone()
    level, version = row or ("?", "?")
    if level != "logical":
        raise LackingError(
            f"PostgreSQL {version} has wal_level={level}: Debezium cannot read its changes",
            "ALTER SYSTEM SET wal_level = logical, then restart the server",
        )
    return f"version {version}, wal_level=logical"


def _kafka(settings: Settings) -> str:
    missing = []
    topics = [contract.topic(settings.topic_prefix) for contract in load_contracts()]
    for topic in topics:
        try:
            KafkaAdmin(settings, ANSWER_SECONDS).topic(topic)
        except TopicMissingError:
            missing.append(topic)
    if missing:
        raise LackingError(
            f"Kafka answers, and has no topic {', '.join(missing)}",
            f"start the connector of deploy/connect, or set {PREFIX}TOPIC_PREFIX to its topic.prefix",
        )
    return f"{len(topics)} topics of {settings.topic_prefix} are there"


def _s3(settings: Settings) -> str:
    import boto3
    from botocore.config import Config

    place = urlsplit(settings.staging)
    limits = Config(connect_timeout=ANSWER_SECONDS, read_timeout=ANSWER_SECONDS, retries={"max_attempts": 1})
    # A session of its own: boto3's default one is not for several threads, and keeps the first keys that it has seen.
    client = boto3.Session().client(
        "s3",
        endpoint_url=settings.s3.get("s3.endpoint"),
        region_name=settings.s3.get("s3.region", "us-east-1"),
        config=limits,
    )
    client.list_objects_v2(Bucket=place.netloc, Prefix=place.path.lstrip("/"), MaxKeys=1)
    return f"{settings.staging} can be listed"


def _catalog(settings: Settings) -> str:
    from orders_platform.lake.catalog import open_catalog

    return f"{len(open_catalog(settings).list_namespaces())} namespaces"


def _clickhouse(settings: Settings) -> str:
    import clickhouse_connect

    client = clickhouse_connect.get_client(
        dsn=settings.clickhouse, connect_timeout=ANSWER_SECONDS, send_receive_timeout=ANSWER_SECONDS
    )
    try:
        return f"version {client.server_version}"
    finally:
        client.close()
