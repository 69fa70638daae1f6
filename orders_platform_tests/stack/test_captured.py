"""Waiting until every commit is in Kafka."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from confluent_kafka import Producer
from psycopg.conninfo import make_conninfo

from orders_platform.contracts import load_contracts
from orders_platform.ingest.topics import topic_name
from orders_platform.settings import Settings
from orders_platform.stack import StackError, wait_until_captured
from orders_platform.stack.connect_rest import ConnectRest
from orders_platform.stack.connector import ensure_connector
from orders_platform.stack.debezium import CONNECTOR, Slot, read_slot
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
        with pytest.raises(StackError, match=r"Debezium reads no changes .* after 1 s"):
            wait_until_captured(troubled_stack, seconds=1)
    finally:
        ensure_connector(troubled_stack, load_contracts(), print)


def test_a_slot_that_is_being_made_is_not_yet_read(troubled_stack: Settings) -> None:
    """PostgreSQL makes it when the transactions of that time have ended: it is held until then, the tables unread."""
    replication = make_conninfo(troubled_stack.postgres, replication="database")
    with (
        psycopg.connect(replication, autocommit=True) as reader,
        ThreadPoolExecutor() as pool,
        psycopg.connect(troubled_stack.postgres) as writer,
    ):
        writer.execute("UPDATE customers SET region = 'US' WHERE customer_id = 600001")
        making = pool.submit(reader.execute, "CREATE_REPLICATION_SLOT new TEMPORARY LOGICAL pgoutput")
        assert eventually(lambda: _is_held(troubled_stack, "new"))
        assert read_slot(troubled_stack.postgres, "new") == Slot(usable=True, active=False)
        with pytest.raises(StackError, match=r"Debezium reads no changes .* after 1 s"):
            wait_until_captured(troubled_stack, seconds=1, slot="new")
        assert not making.done()


def test_what_is_captured_can_be_read(troubled_stack: Settings) -> None:
    """A transaction whose end the broker has not yet written to a partition hides what lies behind it there."""
    producer = Producer({**troubled_stack.kafka_config, "transactional.id": "slow"})
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(topic_name(troubled_stack, CUSTOMERS), b"of no transaction that ends", partition=1)
    producer.flush()
    try:
        with pytest.raises(StackError, match=r"has a transaction open in orders\.public\.customers after 5 s"):
            wait_until_captured(troubled_stack, seconds=5)
    finally:
        producer.abort_transaction()
    wait_until_captured(troubled_stack)


def _is_held(settings: Settings, slot: str) -> bool:
    query = "SELECT FROM pg_replication_slots WHERE slot_name = %s AND active"
    with psycopg.connect(settings.postgres) as connection:
        return connection.execute(query, [slot]).fetchone() is not None
