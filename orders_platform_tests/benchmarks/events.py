"""Debezium's change events by the million: written by DuckDB as JSON, sent to a real Kafka in batches.

The events look as the connector of the local stack sends them: no schema, decimals and times as text, old rows only by
their key (`REPLICA IDENTITY DEFAULT`), `source` with LSN, sequence and transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import duckdb
from confluent_kafka import Producer

from orders_platform.contracts import Contract
from orders_platform.ingest.topics import topic_name
from orders_platform.settings import Settings

FIRST_ORDER_DATE = date(2026, 1, 5)
BATCH = 20_000
FLUSH_SECONDS = 120
BYTES_OF_WAL_PER_CHANGE = 128

# SQL of each column from `k` (the key, 1 and up), `revision` (0 when created) and `customers`, `order_day`.
_STATUS = "['placed', 'paid', 'shipped', 'delivered'][1 + least(revision, 3)]"
_UPDATED = "strftime({created} + to_seconds(revision * 60), '%Y-%m-%dT%H:%M:%S.%fZ')"
_ORDER_CREATED = "(first_day + to_days(order_day) + to_microseconds(k * 7919 % 86400000000))"
_CREATED = "(first_day + to_microseconds(k * 7919 % 86400000000))"
_ROWS = {
    "orders": {
        "order_id": "k",
        "customer_id": "1 + hash(k) % customers",
        "status": _STATUS,
        "currency": "['EUR', 'USD'][1 + k % 2]",
        "total": "cast(cast(1 + k % 90000 as decimal(14, 2)) / 100 as decimal(14, 2))::varchar",
        "refunded": "'0.00'",
        "created_at": f"strftime({_ORDER_CREATED}, '%Y-%m-%dT%H:%M:%S.%fZ')",
        "updated_at": _UPDATED.format(created=_ORDER_CREATED),
    },
    "line_items": {
        "line_item_id": "k",
        "order_id": "orders_from + (k - 1) // lines_per_order",
        "product_id": "1 + hash(k) % 5000",
        "quantity": "1 + k % 4",
        "unit_price": "cast(cast(100 + k % 9000 as decimal(12, 2)) / 100 as decimal(12, 2))::varchar",
        "discount": "'0.00'",
        "created_at": f"strftime({_CREATED}, '%Y-%m-%dT%H:%M:%S.%fZ')",
        "updated_at": _UPDATED.format(created=_CREATED),
    },
    "customers": {
        "customer_id": "k",
        "email": "'customer' || k || '@example.com'",
        "full_name": "'Customer ' || k",
        "phone": "'+49 30 ' || (1000000 + k)",
        "address": "k || ' Long Street, Springfield'",
        "region": "['DE', 'FR', 'US', 'JP'][1 + k % 4]",
        "created_at": f"strftime({_CREATED}, '%Y-%m-%dT%H:%M:%S.%fZ')",
        "updated_at": _UPDATED.format(created=_CREATED),
    },
}


@dataclass(frozen=True)
class Shape:
    """What the shop behind the events looks like.

    `lines_per_order` line items belong to each order from `orders_from` on.
    """

    orders_per_day: int
    customers: int
    lines_per_order: int = 3
    orders_from: int = 1

    def order_date(self, key: int) -> date:
        """The day on which order `key` was placed."""
        return FIRST_ORDER_DATE + timedelta(days=(key - 1) // self.orders_per_day)


@dataclass(frozen=True)
class Changes:
    """`count` events of one table: keys from SQL over `i` (0 to count − 1), all with one operation and revision.

    `position` is the first LSN in units of a change: streams that follow each other must not overlap.
    """

    contract: Contract
    count: int
    position: int
    keys: str = "i + 1"
    op: str = "c"
    revision: int = 0

    @property
    def next_position(self) -> int:
        return self.position + self.count


def events_sql(changes: Changes, shape: Shape) -> str:
    """A SELECT of `key` and `value`, both JSON in UTF-8, in the order in which the shop committed them."""
    row = ", ".join(f"'{name}': {sql}" for name, sql in _ROWS[changes.contract.table].items())
    key = ", ".join(f"'{name}': {_ROWS[changes.contract.table][name]}" for name in changes.contract.key)
    lsn = f"((i + {changes.position}) * {BYTES_OF_WAL_PER_CHANGE})"
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    source = (
        "{'version': '3.7.0.Final', 'connector': 'postgresql', 'name': 'orders', "
        f"'ts_ms': {now_ms}, 'snapshot': 'false', 'db': 'shop', "
        f"""'sequence': '["' || ({lsn} - {BYTES_OF_WAL_PER_CHANGE}) || '","' || {lsn} || '"]', """
        f"'ts_us': {now_ms}000, 'ts_ns': {now_ms}000000, 'schema': '{changes.contract.schema}', "
        f"'table': '{changes.contract.table}', 'txId': 1000 + i + {changes.position}, 'lsn': {lsn}, 'xmin': null}}"
    )
    transaction = (
        f"{{'id': (1000 + i + {changes.position}) || ':' || {lsn}, 'total_order': 1, 'data_collection_order': 1}}"
    )
    return f"""
        WITH keyed AS (
            SELECT i, CAST({changes.keys} AS BIGINT) AS k FROM range({changes.count}) AS numbers(i)
        ), shop AS (
            SELECT i, k, {changes.revision} AS revision, {shape.customers} AS customers,
                {shape.orders_from} AS orders_from, {shape.lines_per_order} AS lines_per_order,
                CAST((k - 1) // {shape.orders_per_day} AS INTEGER) AS order_day,
                TIMESTAMP '{FIRST_ORDER_DATE} 00:00:00' AS first_day
            FROM keyed
        )
        SELECT encode(to_json({{{key}}})::VARCHAR) AS key,
            encode(to_json({{'before': null, 'after': {{{row}}}, 'source': {source}, 'transaction': {transaction},
                'op': '{changes.op}', 'ts_ms': {now_ms + 40}, 'ts_us': {now_ms + 40}000, 'ts_ns': {now_ms + 40}000000}}
            )::VARCHAR) AS value
        FROM shop ORDER BY i"""


def events(changes: Changes, shape: Shape) -> Iterator[list[dict[str, bytes]]]:
    """The events in batches, as `confluent_kafka.Producer.produce_batch` takes them."""
    with duckdb.connect() as connection:
        reader = connection.execute(events_sql(changes, shape)).to_arrow_reader(BATCH)
        for batch in reader:
            yield batch.to_pylist()


def produce(settings: Settings, changes: Changes, shape: Shape) -> int:
    """Sends the events to the table's topic and waits until the broker has them all. Returns the bytes of their values.

    Raises:
        RuntimeError: when the broker did not take some.
    """
    refused: list[str] = []
    producer = Producer(
        {
            **settings.kafka_config,
            "partitioner": "murmur2_random",  # as Connect's Java producer spreads keys
            "queue.buffering.max.messages": 10 * BATCH,
            "linger.ms": 20,
            "compression.type": "lz4",
            "on_delivery": lambda error, _: refused.append(error.str()) if error is not None else None,
        }
    )
    topic = topic_name(settings, changes.contract)
    size = 0
    for batch in events(changes, shape):
        size += sum(len(event["value"]) for event in batch)
        producer.produce_batch(topic, batch)
        while len(producer) > 5 * BATCH:
            producer.poll(0.1)
        failed = [event["_error"] for event in batch if "_error" in event]
        refused.extend(str(error) for error in failed)
    left = producer.flush(FLUSH_SECONDS)
    if left or refused:
        raise RuntimeError(f"{topic}: {left} events were not sent, {len(refused)} refused ({json.dumps(refused[:1])})")
    return size
