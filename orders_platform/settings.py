"""Settings of one installation: a closed list of environments, every mistake named at once, nothing opened.

Values come from environment variables, which `load` completes by those of `.env` in the working directory. Kafka's
settings carry librdkafka's names, the catalog's are PyIceberg's own (`PYICEBERG_CATALOG__ORDERS__…`) and S3's are the
AWS SDK's (`AWS_…`), so that whoever knows those tools knows these. `local` has a default for everything; elsewhere
what is missing is an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import tzinfo
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as UnparsableError

from orders_platform.environment import ENV_FILE_VARIABLE, read_env_file, unknown_variables
from orders_platform.errors import PlatformError
from orders_platform.fault_points import VARIABLE as FAULT_VARIABLE

Kind = TypeVar("Kind", bound=BaseSettings)

PREFIX = "ORDERS_PLATFORM_"
CATALOG = "orders"
"""PyIceberg's name of the catalog: its settings are `PYICEBERG_CATALOG__ORDERS__*`."""

LOCAL_PII_KEY = "local-development-only"
OTHER_VARIABLES = (FAULT_VARIABLE, ENV_FILE_VARIABLE, f"{PREFIX}GOLD_BRANCH")
"""Names that are ours and no settings: tests' faults, where lines come from, what dbt's Spark target reads."""

SQL_URI = re.compile(r"(sqlite|postgres|mysql|mariadb|oracle|mssql|duckdb|in-memory)", re.IGNORECASE)
SIZE = re.compile(r"\s*(?P<number>\d+(\.\d+)?)\s*[kmgt]?i?b\s*", re.IGNORECASE)


class SettingsError(PlatformError):
    """Settings are wrong or missing; the message names every one of them and what to do."""


