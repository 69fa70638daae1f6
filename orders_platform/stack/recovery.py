"""Where the connector goes on, from what is left of its two marks: Connect's source offsets and PostgreSQL's slot.

| offsets | slot | its complete snapshot | what is right |
|---|---|---|---|
| there | there | delivered, or under way | go on |
| there | there | passed over | the slot is dropped, and the first start repeated |
| – | there | delivered | `no_data`: the slot streams all that was not confirmed; a snapshot would be ordered wrongly |
| – | there | not delivered | a first start that was cut short: the slot is dropped, and the first start repeated |
| – | – | | a new slot and an initial snapshot |
| there | – | | changes between are lost: stop and say so; a new slot only when the operator has accepted that |
| too far | | | beyond the end of PostgreSQL's log, which was restored: the same; what comes would be left out |
"""

from __future__ import annotations

import time
from enum import Enum

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka import KafkaError as Code

from orders_platform.contracts import Contract
from orders_platform.ingest.topics import topic_name
from orders_platform.settings import Settings
from orders_platform.stack.errors import StackError

READ_SECONDS = 60.0
POLL_SECONDS = 0.1


class SlotLostError(StackError):
    """PostgreSQL's replication slot is gone and Connect's offsets are there: changes may be missing."""


class PostgresRestoredError(StackError):
    """PostgreSQL is at an earlier position than the connector has read: it was restored, or failed over."""


class Recovery(Enum):
    """How the connector is started."""

    RESUME = "resume"
    STREAM_WHAT_IS_UNCONFIRMED = "no_data"
    FIRST_START_AGAIN = "first start again"
    FIRST_START = "initial"
    NEW_SLOT_ACCEPTED = "new slot"

    @property
    def reads_all_tables(self) -> bool:
        """Whether it begins with a new slot and a complete snapshot."""
        return self not in (Recovery.RESUME, Recovery.STREAM_WHAT_IS_UNCONFIRMED)

    @property
    def snapshot_mode(self) -> str:
        """Debezium's `snapshot.mode` for it."""
        return "no_data" if self is Recovery.STREAM_WHAT_IS_UNCONFIRMED else "initial"


def decide(
    *,
    offsets: bool,
    slot: bool,
    owed: bool | None,
    reading: bool = False,
    restored: bool = False,
    accept_new_slot: bool = False,
) -> Recovery:
    """What to do.

    Args:
        offsets: whether there are some with a position.
        owed: the complete snapshot was asked for and not delivered; None where nobody knows.
        reading: the offsets are those of a snapshot that is under way.
        restored: they lie beyond the end of PostgreSQL's log.

    Raises:
        SlotLostError: if only the offsets are there and the loss has not been accepted.
        PostgresRestoredError: if they are not of the log that there is now, and that has not been accepted.
    """
    if offsets and slot and not restored:
        return Recovery.FIRST_START_AGAIN if owed and not reading else Recovery.RESUME
    if offsets:
        if accept_new_slot:
            return Recovery.NEW_SLOT_ACCEPTED
        if restored:
            raise PostgresRestoredError(
                "the connector has read further than PostgreSQL has written: the database was restored, or failed "
                "over, to an earlier position. Going on would leave out all changes until its log has grown as far, "
                "so the connector was stopped. Nothing that is in Kafka is lost. `orders-platform up --new-slot` makes "
                "a new slot and reads all tables anew (deletes included); each table then stops until `orders-platform "
                "gaps accept` begins a new epoch: see deploy/runbooks/connect-recovery.md"
            )
        raise SlotLostError(
            "the replication slot of the connector is gone, but Connect knows how far it had read: changes made since "
            "are not in the write-ahead log any more and cannot be streamed. Nothing that is in Kafka is lost. "
            "`orders-platform up --new-slot` makes a new slot and reads all tables anew (deletes in between included); "
            "versions between are lost for good"
        )
    if not slot:
        return Recovery.FIRST_START
    return Recovery.STREAM_WHAT_IS_UNCONFIRMED if owed is False else Recovery.FIRST_START_AGAIN


def has_delivered(settings: Settings, contract: Contract) -> bool:
    """Whether any committed record is, or was, in the topic of a contract.

    Aborted transactions leave offsets but no records, so the log's end alone does not tell.

    Raises:
        StackError: if the broker does not say in time.
    """
    consumer = Consumer(
        {
            **settings.kafka_config,
            "group.id": "orders-platform-recovery",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "log_level": 0,
        }
    )
    try:
        return _holds_records(consumer, topic_name(settings, contract))
    except KafkaException as error:
        raise StackError(f"the topics cannot be read: {error.args[0].str()}; is the broker well?") from error
    finally:
        consumer.close()


def _watermarks(consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    """The log's start and end. A topic that was made a moment ago has no leader yet: that passes."""
    deadline = time.monotonic() + READ_SECONDS
    while True:
        try:
            low, high = consumer.get_watermark_offsets(partition, timeout=READ_SECONDS)
        except KafkaException:
            if time.monotonic() >= deadline:
                raise
            time.sleep(POLL_SECONDS)
        else:
            return low, high


def _holds_records(consumer: Consumer, topic: str) -> bool:
    partitions = consumer.list_topics(topic, timeout=READ_SECONDS).topics[topic].partitions
    for partition in partitions:
        low, high = _watermarks(consumer, TopicPartition(topic, partition))
        if low > 0:
            return True
        if high == 0:
            continue
        consumer.assign([TopicPartition(topic, partition, low)])
        message = consumer.poll(READ_SECONDS)
        if message is None:
            raise StackError(f"{topic} [{partition}] does not answer within {READ_SECONDS:g} s")
        error = message.error()
        if error is None:
            return True
        if error.code() != Code._PARTITION_EOF:
            raise KafkaException(error)
    return False
