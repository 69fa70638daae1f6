"""Debezium's PostgreSQL connector: its configuration, and the table that it takes signals from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from orders_platform.contracts import Contract
from orders_platform.ingest.topics import PARTITIONS, RETENTION_MILLISECONDS, notification_topic
from orders_platform.settings import Settings
from orders_platform.stack.errors import StackError
from orders_platform.stack.publication import PUBLICATION, SIGNAL_TABLE
from orders_platform.stack.shop import place_of

CONNECTOR = "orders-platform"
SLOT = "orders_platform"
HEARTBEAT_MILLISECONDS = 5_000

# https://debezium.io/documentation/reference/3.7/configuration/signalling.html: its columns are Debezium's.
_SIGNAL_DDL = f"""
CREATE TABLE IF NOT EXISTS {SIGNAL_TABLE} (
    id varchar(42) PRIMARY KEY,
    type varchar(32) NOT NULL,
    data varchar(2048)
)"""
TLS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword")
"""libpq's names, which are Debezium's too, after `database.`."""


def connector_config(
    settings: Settings, contracts: tuple[Contract, ...], snapshot_mode: str, publication_mode: str = "filtered"
) -> dict[str, str]:
    """What is registered for the tables of the contracts; `snapshot_mode` is `initial` or `no_data`.

    `publication_mode` is `disabled` where the publication is somebody else's (see `publication`).
    """
    database = conninfo_to_dict(settings.postgres)
    return {
        "name": CONNECTOR,
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": str(database.get("host", "127.0.0.1")),
        "database.port": str(database.get("port", 5432)),
        "database.user": str(database.get("user", "postgres")),
        **({"database.password": str(database["password"])} if database.get("password") else {}),
        "database.dbname": str(database.get("dbname", "postgres")),
        **_encryption(database),
        "topic.prefix": settings.topic_prefix,
        "table.include.list": ",".join(table_pattern(contract) for contract in contracts),
        "plugin.name": "pgoutput",
        "slot.name": SLOT,
        "publication.name": PUBLICATION,
        "publication.autocreate.mode": publication_mode,
        "snapshot.mode": snapshot_mode,
        # `shared` would keep migrations from emptying a table for the snapshot, but one that does not get its locks is
        # taken for complete at the next start, and nothing is read at all (measured: 3.7).
        "snapshot.locking.mode": "none",
        "skipped.operations": "none",  # its default drops TRUNCATE
        "decimal.handling.mode": "string",
        "time.precision.mode": "isostring",
        "interval.handling.mode": "string",
        # JSON has them as base64. With the mode of that name, an unchanged TOAST value arrives as null (measured: 3.7).
        "binary.handling.mode": "bytes",
        "tombstones.on.delete": "true",
        "provide.transaction.metadata": "true",
        "extended.headers.enabled": "false",  # names of the connector on every record
        "heartbeat.interval.ms": str(HEARTBEAT_MILLISECONDS),
        "signal.data.collection": SIGNAL_TABLE,
        # How an incremental snapshot gets on, by the id of the signal that asked for it.
        "notification.enabled.channels": "sink",
        "notification.sink.topic.name": notification_topic(settings),
        # The signal table's changes are published too, and a topic that is missing stalls the connector for ever.
        "topic.creation.default.replication.factor": "1",
        "topic.creation.default.partitions": str(PARTITIONS),
        "topic.creation.default.message.timestamp.type": "LogAppendTime",
        "topic.creation.default.retention.ms": str(RETENTION_MILLISECONDS),
        "exactly.once.support": "required",
        "transaction.boundary": "poll",
        "poll.interval.ms": "100",
        "errors.max.retries": "-1",
        "retriable.restart.connector.wait.ms": "2000",
        "slot.retry.delay.ms": "1000",
        "slot.max.retries": "60",
    }


def _encryption(database: Mapping[str, Any]) -> dict[str, str]:
    """How the DSN has the connection encrypted and the server checked, in the connector's settings.

    The system's certificate authorities (`sslrootcert=system`) are Java's own for the connector.
    """
    given = {f"database.{name}": str(database[name]) for name in TLS if database.get(name)}
    if given.get("database.sslrootcert") == "system":
        del given["database.sslrootcert"]
        # libpq checks the host name with them even if not asked to.
        given["database.sslmode"] = "verify-full"
        given["database.sslfactory"] = "org.postgresql.ssl.DefaultJavaSSLFactory"
    return given


def table_pattern(contract: Contract) -> str:
    """The table as Debezium's lists of tables name it: a regular expression, with commas escaped once more."""
    return re.sub(r"([^\w.])", r"\\\1", contract.source, flags=re.ASCII)


def create_signal_table(dsn: str) -> None:
    """Makes the table unless it is there: `IF NOT EXISTS` asks for the right to make it even then.

    Raises:
        StackError: where it is missing and our role may not make it, with the SQL for who may.
    """
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            if connection.execute("SELECT to_regclass(%s)", [SIGNAL_TABLE]).fetchone() != (None,):
                return
            connection.execute("SET client_min_messages = warning")
            connection.execute(_SIGNAL_DDL)
    except psycopg.errors.InsufficientPrivilege as error:
        user = conninfo_to_dict(dsn).get("user")
        ddl = " ".join(_SIGNAL_DDL.split())
        raise StackError(
            f"{SIGNAL_TABLE} is not there, and our role may not make it ({str(error).splitlines()[0]}). Have an owner "
            f"of the schema run: {ddl}; GRANT SELECT, INSERT, DELETE ON {SIGNAL_TABLE} TO {user}"
        ) from error
    except psycopg.Error as error:
        raise StackError(f"{SIGNAL_TABLE} cannot be made in the shop's database: {error}") from error


@dataclass(frozen=True)
class Slot:
    """The connector's replication slot: `usable` until PostgreSQL has thrown away what it needs.

    `active` while changes are read from it: not yet while it is made, nor while the tables are read for the first time.
    """

    usable: bool
    active: bool


def read_slot(dsn: str, name: str = SLOT) -> Slot | None:
    """The replication slot as it is; None if there is none. Raises `StackError`."""
    # Who is not its reader's role sees no state.
    query = """
        SELECT wal_status, active AND coalesce(state, 'streaming') IN ('catchup', 'streaming')
        FROM pg_replication_slots LEFT JOIN pg_stat_replication ON pid = active_pid
        WHERE slot_name = %s AND database = current_database()
    """
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            row = connection.execute(query, [name]).fetchone()
    except psycopg.Error as error:
        raise StackError(f"the replication slots of the shop's database cannot be read: {error}") from error
    return None if row is None else Slot(usable=row[0] != "lost", active=row[1])


def what_stays(settings: Settings) -> str | None:
    """What stands on somebody else's PostgreSQL when the stack is down, and how it goes; None where nothing does."""
    if settings.postgres_dsn is None or not settings.owns_kafka or not settings.home.exists():
        return None
    return (
        f"The replication slot {SLOT} stays in {place_of(settings.postgres)}: until `orders-platform up` reads on, "
        f"that server keeps its write-ahead log for it, as much as there comes. To give it up, run there: "
        f"SELECT pg_drop_replication_slot('{SLOT}');"
    )


def end_of_log(dsn: str) -> int:
    """The LSN up to which PostgreSQL has written its log. Raises `StackError`."""
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            row = connection.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()
    except psycopg.Error as error:
        raise StackError(f"the write-ahead log of the shop's database cannot be asked: {error}") from error
    return int(row[0]) if row else 0
