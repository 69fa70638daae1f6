"""The topics of the contracts: what they are called and how they are made."""

from __future__ import annotations

import time
from collections.abc import Iterable

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orders_platform.contracts import Contract
from orders_platform.ingest.errors import BrokerUnavailableError
from orders_platform.ingest.kafka_admin import MOVING, PASSING, PAUSE_SECONDS, KafkaAdmin
from orders_platform.settings import Settings

PARTITIONS = 3
RETENTION_MILLISECONDS = 7 * 86_400_000
CREATE_SECONDS = 30.0
ATTEMPT_SECONDS = 10.0
_UNANSWERED = {KafkaError._TIMED_OUT, KafkaError.REQUEST_TIMED_OUT}
_NO_BROKER_YET = MOVING | _UNANSWERED | {KafkaError.INVALID_REPLICATION_FACTOR}
"""Answers of a cluster whose broker has just started, or stood still for seconds: asked again for `CREATE_SECONDS`."""


def topic_name(settings: Settings, contract: Contract) -> str:
    """The topic that Debezium writes a table's changes to."""
    return contract.topic(settings.topic_prefix)


def heartbeat_topic(settings: Settings) -> str:
    """Debezium's heartbeats (`topic.heartbeat.prefix` left at its default)."""
    return f"__debezium-heartbeat.{settings.topic_prefix}"


def transaction_topic(settings: Settings) -> str:
    """Debezium's transaction metadata (`topic.transaction` left at its default)."""
    return f"{settings.topic_prefix}.transaction"


def notification_topic(settings: Settings) -> str:
    """What the connector tells of its snapshots."""
    return f"{settings.topic_prefix}.notifications"


def topic_id(settings: Settings, contract: Contract) -> str:
    """The broker's id of the topic. Raises `TopicMissingError`, `BrokerUnavailableError`."""
    return KafkaAdmin(settings).topic(topic_name(settings, contract)).topic_id


def create_topics(settings: Settings, contracts: Iterable[Contract]) -> tuple[str, ...]:
    """Makes the topics that are missing, and leaves the others as they are.

    A table's topic has 3 partitions and keeps 7 days; heartbeats, transaction metadata and notifications need an order
    of their own and no more than one partition. Timestamps are the broker's: days then follow one clock.

    Returns:
        The names of the topics made by this call; each of their partitions has a leader.

    Raises:
        BrokerUnavailableError: when the broker cannot be reached.
        TopicMissingError: when it has made one and does not tell of it.
        KafkaException: when it refuses.
    """
    tables = [topic_name(settings, contract) for contract in contracts]
    config = {
        "message.timestamp.type": "LogAppendTime",
        "retention.ms": str(RETENTION_MILLISECONDS),
        "cleanup.policy": "delete",
    }
    wanted = [
        *(NewTopic(name, num_partitions=PARTITIONS, config=config) for name in tables),
        *(
            NewTopic(name, num_partitions=1, config=config)
            for name in (heartbeat_topic(settings), transaction_topic(settings), notification_topic(settings))
        ),
    ]
    made: list[str] = []
    unanswered: set[str] = set()
    left = {topic.topic: topic for topic in wanted}
    deadline = time.monotonic() + CREATE_SECONDS
    while left:
        # A client of its own: one that was told of no controller asks for it again after minutes.
        client = AdminClient({**settings.kafka_config, "log_level": 0})
        for name, future in client.create_topics(list(left.values()), request_timeout=ATTEMPT_SECONDS).items():
            try:
                future.result(timeout=ATTEMPT_SECONDS + 5)
            except KafkaException as error:
                code = error.args[0].code()
                if code in _UNANSWERED:
                    unanswered.add(name)
                if code in _NO_BROKER_YET and time.monotonic() < deadline:
                    time.sleep(PAUSE_SECONDS)
                    continue
                if code in PASSING:
                    raise BrokerUnavailableError(
                        f"topic {name} was not made: Kafka at {settings.kafka_config['bootstrap.servers']} does not "
                        f"answer ({error.args[0].str()}); start it and repeat, nothing is lost"
                    ) from error
                if code != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
                if name in unanswered:
                    made.append(name)
            else:
                made.append(name)
            del left[name]
    for name in made:
        KafkaAdmin(settings).wait_until_led(name)
    return tuple(made)
