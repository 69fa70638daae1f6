"""Whether Debezium has delivered what was committed: its replication slot says how far, and Kafka what can be read."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable

import psycopg

from orders_platform.contracts import Contract, load_contracts
from orders_platform.ingest.kafka_admin import ANSWER_SECONDS, KafkaAdmin
from orders_platform.settings import Settings
from orders_platform.stack.debezium import SLOT, read_slot
from orders_platform.stack.errors import StackError
from orders_platform.stack.publication import SIGNAL_TABLE

POLL_SECONDS = 0.25


def wait_until_captured(
    settings: Settings, seconds: float = 60.0, slot: str = SLOT, contracts: Iterable[Contract] | None = None
) -> None:
    """Returns when every commit made before the call can be read from Kafka by readers of committed records.

    The replication slot of the connector says so, after the first reading of the tables if that goes on. Debezium
    confirms a position of the WAL once the records up to it are written, and only where there is a record. So one is
    made: a row in the table of signals, taken away again, which Debezium notes in its log.

    Args:
        contracts: those of the tables that are waited for, if not all of them.

    Raises:
        StackError: after `seconds`, or when there is no slot.
        BrokerUnavailableError, TopicMissingError: what keeps the topics from being looked at.
    """
    until = time.monotonic() + seconds
    while (found := read_slot(settings.postgres, slot)) is None or not found.active:
        if time.monotonic() > until:
            raise _late(seconds, "reads no changes (or reads the tables first)" if found else "has no replication slot")
        time.sleep(POLL_SECONDS)
    with psycopg.connect(settings.postgres, autocommit=True) as connection:
        (wanted,) = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone() or ("0/0",)
        marker = uuid.uuid4().hex
        connection.execute(
            f"INSERT INTO {SIGNAL_TABLE} (id, type, data) VALUES (%s, 'log', %s)".encode(),
            (marker, '{"message": "caught up as far as {}"}'),
        )
        connection.execute(f"DELETE FROM {SIGNAL_TABLE} WHERE id = %s".encode(), (marker,))
        while True:
            row = connection.execute(
                "SELECT confirmed_flush_lsn >= %s::pg_lsn, confirmed_flush_lsn::text"
                " FROM pg_replication_slots WHERE slot_name = %s",
                (wanted, slot),
            ).fetchone()
            if row is not None and row[0]:
                break
            if time.monotonic() > until:
                reached = f"has confirmed {row[1]}, PostgreSQL was at {wanted}" if row else "has no replication slot"
                raise _late(seconds, reached)
            time.sleep(POLL_SECONDS)
    # The broker tells the readers of each partition of a transaction's end after it has told the producer.
    admin = KafkaAdmin(settings, max(ANSWER_SECONDS, until - time.monotonic()))
    for name in [contract.topic(settings.topic_prefix) for contract in contracts or load_contracts()]:
        written = {p: bounds.high_watermark for p, bounds in admin.topic(name).partitions.items()}
        while any(bounds.stable_end < written.get(p, 0) for p, bounds in admin.topic(name).partitions.items()):
            if time.monotonic() > until:
                raise _late(seconds, f"has a transaction open in {name}")
            time.sleep(POLL_SECONDS)


def _late(seconds: float, what: str) -> StackError:
    return StackError(
        f"Debezium {what} after {seconds:.0f} s; nothing is lost: "
        "`orders-platform status` says whether Connect is healthy, its log file why not"
    )
