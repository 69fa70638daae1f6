"""What is unread, by day, from admin calls alone."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from pyiceberg.catalog import Catalog

from orders_platform.ingest.backlog import unread
from orders_platform.ingest.errors import BrokerUnavailableError, RecordsExpiredError
from orders_platform.ingest.offsets import OffsetRange
from orders_platform.lake.catalog import open_catalog
from orders_platform.settings import Settings
from orders_platform_tests.ingest.broker_admin import delete_before
from orders_platform_tests.ingest.events import change, contract, moment, produce, put, transactional
from orders_platform_tests.ingest.loads import ingest

DAY = date(2026, 3, 1)
LATER = DAY + timedelta(days=40)


def test_every_day_with_unread_offsets_is_named_with_its_oldest_record(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    at = [moment(DAY, 1, 2, 3), moment(DAY, 5), moment(LATER, 7), moment(LATER, 8)]
    produce(shop_topic, topic, [change(i, i, at=each) for i, each in enumerate(at)])
    produce(shop_topic, topic, [change(9, 9, partition=2, at=moment(LATER, 6))])
    backlog = unread(shop_topic, catalog, contract())
    assert {day: each.ranges for day, each in backlog.days.items()} == {
        DAY: (OffsetRange(0, 0, 2),),
        LATER: (OffsetRange(0, 2, 4), OffsetRange(2, 0, 1)),
    }
    assert backlog.days[DAY].oldest == at[0] == backlog.oldest_timestamp
    assert backlog.days[LATER].oldest == moment(LATER, 6)
    assert backlog.records == 5


def test_what_is_loaded_is_not_unread(shop_topic: Settings, topic: str, catalog: Catalog) -> None:
    produce(shop_topic, topic, [change(i, i, at=moment(DAY, i)) for i in range(6)])
    ingest(shop_topic, DAY, {0: 4})
    backlog = unread(shop_topic, catalog, contract())
    assert backlog.days[DAY].ranges == (OffsetRange(0, 4, 6),)
    assert backlog.oldest_timestamp == moment(DAY, 4)
    ingest(shop_topic, DAY)
    assert unread(shop_topic, catalog, contract()).days == {}


def test_yesterdays_tail_is_asked_for_beside_today(shop_topic: Settings, topic: str, catalog: Catalog) -> None:
    produce(shop_topic, topic, [change(1, 1, at=moment(DAY))])
    ingest(shop_topic, DAY)
    tail, head = moment(DAY, 23, 59, 59), moment(DAY + timedelta(days=1), 0)
    produce(shop_topic, topic, [change(2, 2, at=tail), change(3, 3, at=head)])
    days = unread(shop_topic, catalog, contract()).days
    assert [(day, each.ranges) for day, each in days.items()] == [
        (DAY, (OffsetRange(0, 1, 2),)), (DAY + timedelta(days=1), (OffsetRange(0, 2, 3),)),
    ]  # fmt: skip


def test_records_behind_an_open_transaction_are_told_apart(shop_topic: Settings, topic: str, catalog: Catalog) -> None:
    producer = transactional(shop_topic, f"open-{topic}")
    producer.begin_transaction()
    put(producer, topic, [change(1, 1, at=moment(DAY))])
    assert producer.flush(30) == 0
    backlog = unread(shop_topic, catalog, contract())
    assert backlog.days == {}
    assert backlog.open_records == 1
    producer.abort_transaction(30)


def test_lost_records_are_an_error_here_too(shop_topic: Settings, topic: str, catalog: Catalog) -> None:
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(6)])
    ingest(shop_topic, DAY, {0: 2})
    delete_before(shop_topic, topic, 0, 5)
    with pytest.raises(RecordsExpiredError, match=r"\[0\] 2–4"):
        unread(shop_topic, catalog, contract())


def test_a_dead_broker_is_an_error_after_the_time_for_an_answer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orders_platform.ingest.kafka_admin.ANSWER_SECONDS", 1.5)
    with pytest.raises(BrokerUnavailableError, match=r"did not answer within 1\.5 s"):
        unread(settings, open_catalog(settings), contract())