class Ports(BaseSettings):
    """TCP ports of the local stack, all on 127.0.0.1."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}PORT_", frozen=True, extra="ignore")

    postgres: int = 15432
    kafka: int = 19092
    kafka_controller: int = 19093
    connect: int = 18083
    clickhouse: int = 18123
    dagster: int = 3000


class Settings(BaseSettings):
    """Everything an installation can set. Raises `pydantic.ValidationError`; use `load` for a readable error."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="ignore", frozen=True)

    env: Literal["local", "staging", "production"] = "local"
    home: Path = Path("var")
    ports: Ports = Field(default_factory=Ports)

    topic_prefix: str = "orders"
    kafka: dict[str, str] = Field(default_factory=dict)
    postgres_dsn: str | None = None
    staging_url: str | None = None
    clickhouse_url: SecretStr | None = None
    pii_key: SecretStr | None = None
    business_time_zone: str = "UTC"

    lag_threshold_records: int = Field(default=5000, ge=1)
    lag_threshold_seconds: float = Field(default=5.0, gt=0)
    max_records_per_run: int = Field(default=2_000_000, ge=1)
    memory_limit: str = "1GB"
    threads: int = Field(default=2, ge=1)

    @field_validator("home", mode="after")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @field_validator("business_time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{name!r} is not an IANA time zone such as 'UTC' or 'Europe/Berlin'") from None
        return name

    @field_validator("memory_limit")
    @classmethod
    def _size(cls, text: str) -> str:
        size = SIZE.fullmatch(text)
        if size is None or not float(size["number"]):
            raise ValueError(f"{text!r} is not a size such as '1GB' or '512MiB'")
        return text

    @model_validator(mode="after")
    def _complete(self) -> Settings:
        problems = list(_contradictions(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def is_local(self) -> bool:
        return self.env == "local"

    @property
    def parts_elsewhere(self) -> tuple[str, ...]:
        """The variables that name a database, Kafka, storage, catalog or ClickHouse in place of the local ones."""
        catalog = f"PYICEBERG_CATALOG__{CATALOG.upper()}__"
        named = {
            f"{PREFIX}POSTGRES_DSN": self.postgres_dsn is not None,
            f"{PREFIX}KAFKA__BOOTSTRAP_SERVERS": not self.owns_kafka,
            f"{PREFIX}STAGING_URL": self.staging_url is not None,
            f"{PREFIX}CLICKHOUSE_URL": self.clickhouse_url is not None,
            f"{catalog}URI": f"{catalog}URI" in os.environ,
            f"{catalog}WAREHOUSE": f"{catalog}WAREHOUSE" in os.environ,
        }
        return tuple(name for name, elsewhere in named.items() if elsewhere)

    @property
    def owns_kafka(self) -> bool:
        """Whether Kafka, and Kafka Connect with it, are the local stack's."""
        return "bootstrap.servers" not in {name.lower().replace("_", ".") for name in self.kafka}

    @cached_property
    def time_zone(self) -> tzinfo:
        """The zone whose calendar an order date follows."""
        return ZoneInfo(self.business_time_zone)

    @cached_property
    def kafka_config(self) -> dict[str, Any]:
        """librdkafka settings: `ORDERS_PLATFORM_KAFKA__SASL_USERNAME` becomes `sasl.username`."""
        given = {name.lower().replace("_", "."): value for name, value in self.kafka.items()}
        return {"bootstrap.servers": f"127.0.0.1:{self.ports.kafka}", **given}

    @cached_property
    def postgres(self) -> str:
        """DSN of the shop's database."""
        return self.postgres_dsn or f"postgresql://shop@127.0.0.1:{self.ports.postgres}/shop"

    @cached_property
    def staging(self) -> str:
        """Folder (an absolute path) or `s3://bucket/prefix` of the staged files, without a slash at the end."""
        return (self.staging_url or str(self.home / "staging")).rstrip("/")

    @cached_property
    def clickhouse(self) -> str:
        """DSN of ClickHouse's HTTP interface, as clickhouse-connect takes it."""
        if self.clickhouse_url is not None:
            return self.clickhouse_url.get_secret_value()
        return f"http://default@127.0.0.1:{self.ports.clickhouse}/default"

    @cached_property
    def masking_key(self) -> bytes:
        """Key of the HMAC that pseudonymizes personal data."""
        return (self.pii_key.get_secret_value() if self.pii_key else LOCAL_PII_KEY).encode()

    @cached_property
    def s3(self) -> Mapping[str, str]:
        """S3 access in the AWS SDK's variables, as PyIceberg's `s3.*` properties."""
        names = {
            "s3.endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
            "s3.region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
            "s3.access-key-id": ("AWS_ACCESS_KEY_ID",),
            "s3.secret-access-key": ("AWS_SECRET_ACCESS_KEY",),
            "s3.session-token": ("AWS_SESSION_TOKEN",),
        }
        found = {key: next((os.environ[n] for n in alts if os.environ.get(n)), None) for key, alts in names.items()}
        return {key: value for key, value in found.items() if value}

    @cached_property
    def catalog_properties(self) -> Mapping[str, str]:
        """PyIceberg's properties for the catalog: its own settings over the local defaults (SQLite, a folder)."""
        start = f"PYICEBERG_CATALOG__{CATALOG.upper()}__"
        own = {
            name[len(start) :].lower().replace("__", ".").replace("_", "-"): value
            for name, value in os.environ.items()
            if name.upper().startswith(start)
        }
        local = {
            "type": "sql",
            "uri": f"sqlite:///{self.home / 'catalog.db'}",
            "warehouse": f"file://{self.home / 'warehouse'}",
        }
        return {**(local if self.is_local and "uri" not in own else {}), **self.s3, **own}


def _contradictions(settings: Settings) -> list[str]:
    """What is missing or does not fit together, each with its remedy."""
    problems = []
    if not settings.is_local:
        catalog, variable = settings.catalog_properties, f"PYICEBERG_CATALOG__{CATALOG.upper()}__"
        needed = {
            f"{PREFIX}KAFKA__BOOTSTRAP_SERVERS": not settings.owns_kafka,
            f"{PREFIX}POSTGRES_DSN": settings.postgres_dsn is not None,
            f"{PREFIX}STAGING_URL": settings.staging_url is not None,
            f"{PREFIX}CLICKHOUSE_URL": settings.clickhouse_url is not None,
            f"{PREFIX}PII_KEY": settings.pii_key is not None,
            f"{variable}TYPE": "type" in catalog,
            f"{variable}URI": "uri" in catalog or catalog.get("type") == "glue",
        }
        problems += [f"{name} must be set in {settings.env}" for name, there in needed.items() if not there]
        # Without a type, PyIceberg goes by the address: it is refused by its scheme too.
        if catalog.get("type") in ("sql", "in-memory") or SQL_URI.match(catalog.get("uri", "")):
            problems.append(
                f"a SQL catalog is for one machine: in {settings.env}, set {variable}TYPE to rest or glue, and its URI"
            )
        if settings.pii_key and settings.pii_key.get_secret_value() == LOCAL_PII_KEY:
            problems.append(f"{PREFIX}PII_KEY is the one for local development: choose a secret of your own")
    if settings.staging_url and "://" in settings.staging_url and not settings.staging_url.startswith("s3://"):
        problems.append(f"{PREFIX}STAGING_URL must be a folder or s3://bucket/prefix, not {settings.staging_url!r}")
    ports = settings.ports.model_dump()
    for port in sorted({p for p in ports.values() if list(ports.values()).count(p) > 1}):
        names = ", ".join(f"{PREFIX}PORT_{name.upper()}" for name, value in ports.items() if value == port)
        problems.append(f"port {port} is given twice: {names}")
    return problems


def load(**overrides: Any) -> Settings:
    """The settings of this process, after `.env` of the working directory has joined its environment.

    Raises:
        SettingsError: naming every wrong, missing or unknown setting at once.
    """
    read_env_file()
    ports, wrong_ports = _read(Ports, f"{PREFIX}PORT_", {})
    settings, wrong = _read(Settings, PREFIX, {**({"ports": ports} if ports else {}), **overrides})
    problems = [*unknown_variables(PREFIX, *_names()), *wrong_ports, *wrong]
    if problems or settings is None:
        raise SettingsError("Settings: " + "; ".join(problems))
    return settings


def _names() -> tuple[list[str], list[str]]:
    """The names of all settings, and the beginnings of those whose names others choose."""
    own = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields if name not in ("ports", "kafka")]
    ports = [f"{PREFIX}PORT_{name.upper()}" for name in Ports.model_fields]
    return [*own, *ports, *OTHER_VARIABLES], [f"{PREFIX}KAFKA__"]


def _read(kind: type[Kind], prefix: str, given: Mapping[str, Any]) -> tuple[Kind | None, list[str]]:
    """Settings of a kind, and what is wrong with them.

    Where a value is wrong its default stands in, so that contradictions between the others are found as well.
    """
    try:
        return kind(**given), []
    except UnparsableError as error:
        return None, [str(error)]
    except ValidationError as error:
        found = error.errors()
    places = [prefix + "__".join(str(part).upper() for part in e["loc"]) + ": " if e["loc"] else "" for e in found]
    problems = [place + e["msg"].removeprefix("Value error, ") for place, e in zip(places, found, strict=True)]
    wrong = {str(e["loc"][0]) for e in found if e["loc"]}
    if not wrong:
        return None, problems
    defaults = {n: kind.model_fields[n].get_default(call_default_factory=True, validated_data={}) for n in wrong}
    settings, more = _read(kind, prefix, {**given, **defaults})
    return settings, [*problems, *more]
