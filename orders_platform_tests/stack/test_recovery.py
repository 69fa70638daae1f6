"""Where the connector goes on, as a table of what is left."""

from __future__ import annotations

import json
import uuid

import pytest
from confluent_kafka import Producer

from orders_platform.contracts import load_contracts
from orders_platform.ingest.topics import create_topics, notification_topic, topic_name
from orders_platform.settings import Settings
from orders_platform.stack.complete_snapshot import is_owed, note_asked
from orders_platform.stack.errors import StackError
from orders_platform.stack.recovery import PostgresRestoredError, Recovery, SlotLostError, decide, has_delivered
from orders_platform_tests.ingest.broker_admin import settled

CASES = [
    # offsets, slot, owed, reading, accepted
    (True, True, False, False, False, Recovery.RESUME),
    (True, True, None, False, True, Recovery.RESUME),
    (True, True, True, True, False, Recovery.RESUME),
    (True, True, True, False, False, Recovery.FIRST_START_AGAIN),
    (False, True, False, False, False, Recovery.STREAM_WHAT_IS_UNCONFIRMED),
    (False, True, True, False, False, Recovery.FIRST_START_AGAIN),
    (False, True, None, False, False, Recovery.FIRST_START_AGAIN),
    (False, False, None, False, False, Recovery.FIRST_START),
    (True, False, None, False, True, Recovery.NEW_SLOT_ACCEPTED),
]


@pytest.mark.parametrize(("offsets", "slot", "owed", "reading", "accepted", "expected"), CASES)
def test_what_is_left_decides(
    offsets: bool, slot: bool, owed: bool | None, reading: bool, accepted: bool, expected: Recovery
) -> None:
    found = decide(offsets=offsets, slot=slot, owed=owed, reading=reading, accept_new_slot=accepted)
    assert found is expected


def test_offsets_without_a_slot_stop_and_say_what_is_lost_and_how_to_go_on() -> None:
    with pytest.raises(SlotLostError, match=r"Nothing that is in Kafka is lost.*up --new-slot"):
        decide(offsets=True, slot=False, owed=None)


def test_offsets_beyond_postgresqls_log_stop_and_say_what_would_be_left_out() -> None:
    with pytest.raises(PostgresRestoredError, match=r"restored.*leave out.*up --new-slot.*gaps accept"):
        decide(offsets=True, slot=True, owed=False, restored=True)
    accepted = decide(offsets=True, slot=True, owed=False, restored=True, accept_new_slot=True)
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
    others, contract = load_contracts()[0], load_contracts()[2]
    assert not has_delivered(shop, contract)
    _produce(shop, commit=False)
    assert not has_delivered(shop, contract)
    _produce(shop, commit=True)
    assert has_delivered(shop, contract)
    assert not has_delivered(shop, others)


def test_a_snapshot_is_delivered_when_the_connector_has_said_so_since_it_was_asked_for(shop: Settings) -> None:
    assert is_owed(shop) is None
    producer = Producer({**shop.kafka_config, "transactional.id": uuid.uuid4().hex, "log_level": 0})
    producer.init_transactions(30)

    def say(kind: str, *, commit: bool = True, of: str = "Initial Snapshot") -> None:
        producer.begin_transaction()
        said = {"id": "1", "aggregate_type": of, "type": kind, "additional_data": {}}
        producer.produce(notification_topic(shop), json.dumps(said).encode())
        producer.flush(30)
        (producer.commit_transaction if commit else producer.abort_transaction)(30)

    say("STARTED")
    say("COMPLETED", commit=False)
    say("COMPLETED", of="Incremental Snapshot")
    assert is_owed(shop) is None
    say("COMPLETED")
    producer.begin_transaction()
    producer.produce(notification_topic(shop), b"not JSON")
    producer.produce(notification_topic(shop), b"[]")
    producer.commit_transaction(30)
    say("SKIPPED")
    assert is_owed(shop) is False
    note_asked(shop)
    say("SKIPPED")
    assert is_owed(shop) is True
    say("COMPLETED")
    assert is_owed(shop) is False


def test_what_was_noted_behind_an_open_transaction_is_not_overlooked(
    shop: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connector that was killed leaves one open: what is behind it cannot be read until the broker ends it."""
    producer = Producer({**shop.kafka_config, "transactional.id": uuid.uuid4().hex, "log_level": 0})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(notification_topic(shop), b"{}")
    producer.flush(30)
    note_asked(shop)
    monkeypatch.setattr("orders_platform.stack.complete_snapshot.OPEN_SECONDS", 0.3)
    with pytest.raises(StackError, match=r"a transaction is open in .*notifications"):
        is_owed(shop)
    producer.abort_transaction(30)
    monkeypatch.undo()
    assert is_owed(shop) is True


def test_a_broker_that_is_not_there_is_an_error(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orders_platform.stack.recovery.READ_SECONDS", 0.3)
    with pytest.raises(StackError, match="is the broker well"):
        has_delivered(settings, load_contracts()[0])
    monkeypatch.setattr("orders_platform.ingest.kafka_admin.ANSWER_SECONDS", 0.3)
    monkeypatch.setattr("orders_platform.stack.complete_snapshot.READ_SECONDS", 0.3)
    with pytest.raises(StackError, match="is the broker well"):
        is_owed(settings)
    with pytest.raises(StackError, match="is the broker well"):
        note_asked(settings)
