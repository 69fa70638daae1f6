"""The whole stack on one machine: up, down, and how it is."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orders_platform.contracts import load_contracts
from orders_platform.ingest.topics import create_topics
from orders_platform.settings import CATALOG, Settings
from orders_platform.stack.clickhouse import clickhouse
from orders_platform.stack.connect import connect
from orders_platform.stack.connect_rest import ConnectRest
from orders_platform.stack.connector import ensure_connector
from orders_platform.stack.debezium import CONNECTOR, create_signal_table
from orders_platform.stack.disk import explain_disk, require_room
from orders_platform.stack.errors import StackError
from orders_platform.stack.jars import classpath, version_of
from orders_platform.stack.kafka import kafka
from orders_platform.stack.part import Part, Report, UnhealthyError
from orders_platform.stack.postgres import postgres
from orders_platform.stack.processes import memory_bytes
from orders_platform.stack.shop import apply_schema
from orders_platform.stack.supervise import ensure_all, take_down


@dataclass(frozen=True)
class PartStatus:
    """How a part is: `pid` is None when it does not run, `detail` what it answered or why it is not well."""

    name: str
    title: str
    endpoint: str
    pid: int | None
    memory_bytes: int
    version: str
    log_file: Path
    healthy: bool
    detail: str


@dataclass(frozen=True)
class StackStatus:
    """All parts, and what a client needs to connect to them."""

    parts: tuple[PartStatus, ...]
    connection: dict[str, Any] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        return all(part.healthy for part in self.parts)

    @property
    def running(self) -> bool:
        """Whether any part runs."""
        return any(part.pid is not None for part in self.parts)


def parts(settings: Settings) -> tuple[Part, ...]:
    """The parts that this installation runs itself, in the order in which they depend on each other.

    What the settings place elsewhere (one's own PostgreSQL, Kafka with its Connect, ClickHouse) is not among them.
    """
    return (
        *((postgres(settings),) if settings.postgres_dsn is None else ()),
        *((kafka(settings), connect(settings)) if settings.owns_kafka else ()),
        *((clickhouse(settings),) if settings.clickhouse_url is None else ()),
    )


def up(settings: Settings, report: Report = lambda _: None, *, new_slot: bool = False) -> StackStatus:
    """Starts what does not run, heals what does not answer, and registers the connector; harmless when all is well.

    `new_slot` accepts that changes are lost whose replication slot is gone (see `recovery`).

    Raises:
        StackError: if the stack does not come up; what has started stays, and the next `up` goes on from there.
    """
    _require_local(settings)
    require_room(settings.home)
    started = time.monotonic()
    with _alone(settings.home):
        mine = parts(settings)
        names = {part.name for part in mine}
        if "kafka" in names:
            classpath(report)
        ensure_all(mine, report)
        if "postgres" in names:
            apply_schema(settings.postgres)
        if "connect" in names:
            create_signal_table(settings.postgres)
            create_topics(settings, load_contracts())
            ensure_connector(settings, load_contracts(), report, accept_new_slot=new_slot)
            report(f"Debezium {_debezium_version()} is connected to PostgreSQL")
    report(f"the stack is up after {time.monotonic() - started:.1f} s")
    return status(settings)


def down(settings: Settings, report: Report = lambda _: None, *, keep: Collection[str] = ()) -> None:
    """Stops everything, readers before what they read from; harmless when nothing runs. Raises `StackError`.

    `keep` names parts that are left as they are.
    """
    _require_local(settings)
    if not settings.home.exists():
        return
    problems = []
    with _alone(settings.home):
        for part in reversed([part for part in parts(settings) if part.name not in keep]):
            try:
                take_down(part, report)
            except StackError as error:
                problems.append(f"{part.title}: {error}")
    if problems:
        raise StackError("; ".join(problems))


def status(settings: Settings) -> StackStatus:
    """Every part as it is now; asks each of them, changes nothing. Raises `StackError` outside of `local`."""
    _require_local(settings)
    mine = parts(settings)
    found = [_status_of(part) for part in mine]
    if any(part.name == "connect" for part in mine):
        found.append(_connector_status(settings, mine))
    return StackStatus(tuple(found), connection(settings))


def connection(settings: Settings) -> dict[str, Any]:
    """What a program needs to connect to everything."""
    return {
        "home": str(settings.home),
        "postgres": settings.postgres,
        "kafka": settings.kafka_config["bootstrap.servers"],
        "topic_prefix": settings.topic_prefix,
        "connect": f"http://127.0.0.1:{settings.ports.connect}",
        "clickhouse": settings.clickhouse,
        "staging": settings.staging,
        "catalog": {"name": CATALOG, **settings.catalog_properties},
        "warehouse": settings.catalog_properties.get("warehouse"),
        "dagster": f"http://127.0.0.1:{settings.ports.dagster}",
    }


def _status_of(part: Part) -> PartStatus:
    process = part.process()
    healthy, detail = False, "it does not run"
    if process is not None:
        try:
            healthy, detail = True, part.answer()
        except UnhealthyError as error:
            healthy, detail = False, str(error)
    elif part.pid_file.exists():
        detail = "it has died; `orders-platform up` starts it again"
    return PartStatus(
        name=part.name,
        title=part.title,
        endpoint=part.endpoint,
        pid=process.pid if process else None,
        memory_bytes=memory_bytes(process) if process else 0,
        version=part.version,
        log_file=part.log_file,
        healthy=healthy,
        detail=detail,
    )


def _connector_status(settings: Settings, mine: tuple[Part, ...]) -> PartStatus:
    worker = next(part for part in mine if part.name == "connect")
    healthy, detail = False, "Kafka Connect does not run"
    if worker.process() is not None:
        try:
            state = ConnectRest(settings).status(CONNECTOR)
        except StackError as error:
            detail = str(error)
        else:
            healthy = state is not None and state.running
            detail = (
                "it is not registered" if state is None else f"{state.state}, tasks {', '.join(state.tasks) or 'none'}"
            )
            if state is not None and state.trace:
                detail += f": {state.trace.splitlines()[0]}"
    return PartStatus(
        name="connector",
        title="Debezium",
        endpoint=f"{worker.endpoint}/connectors/{CONNECTOR}",
        pid=None,
        memory_bytes=0,
        version=_debezium_version(),
        log_file=worker.log_file,
        healthy=healthy,
        detail=detail,
    )


def _debezium_version() -> str:
    return version_of("debezium-connector-postgres")


def _require_local(settings: Settings) -> None:
    if not settings.is_local:
        raise StackError(
            f"the stack on one machine belongs to ORDERS_PLATFORM_ENV=local, not {settings.env}: "
            "there the parts are run by whoever operates them"
        )


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One `up` or `down` at a time: the second waits for the first."""
    file = home / "run" / "lock"
    with explain_disk(home):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = file.open("w", encoding="ascii")
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
