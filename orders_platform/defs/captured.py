"""Waiting until Debezium has delivered what PostgreSQL has committed."""

from __future__ import annotations

import time

import psycopg

from orders_platform.settings import Settings

POLL_SECONDS = 0.2

_DELIVERED = """
SELECT min(confirmed_flush_lsn) >= %s::pg_lsn FROM pg_replication_slots
WHERE database = current_database() AND plugin = 'pgoutput' AND NOT temporary
"""


class CaptureTimeoutError(Exception):
    """Debezium has not delivered everything in time; nothing is lost, it waits in PostgreSQL's log."""


def wait_until_captured(settings: Settings, seconds: float = 60.0) -> None:
    """Returns when every change that is committed now is in Kafka: the slot's position says so.

    Debezium confirms a position after Connect has committed the records before it; its heartbeats move the position on
    when the shop is silent.

    Raises:
        CaptureTimeoutError: after `seconds`.
    """
    deadline = time.monotonic() + seconds
    with psycopg.connect(settings.postgres, autocommit=True) as connection:
        row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        lsn = row[0] if row else "0/0"
        while connection.execute(_DELIVERED, [lsn]).fetchone() != (True,):
            if time.monotonic() > deadline:
                raise CaptureTimeoutError(
                    f"Debezium has not delivered PostgreSQL's log up to {lsn} within {seconds:g} s; nothing is lost: "
                    "see `orders-platform status` for the connector, then repeat"
                )
            time.sleep(POLL_SECONDS)
