"""Topics and what the broker says of them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date

import pytest

from orders_platform.contracts import load_contracts
from orders_platform.ingest.errors import BrokerUnavailableError, TopicMissingError, UnboundedTimestampsError
from orders_platform.ingest.kafka_admin import KafkaAdmin, path_safe
from orders_platform.ingest.topics import (
    create_topics,
    heartbeat_topic,
    notification_topic,
    topic_id,
    topic_name,
    transaction_topic,
)
from orders_platform.ingest.windows import day_window
from orders_platform.settings import Settings
from orders_platform.stack.kafka import kafka
from orders_platform_tests.ingest.broker_admin import add_partitions, drop_topic, make_topic, settings_of
from orders_platform_tests.ingest.events import contract
from orders_platform_tests.waiting import LeapingClock


def test_topics_are_made_once_with_the_brokers_clock(broker: Settings) -> None:
    settings = broker.model_copy(update={"topic_prefix": f"t{uuid.uuid4().hex[:8]}"})
    made = create_topics(settings, load_contracts())
    assert set(made) == {
        *(topic_name(settings, each) for each in load_contracts()),
        heartbeat_topic(settings),
        transaction_topic(settings),
        notification_topic(settings),
    }
    assert create_topics(settings, load_contracts()) == ()
    assert len(KafkaAdmin(settings).topic(topic_name(settings, contract())).partitions) == 3
    assert len(KafkaAdmin(settings).topic(heartbeat_topic(settings)).partitions) == 1
    config = settings_of(settings, topic_name(settings, contract()))
    assert config["message.timestamp.type"] == "LogAppendTime"
    assert config["retention.ms"] == str(7 * 86_400_000)


def test_a_topic_made_again_has_another_id(shop_topic: Settings, topic: str) -> None:
    before = topic_id(shop_topic, contract())
    drop_topic(shop_topic, topic)
    make_topic(shop_topic)
    assert topic_id(shop_topic, contract()) != before


def test_a_missing_topic_is_named(shop_topic: Settings) -> None:
    with pytest.raises(TopicMissingError, match="customers does not exist"):
        day_window(shop_topic, contract("customers"), date(2026, 3, 1))


def test_a_dead_broker_is_an_error_within_the_time_allowed(settings: Settings) -> None:
    with pytest.raises(
        BrokerUnavailableError, match=rf"127\.0\.0\.1:{settings.ports.kafka} did not answer within 1\.5 s"
    ):
        KafkaAdmin(settings, seconds=1.5).topic("orders.public.orders")


def test_the_time_between_two_calls_is_not_the_brokers_silence(
    shop_topic: Settings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = LeapingClock()
    monkeypatch.setattr("orders_platform.ingest.kafka_admin.time", clock)
    admin = KafkaAdmin(shop_topic, seconds=60.0)
    admin.topic(topic)
    clock.leapt_seconds += 61  # a ledger is read from a slow store
    assert admin.first_at(topic, [(0, 0)]) == {(0, 0): None}
    clock.leapt_seconds += 61
    admin.refuse_unbounded_timestamps(topic)
    clock.leapt_seconds += 61
    assert set(admin.topic(topic).partitions) == {0, 1, 2}


@contextmanager
def standing_still(broker: Settings) -> Iterator[None]:
    """For 5 s. The controller takes the partitions from a broker that was silent for 4, for a moment."""
    process = kafka(broker).process()
    assert process is not None
    process.suspend()
    try:
        yield
        time.sleep(5)
    finally:
        process.resume()


def test_a_broker_that_stood_still_answers_as_before(broker: Settings, shop_topic: Settings, topic: str) -> None:
    admin = KafkaAdmin(shop_topic, seconds=60.0)
    before = admin.first_at(topic, [(partition, 0) for partition in range(3)])
    with standing_still(broker):
        pass
    assert admin.first_at(topic, [(partition, 0) for partition in range(3)]) == before
    assert set(admin.topic(topic).partitions) == {0, 1, 2}


def test_a_broker_that_stood_still_makes_topics_as_before(broker: Settings) -> None:
    settings = broker.model_copy(update={"topic_prefix": f"t{uuid.uuid4().hex[:8]}"})
    with ThreadPoolExecutor() as pool, standing_still(broker):
        making = pool.submit(create_topics, settings, [contract()])
    assert topic_name(settings, contract()) in making.result()
    assert set(KafkaAdmin(settings).topic(topic_name(settings, contract())).partitions) == {0, 1, 2}


def test_all_calls_together_have_the_time(shop_topic: Settings, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that answers each question a little too late holds nobody up for long."""

    class Slow(LeapingClock):
        def monotonic(self) -> float:
            self.leapt_seconds += 0.5
            return super().monotonic()

    monkeypatch.setattr("orders_platform.ingest.kafka_admin.time", Slow())
    admin = KafkaAdmin(shop_topic, seconds=60.0)
    admin.topic(topic)
    with pytest.raises(BrokerUnavailableError, match="did not answer within 60 s"):
        [admin.topic(topic) for _ in range(60)]


def test_producers_that_may_write_any_timestamp_are_refused(broker: Settings) -> None:
    settings = broker.model_copy(update={"topic_prefix": f"t{uuid.uuid4().hex[:8]}"})
    name = make_topic(settings, **{"message.timestamp.after.max.ms": str(400 * 86_400_000)})
    with pytest.raises(UnboundedTimestampsError, match=r"message\.timestamp\.after"):
        KafkaAdmin(settings).refuse_unbounded_timestamps(name)


def test_a_topic_with_more_partitions_than_before_is_seen_whole(shop_topic: Settings, topic: str) -> None:
    add_partitions(shop_topic, topic, 5)
    assert len(KafkaAdmin(shop_topic).topic(topic).partitions) == 5


def test_ids_can_name_folders() -> None:
    assert path_safe("a+b/c==") == "a-b_c"
