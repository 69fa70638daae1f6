"""What tests do to topics: make them, remove them, cut their logs."""

from __future__ import annotations

import time
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic, ResourceType

from orders_platform.ingest.kafka_admin import KafkaAdmin
from orders_platform.ingest.topics import topic_name
from orders_platform.settings import Settings
from orders_platform_tests.ingest.events import contract

SECONDS = 30


def make_topic(settings: Settings, partitions: int = 3, **config: str) -> str:
    """Creates the topic of `orders`; producers' timestamps are kept, so that tests can write on any day."""
    name = topic_name(settings, contract())
    client = AdminClient(settings.kafka_config)
    topic = NewTopic(name, partitions, config={"message.timestamp.type": "CreateTime", "retention.ms": "-1", **config})
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            client.create_topics([topic])[name].result(SECONDS)
        except KafkaException as error:
            # One of that name is still being removed.
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            break
    _wait(lambda: len(client.list_topics(name, timeout=SECONDS).topics[name].partitions) == partitions)
    return name


def settled(settings: Settings, name: str) -> None:
    """Waits until the outcome of every transaction is in the log: it is written after the producer has its answer."""
    _wait(lambda: all(not bounds.open_records for bounds in KafkaAdmin(settings).topic(name).partitions.values()))


def _wait(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def drop_topic(settings: Settings, name: str) -> None:
    client = AdminClient(settings.kafka_config)
    client.delete_topics([name])[name].result(SECONDS)


def add_partitions(settings: Settings, name: str, total: int) -> None:
    client = AdminClient(settings.kafka_config)
    client.create_partitions([NewPartitions(name, total)])[name].result(SECONDS)
    _wait(lambda: len(client.list_topics(name, timeout=SECONDS).topics[name].partitions) == total)


def delete_before(settings: Settings, name: str, partition: int, offset: int) -> None:
    """Removes the records below an offset, as retention does."""
    client = AdminClient(settings.kafka_config)
    (future,) = client.delete_records([TopicPartition(name, partition, offset)]).values()
    future.result(SECONDS)


def settings_of(settings: Settings, name: str) -> dict[str, str]:
    """The topic's configuration."""
    client = AdminClient(settings.kafka_config)
    (future,) = client.describe_configs([ConfigResource(ResourceType.TOPIC, name)]).values()
    return {key: entry.value for key, entry in future.result(SECONDS).items()}
