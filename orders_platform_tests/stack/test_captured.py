"""Waiting until every commit is in Kafka."""

from __future__ import annotations

import time

import psycopg
import pytest

from orders_platform.contracts import load_contracts
from orders_platform.settings import Settings
from orders_platform.stack import StackError, wait_until_captured
from orders_platform.stack.connect_rest import ConnectRest
from orders_platform.stack.connector import ensure_connector
from orders_platform.stack.debezium import CONNECTOR, read_slot
from orders_platform_tests.stack.topic_records import records


def test_what_was_committed_before_is_in_kafka_afterwards(
    troubled_stack: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(troubled_stack.postgres) as connection:
        connection.execute(
            "INSERT INTO public.customers SELECT n, 'a@b.c', 'A', NULL, NULL, 'EU', now(), now()"
            " FROM generate_series(600000, 602000) AS n"
        )
    wait_until_captured(troubled_stack)
    monkeypatch.setattr("orders_platform_tests.stack.topic_records.WAIT_SECONDS", 5.0)
    wanted = set(range(600_000, 602_001))
    records(troubled_stack, "customers", lambda found: wanted <= {each.key["customer_id"] for each in found})


def test_a_connector_that_does_not_run_is_an_error_after_the_time(troubled_stack: Settings) -> None:
    ConnectRest(troubled_stack).stop(CONNECTOR)
    try:
        deadline = time.monotonic() + 30
        while (slot := read_slot(troubled_stack.postgres)) is None or slot.active:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with psycopg.connect(troubled_stack.postgres) as connection:
            connection.execute("UPDATE customers SET region = 'US' WHERE customer_id = 600000")
        with pytest.raises(StackError, match=r"has confirmed .* after 1 s, PostgreSQL was at"):
            wait_until_captured(troubled_stack, seconds=1)
    finally:
        ensure_connector(troubled_stack, load_contracts(), print)
