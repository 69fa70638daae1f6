"""What tests do to topics: make them, remove them, cut their logs."""

from __future__ import annotations

import time
from collections.abc import Iterable

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic, ResourceType

from orders_platform.ingest.kafka_admin import KafkaAdmin
from orders_platform.ingest.topics import ATTEMPT_SECONDS, topic_name
from orders_platform.settings import Settings
from orders_platform_tests.ingest.events import contract
from orders_platform_tests.waiting import eventually

SECONDS = 120
NOT_YET = (KafkaError.TOPIC_ALREADY_EXISTS, KafkaError.INVALID_REPLICATION_FACTOR, KafkaError._TIMED_OUT)
"""One of that name is still being removed; the broker has just stood still, and the controller does not count on it."""


def make_topic(settings: Settings, partitions: int = 3, **config: str) -> str:
    """Creates the topic of `orders`; producers' timestamps are kept, so that tests can write on any day."""
    name = topic_name(settings, contract())
    topic = NewTopic(name, partitions, config={"message.timestamp.type": "CreateTime", "retention.ms": "-1", **config})
    deadline = time.monotonic() + SECONDS
    while True:
        # A client of its own: one that was told of no controller asks for it again after minutes.
        client = AdminClient(settings.kafka_config)
        try:
            client.create_topics([topic], request_timeout=ATTEMPT_SECONDS)[name].result(SECONDS)
        except KafkaException as error:
            if error.args[0].code() not in NOT_YET or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            break
    assert eventually(lambda: len(client.list_topics(name, timeout=SECONDS).topics[name].partitions) == partitions)
    return name


def settled(settings: Settings, name: str) -> None:
    """Waits until the outcome of every transaction is in the log: it is written after the producer has its answer."""
    admin = KafkaAdmin(settings, SECONDS)
    assert eventually(lambda: not any(bounds.open_records for bounds in admin.topic(name).partitions.values()))


def drop_topic(settings: Settings, name: str) -> None:
    """Removes a topic; one of its name that is made afterwards is not taken for it."""
    client = AdminClient(settings.kafka_config)
    client.delete_topics([name])[name].result(SECONDS)
    wait_until_unknown(client, [name])


def wait_until_unknown(client: AdminClient, names: Iterable[str]) -> None:
    """Until the broker knows no topic of these names: it answers a deletion before it has heard of it itself."""
    for name in names:
        assert eventually(lambda name=name: not _is_known(client, name))  # type: ignore[misc]


def _is_known(client: AdminClient, name: str) -> bool:
    try:
        client.describe_topics(TopicCollection([name]))[name].result(SECONDS)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise
        return False
    return True


def add_partitions(settings: Settings, name: str, total: int) -> None:
    client = AdminClient(settings.kafka_config)
    client.create_partitions([NewPartitions(name, total)])[name].result(SECONDS)
    assert eventually(lambda: len(client.list_topics(name, timeout=SECONDS).topics[name].partitions) == total)


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
