"""Days tile the log: around midnight, behind open and aborted transactions, after retention."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from orders_platform.ingest.offsets import OffsetRange
from orders_platform.ingest.windows import day_window
from orders_platform.settings import Settings
from orders_platform_tests.ingest.broker_admin import delete_before, settled
from orders_platform_tests.ingest.events import (
    change,
    contract,
    keep_clear_of_midnight,
    moment,
    produce,
    put,
    today,
    transactional,
)

DAY = date(2026, 3, 1)
NEXT = DAY + timedelta(days=1)


def ranges(settings: Settings, day: date) -> list[tuple[int, int]]:
    return [(each.first, each.next) for each in day_window(settings, contract(), day).ranges]


def test_windows_of_days_tile_the_log_at_midnight(shop_topic: Settings, topic: str) -> None:
    last = moment(DAY, 23, 59, 59)
    produce(
        shop_topic,
        topic,
        [change(i, i, at=at) for i, at in enumerate([moment(DAY, 0), last, moment(NEXT, 0), moment(NEXT)])],
    )
    before, day, after = (ranges(shop_topic, each) for each in (DAY - timedelta(days=1), DAY, NEXT))
    assert before[0] == (0, 0)
    assert day[0] == (0, 2)
    assert after[0] == (2, 4)


def test_a_day_is_open_until_every_partition_has_a_record_of_the_next(shop_topic: Settings, topic: str) -> None:
    produce(shop_topic, topic, [change(p, p, partition=p, at=moment(DAY)) for p in range(3)])
    assert not day_window(shop_topic, contract(), DAY).closed
    produce(shop_topic, topic, [change(p, p, partition=p, at=moment(NEXT)) for p in range(2)])
    assert not day_window(shop_topic, contract(), DAY).closed
    produce(shop_topic, topic, [change(2, 2, partition=2, at=moment(NEXT))])
    window = day_window(shop_topic, contract(), DAY)
    assert window.closed
    assert window.range(2) == OffsetRange(2, 0, 1)
    assert window.range(9).offsets == 0


def test_an_empty_topic_a_day_without_records_and_a_future_day_are_empty(shop_topic: Settings, topic: str) -> None:
    assert ranges(shop_topic, DAY) == [(0, 0)] * 3
    produce(shop_topic, topic, [change(1, 1, at=moment(DAY)), change(2, 2, at=moment(DAY + timedelta(days=9)))])
    assert ranges(shop_topic, NEXT)[0] == (1, 1)
    future = datetime.now(UTC).date() + timedelta(days=30)
    window = day_window(shop_topic, contract(), future)
    assert not window.closed
    assert all(each.offsets == 0 for each in window.ranges)


def test_a_window_ends_before_an_open_transaction_and_behind_it_once_it_is_over(
    shop_topic: Settings, topic: str
) -> None:
    keep_clear_of_midnight()
    produce(shop_topic, topic, [change(1, 1, at=moment(DAY))])
    producer = transactional(shop_topic, f"open-{topic}")
    producer.begin_transaction()
    put(producer, topic, [change(2, 2, at=moment(DAY)), change(3, 3, at=moment(NEXT, 0, 1))])
    assert producer.flush(30) == 0
    produce(shop_topic, topic, [change(4, 4, at=moment(NEXT))])
    assert ranges(shop_topic, DAY)[0] == (0, 1)
    assert ranges(shop_topic, NEXT)[0] == (1, 1)
    producer.commit_transaction(30)
    settled(shop_topic, topic)
    # The mark that ends the transaction is the first record of today.
    assert [ranges(shop_topic, day)[0] for day in (DAY, NEXT, today())] == [(0, 2), (2, 4), (4, 5)]


def test_a_closed_day_keeps_its_border_after_retention_has_removed_its_records(
    shop_topic: Settings, topic: str
) -> None:
    produce(shop_topic, topic, [change(i, i, at=at) for i, at in enumerate([moment(DAY)] * 3 + [moment(NEXT)] * 3)])
    assert ranges(shop_topic, DAY)[0] == (0, 3)
    delete_before(shop_topic, topic, 0, 4)
    assert ranges(shop_topic, DAY)[0] == (0, 3)
    assert ranges(shop_topic, NEXT)[0] == (3, 6)
