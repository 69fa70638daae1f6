"""Has Debezium read a table anew while changes go on, and waits until it says that it has."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from orders_platform.contracts import Contract
from orders_platform.ingest.errors import IngestError
from orders_platform.ingest.kafka_admin import KafkaAdmin
from orders_platform.ingest.topics import notification_topic
from orders_platform.settings import Settings
from orders_platform.stack.connector import request_snapshot
from orders_platform.stack.debezium import table_pattern
from orders_platform.stack.errors import StackError
from orders_platform.stack.part import Report

ENDED = ("COMPLETED", "ABORTED", "SKIPPED")


def read_anew(settings: Settings, contract: Contract, report: Report, seconds: float = 600.0) -> int:
    """Asks for an incremental snapshot of a table and waits for its end; returns the rows that it has read.

    Its progress is told by the connector's notifications, which carry the signal's id.
    https://debezium.io/documentation/reference/3.7/configuration/notification.html

    Args:
        seconds: the longest wait for the next sign of progress.

    Raises:
        StackError: without a sign for so long, when the connector gives up, or when it sends no notifications.
    """
    table, topic = contract.source, notification_topic(settings)
    try:
        log = KafkaAdmin(settings).topic(topic)
    except IngestError as error:
        raise StackError(
            f"the connector's notifications, which tell of the end of a snapshot, cannot be read: {error}"
        ) from error
    ends = {partition: bounds.high_watermark for partition, bounds in log.partitions.items()}
    signal = request_snapshot(settings.postgres, [table_pattern(contract)])
    report(f"PostgreSQL is asked for all rows of {table} (signal {signal})")
    rows = 0
    for note in _notes(settings, topic, ends, seconds):
        if note.get("id") != signal:
            continue
        said: Mapping[str, str] = note.get("additional_data") or {}
        kind = str(note.get("type"))
        if "total_rows_scanned" in said:
            rows = int(said["total_rows_scanned"])
        if kind not in ENDED:
            place = f", at key {said['last_processed_key']}" if "last_processed_key" in said else ""
            report(f"{table}: {kind.lower().replace('_', ' ')}{place}")
            continue
        if kind != "COMPLETED" or said.get("status", "SUCCEEDED") not in ("SUCCEEDED", "EMPTY", "COMPLETED"):
            raise StackError(f"the snapshot of {table} ended as {kind} ({dict(said)}): Connect's log says why")
        return rows
    raise StackError(
        f"no sign of the snapshot of {table} for {seconds:g} s (signal {signal}): `orders-platform status` says "
        f"whether the connector runs, its log file what it does. It may still end; what it reads is loaded as ever"
    )


def _notes(settings: Settings, topic: str, ends: Mapping[int, int], seconds: float) -> Iterator[dict[str, Any]]:
    """Notifications from these offsets on, until there was none for `seconds`."""
    consumer = Consumer(
        {
            **settings.kafka_config,
            "group.id": "orders-platform-notifications",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "log_level": 0,
        }
    )
    try:
        consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in ends.items()])
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            message = consumer.poll(0.5)
            if message is None or message.error() is not None:
                continue
            try:
                note = json.loads(message.value() or b"null")
            except ValueError:
                continue
            if isinstance(note, dict):
                until = time.monotonic() + seconds
                yield note.get("payload", note)
    finally:
        consumer.close()
