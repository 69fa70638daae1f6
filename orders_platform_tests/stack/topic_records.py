"""Reads what Debezium has written, as a test looks for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from orders_platform.settings import Settings

WAIT_SECONDS = 180.0
BATCH = 500
"""Records between two looks at what was found: a look at each would cost the square of their number."""


@dataclass(frozen=True)
class Record:
    """A committed record: `value` is None for a tombstone."""

    key: Any
    value: Any
    headers: dict[str, bytes]


def records(settings: Settings, table: str, until: Callable[[list[Record]], bool]) -> list[Record]:
    """All committed records of a table's topic, read from where its log starts until they satisfy `until`."""
    topic = f"{settings.topic_prefix}.public.{table}"
    consumer = Consumer(
        {**settings.kafka_config, "group.id": "test", "isolation.level": "read_committed", "enable.auto.commit": False}
    )
    found: list[Record] = []
    try:
        partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        deadline = time.monotonic() + WAIT_SECONDS
        while not until(found):
            assert time.monotonic() < deadline, f"after {WAIT_SECONDS:g} s {topic} has {found}"
            for message in consumer.consume(BATCH, 0.1):
                if message.error() is None:
                    found.append(Record(_json(message.key()), _json(message.value()), dict(message.headers() or [])))
    finally:
        consumer.close()
    return found


def _json(raw: bytes | None) -> Any:
    return None if raw is None else json.loads(raw)
