"""Debezium's PostgreSQL connector: its configuration, and the table that it takes signals from."""

from __future__ import annotations

import re
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from orders_platform.contracts import Contract
from orders_platform.ingest.topics import PARTITIONS, RETENTION_MILLISECONDS, notification_topic
from orders_platform.settings import Settings
from orders_platform.stack.errors import StackError

CONNECTOR = "orders-platform"
SLOT = PUBLICATION = "orders_platform"
SIGNAL_TABLE = "public.debezium_signal"
HEARTBEAT_MILLISECONDS = 5_000

# https://debezium.io/documentation/reference/3.7/configuration/signalling.html: its columns are Debezium's.
_SIGNAL_DDL = f"""
CREATE TABLE IF NOT EXISTS {SIGNAL_TABLE} (
    id varchar(42) PRIMARY KEY,
    type varchar(32) NOT NULL,
    data varchar(2048)
)"""


def connector_config(settings: Settings, contracts: tuple[Contract, ...], snapshot_mode: str) -> dict[str, str]:
    """What is registered for the tables of the contracts; `snapshot_mode` is `initial` or `no_data`."""
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
        "topic.prefix": settings.topic_prefix,
        "table.include.list": ",".join(table_pattern(contract) for contract in contracts),
        "plugin.name": "pgoutput",
        "slot.name": SLOT,
        "publication.name": PUBLICATION,
        "publication.autocreate.mode": "filtered",
        "snapshot.mode": snapshot_mode,
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


def table_pattern(contract: Contract) -> str:
    """The table as Debezium's lists of tables name it: a regular expression, with commas escaped once more."""
    return re.sub(r"([^\w.])", r"\\\1", contract.source, flags=re.ASCII)


def create_signal_table(dsn: str) -> None:
    """Makes the table unless it is there. Raises `StackError`."""
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            connection.execute("SET client_min_messages = warning")
            connection.execute(_SIGNAL_DDL)
    except psycopg.Error as error:
        raise StackError(f"{SIGNAL_TABLE} cannot be made in the shop's database: {error}") from error


def publish_generated_columns(dsn: str, publication: str = PUBLICATION) -> None:
    """Has the publication carry stored generated columns, where PostgreSQL can (18 or later). Raises `StackError`.

    Without it, they are in a snapshot's rows and missing from all later ones.
    """
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            if connection.info.server_version >= 180000:
                name = sql.Identifier(publication)
                connection.execute(
                    sql.SQL("ALTER PUBLICATION {} SET (publish_generated_columns = stored)").format(name)
                )
    except psycopg.Error as error:
        raise StackError(f"publication {publication} cannot be changed: {error}") from error


@dataclass(frozen=True)
class Slot:
    """The connector's replication slot: `usable` until PostgreSQL has thrown away what it needs, `active` when read."""

    usable: bool
    active: bool


def read_slot(dsn: str) -> Slot | None:
    """The replication slot as it is; None if there is none. Raises `StackError`."""
    query = """
        SELECT wal_status, active FROM pg_replication_slots WHERE slot_name = %s AND database = current_database()
    """
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            row = connection.execute(query, [SLOT]).fetchone()
    except psycopg.Error as error:
        raise StackError(f"the replication slots of the shop's database cannot be read: {error}") from error
    return None if row is None else Slot(usable=row[0] != "lost", active=row[1])


def end_of_log(dsn: str) -> int:
    """The LSN up to which PostgreSQL has written its log. Raises `StackError`."""
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            row = connection.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()
    except psycopg.Error as error:
        raise StackError(f"the write-ahead log of the shop's database cannot be asked: {error}") from error
    return int(row[0]) if row else 0
