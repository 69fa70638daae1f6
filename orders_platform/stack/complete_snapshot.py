"""Whether the complete snapshot with which the slot began has been delivered: the slot alone would not bring its rows.

Connect's offsets do not tell. A snapshot that breaks off right at its start (before its locks are taken, its schema
is read) leaves an offset behind, that of the notification of its start; the next attempt, a second later, takes the
snapshot for done and reads nothing (measured: 3.7). So it is noted among the connector's notifications that one is
asked for; Debezium says there when it is complete, in the order of its records. What was said last holds.
https://debezium.io/documentation/reference/3.7/configuration/notification.html
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from orders_platform.ingest.errors import IngestError
from orders_platform.ingest.kafka_admin import KafkaAdmin, TopicLog
from orders_platform.ingest.topics import notification_topic
from orders_platform.settings import Settings
from orders_platform.stack.errors import StackError

ASKED = {"aggregate_type": "orders-platform", "type": "COMPLETE_SNAPSHOT_ASKED"}
OPEN_SECONDS = 120.0
"""The broker ends a transaction whose producer has died after a minute, and some seconds."""
READ_SECONDS = 60.0
POLL_SECONDS = 0.2


def note_asked(settings: Settings) -> None:
    """Notes that a complete snapshot is owed from now on. Raises `StackError` if the broker does not take it."""
    topic, refused = notification_topic(settings), []
    producer = Producer({**settings.kafka_config, "enable.idempotence": True, "log_level": 0})
    producer.produce(topic, json.dumps(ASKED).encode(), on_delivery=lambda error, _: refused.append(error))
    producer.flush(READ_SECONDS)
    if refused != [None]:
        why = refused[0] if refused else f"no answer within {READ_SECONDS:g} s"
        raise StackError(f"{topic} does not take the note that a snapshot is asked for: {why}; is the broker well?")


def is_owed(settings: Settings) -> bool | None:
    """Whether the last complete snapshot that was asked for is not in the topics; None if none is known of.

    Raises:
        StackError: if the broker does not say in time.
    """
    owed = None
    try:
        for note in _notes(settings, _settled(settings)):
            if all(note.get(name) == value for name, value in ASKED.items()):
                owed = True
            elif note.get("aggregate_type") == "Initial Snapshot" and note.get("type") == "COMPLETED":
                owed = False
    except (IngestError, KafkaException) as error:
        raise StackError(f"the connector's notifications cannot be read: {error}; is the broker well?") from error
    return owed


def _settled(settings: Settings) -> TopicLog:
    """The topic, once no transaction hides the end of its log: what was noted last could lie behind it."""
    deadline = time.monotonic() + OPEN_SECONDS
    while True:
        log = KafkaAdmin(settings).topic(notification_topic(settings))
        if not any(bounds.open_records for bounds in log.partitions.values()):
            return log
        if time.monotonic() > deadline:
            raise StackError(f"a transaction is open in {log.name} for {OPEN_SECONDS:g} s; run it again")
        time.sleep(POLL_SECONDS)


def _notes(settings: Settings, log: TopicLog) -> Iterator[dict[str, Any]]:
    """All notifications, as they were written."""
    config = {"group.id": "orders-platform-recovery", "enable.auto.commit": False, "enable.partition.eof": True}
    consumer = Consumer({**settings.kafka_config, **config, "isolation.level": "read_committed", "log_level": 0})
    try:
        consumer.assign([TopicPartition(log.name, p, bounds.start) for p, bounds in log.partitions.items()])
        open_ = set(log.partitions)
        while open_:
            message = consumer.poll(READ_SECONDS)
            if message is None:
                raise StackError(f"{log.name} does not end within {READ_SECONDS:g} s; is the broker well?")
            if (error := message.error()) is None:
                with suppress(ValueError):
                    note = json.loads(message.value() or b"null")
                    if isinstance(note, dict):
                        yield note.get("payload", note)
            elif error.code() == KafkaError._PARTITION_EOF:
                open_.discard(message.partition() or 0)
            else:
                raise KafkaException(error)
    finally:
        consumer.close()
