"""The whole stack: it comes up, says how it is, and carries a change from PostgreSQL to Kafka."""

from __future__ import annotations

import json

import psycopg
from confluent_kafka import Consumer

from orders_platform.settings import Settings
from orders_platform.stack import status

MEMORY_LIMIT_BYTES = 1_500_000_000


def test_every_part_is_healthy_and_all_of_them_stay_below_one_and_a_half_gigabytes(live_stack: Settings) -> None:
    now = status(live_stack)
    assert [part.name for part in now.parts] == ["postgres", "kafka", "connect", "clickhouse", "connector"]
    assert [part.detail for part in now.parts if not part.healthy] == []
    assert 0 < sum(part.memory_bytes for part in now.parts) < MEMORY_LIMIT_BYTES


def test_a_committed_row_arrives_in_its_topic(live_stack: Settings) -> None:
    with psycopg.connect(live_stack.postgres) as connection:
        connection.execute(
            "INSERT INTO customers (customer_id, email, full_name, region, created_at, updated_at)"
            " VALUES (424242, 'a@example.com', 'A', 'EU-WEST', now(), now())"
        )
    record = _first(live_stack, "orders.public.customers", lambda value: value["after"]["customer_id"] == 424242)
    assert record["op"] == "c"
    assert record["after"]["phone"] is None


def _first(settings: Settings, topic: str, wanted) -> dict:
    consumer = Consumer({**settings.kafka_config, "group.id": "test", "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe([topic])
        for _ in range(300):
            message = consumer.poll(0.1)
            if message is None or message.error() or message.value() is None:
                continue
            value = json.loads(message.value())
            if wanted(value):
                return value
    finally:
        consumer.close()
    raise AssertionError(f"no such record in {topic}")
