"""Debezium's envelopes and a producer for them, as plain as tests need them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from time import sleep
from typing import Any

from confluent_kafka import Producer

from orders_platform.contracts import Contract, load_contracts
from orders_platform.settings import Settings

CREATED = "2026-03-01T10:00:00.123456Z"
MIDNIGHT_IS_NEAR = timedelta(minutes=2)


def contract(table: str = "orders") -> Contract:
    """The contract of a table."""
    return next(each for each in load_contracts() if each.table == table)


def order(order_id: int = 1, **columns: Any) -> dict[str, Any]:
    """A row of `orders` as the connector sends it."""
    row = {"order_id": order_id, "customer_id": 7, "status": "placed", "currency": "EUR", "total": "12.50"}
    return {**row, "refunded": "0.00", "created_at": CREATED, "updated_at": CREATED, **columns}


def source(lsn: int, commit: int | None = None, table: str = "orders", **fields: Any) -> dict[str, Any]:
    """The envelope's source block of a streamed change."""
    sequence = json.dumps([str(lsn if commit is None else commit), str(lsn)])
    block = {"schema": "public", "table": table, "lsn": lsn, "sequence": sequence, "txId": lsn, "snapshot": None}
    return {**block, "ts_us": 1_772_359_200_000_000 + lsn, "ts_ms": 1_772_359_200_000, **fields}


def envelope(op: str, row: Mapping[str, Any] | None, lsn: int, **fields: Any) -> dict[str, Any]:
    """A change event without schema; `row` is `before` of a delete."""
    before, after = (row, None) if op == "d" else (None, row)
    return {"before": before, "after": after, "op": op, "source": source(lsn), "ts_ms": 1_772_359_200_001, **fields}


@dataclass(frozen=True)
class Record:
    """A record to be produced. `value` is JSON's content or raw bytes; `at` the producer's timestamp."""

    value: Any
    key: Any = None
    partition: int = 0
    at: datetime | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


def change(
    order_id: int, lsn: int, op: str = "c", partition: int = 0, at: datetime | None = None, **columns: Any
) -> Record:
    """A change of an order as a record."""
    row = {"order_id": order_id} if op == "d" else order(order_id, **columns)
    return Record(envelope(op, row, lsn), {"order_id": order_id}, partition, at)


def produce(settings: Settings, topic: str, records: Iterable[Record]) -> None:
    """Writes records outside of any transaction, in order."""
    producer = Producer({**settings.kafka_config, "enable.idempotence": True, "log_level": 0})
    put(producer, topic, records)
    assert producer.flush(30) == 0


def put(producer: Producer, topic: str, records: Iterable[Record]) -> None:
    """Hands records to a producer."""
    for record in records:
        producer.produce(
            topic,
            value=_bytes(record.value),
            key=_bytes(record.key),
            partition=record.partition,
            headers=list(record.headers) or None,
            timestamp=int(record.at.timestamp() * 1000) if record.at else 0,
        )


def transactional(settings: Settings, name: str) -> Producer:
    """A producer with transactions, ready for `begin_transaction`."""
    producer = Producer({**settings.kafka_config, "transactional.id": name, "log_level": 0})
    producer.init_transactions(30)
    return producer


def moment(day: date, hour: int = 12, minute: int = 0, second: int = 0) -> datetime:
    """A moment of a day, UTC."""
    return datetime.combine(day, time(hour, minute, second), UTC)


def today() -> date:
    """The day of records without a timestamp, and of the marks that end transactions: those carry the broker's time."""
    return datetime.now(UTC).date()


def keep_clear_of_midnight() -> None:
    """Waits for the next day if this one is about to end, UTC: what the broker's clock dates now, is of one day."""
    now = datetime.now(UTC)
    left = datetime.combine(now.date() + timedelta(days=1), time(), UTC) - now
    if left < MIDNIGHT_IS_NEAR:
        sleep(left.total_seconds() + 1)


def _bytes(content: Any) -> bytes | None:
    if content is None or isinstance(content, bytes):
        return content
    return json.dumps(content).encode()
