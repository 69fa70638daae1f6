"""Waiting until every commit is in Kafka."""

from __future__ import annotations

import json

import psycopg
import pytest

from orders_platform.contracts import load_contracts
from orders_platform.ingest.topics import topic_name
from orders_platform.settings import Settings
from orders_platform.stack import StackError, wait_until_captured
from orders_platform.stack.connect_rest import ConnectRest
from orders_platform.stack.connector import ensure_connector
from orders_platform.stack.debezium import CONNECTOR, read_slot
from orders_platform_tests.faults.recording import read_ends, read_topic
from orders_platform_tests.ingest.broker_admin import settled
from orders_platform_tests.ingest.events import contract
from orders_platform_tests.waiting import eventually

CUSTOMERS = contract("customers")


def test_what_was_committed_before_is_in_kafka_afterwards(troubled_stack: Settings) -> None:
    with psycopg.connect(troubled_stack.postgres) as connection:
        connection.execute(
            "INSERT INTO public.customers SELECT n, 'a@b.c', 'A', NULL, NULL, 'EU', now(), now()"
            " FROM generate_series(600000, 602000) AS n"
        )
    wait_until_captured(troubled_stack)
    ends = read_ends(troubled_stack, CUSTOMERS)
    settled(troubled_stack, topic_name(troubled_stack, CUSTOMERS))
    found = {
        json.loads(each.record.key or b"")["customer_id"]
        for each in read_topic(troubled_stack, CUSTOMERS)
        if each.offset < ends[each.log_id, each.record.partition]
    }
    assert set(range(600_000, 602_001)) <= found


def test_a_connector_that_does_not_run_is_an_error_after_the_time(troubled_stack: Settings) -> None:
    ConnectRest(troubled_stack).stop(CONNECTOR)
    try:
        assert eventually(lambda: (slot := read_slot(troubled_stack.postgres)) and not slot.active)
        with psycopg.connect(troubled_stack.postgres) as connection:
            connection.execute("UPDATE customers SET region = 'US' WHERE customer_id = 600000")
        with pytest.raises(StackError, match=r"has confirmed .* after 1 s, PostgreSQL was at"):
            wait_until_captured(troubled_stack, seconds=1)
    finally:
        ensure_connector(troubled_stack, load_contracts(), print)
