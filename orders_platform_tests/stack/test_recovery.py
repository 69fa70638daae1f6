"""Where the connector goes on, as a table of what is left."""

from __future__ import annotations

import uuid

import pytest
from confluent_kafka import Producer

from orders_platform.contracts import load_contracts
from orders_platform.ingest.topics import create_topics, topic_name
from orders_platform.settings import Settings
from orders_platform.stack.errors import StackError
from orders_platform.stack.recovery import PostgresRestoredError, Recovery, SlotLostError, decide, has_delivered
from orders_platform_tests.ingest.broker_admin import settled

CASES = [
    # offsets, slot, delivered, accepted
    (True, True, True, False, Recovery.RESUME),
    (True, True, False, True, Recovery.RESUME),
    (False, True, True, False, Recovery.STREAM_WHAT_IS_UNCONFIRMED),
    (False, True, False, False, Recovery.FIRST_START_AGAIN),
    (False, False, True, False, Recovery.FIRST_START),
    (False, False, False, False, Recovery.FIRST_START),
    (True, False, True, True, Recovery.NEW_SLOT_ACCEPTED),
]


@pytest.mark.parametrize(("offsets", "slot", "delivered", "accepted", "expected"), CASES)
def test_what_is_left_decides(offsets: bool, slot: bool, delivered: bool, accepted: bool, expected: Recovery) -> None:
    assert decide(offsets=offsets, slot=slot, delivered=delivered, accept_new_slot=accepted) is expected


def test_offsets_without_a_slot_stop_and_say_what_is_lost_and_how_to_go_on() -> None:
    with pytest.raises(SlotLostError, match=r"Nothing that is in Kafka is lost.*up --new-slot"):
        decide(offsets=True, slot=False, delivered=True)


def test_offsets_beyond_postgresqls_log_stop_and_say_what_would_be_left_out() -> None:
    with pytest.raises(PostgresRestoredError, match=r"restored.*leave out.*up --new-slot.*gaps accept"):
        decide(offsets=True, slot=True, delivered=True, restored=True)
    accepted = decide(offsets=True, slot=True, delivered=True, restored=True, accept_new_slot=True)
    assert accepted is Recovery.NEW_SLOT_ACCEPTED


def test_only_a_slot_alone_after_deliveries_goes_without_a_snapshot() -> None:
    assert [recovery for recovery in Recovery if recovery.snapshot_mode == "no_data"] == [
        Recovery.STREAM_WHAT_IS_UNCONFIRMED
    ]


@pytest.fixture
def shop(broker: Settings) -> Settings:
    """Empty topics of a shop of the test's own."""
    settings = broker.model_copy(update={"topic_prefix": f"shop_{uuid.uuid4().hex[:8]}"})
    create_topics(settings, load_contracts())
    return settings


def _produce(settings: Settings, *, commit: bool) -> None:
    producer = Producer({**settings.kafka_config, "transactional.id": uuid.uuid4().hex, "log_level": 0})
    producer.init_transactions(30)
    producer.begin_transaction()
    topic = topic_name(settings, load_contracts()[2])
    producer.produce(topic, b"{}", b"{}", partition=1)
    producer.flush(30)
    if commit:
        producer.commit_transaction(30)
    else:
        producer.abort_transaction(30)
    settled(settings, topic)


def test_aborted_records_are_no_deliveries_and_committed_ones_are(shop: Settings) -> None:
    contracts = load_contracts()
    assert not has_delivered(shop, contracts)
    _produce(shop, commit=False)
    assert not has_delivered(shop, contracts)
    _produce(shop, commit=True)
    assert has_delivered(shop, contracts)


def test_a_broker_that_is_not_there_is_an_error(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orders_platform.stack.recovery.READ_SECONDS", 0.3)
    with pytest.raises(StackError, match="is the broker well"):
        has_delivered(settings, load_contracts())
