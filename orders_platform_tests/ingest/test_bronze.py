"""Each record is in bronze exactly once, whatever happens on the way."""

from __future__ import annotations

import signal
from datetime import date, timedelta

import pytest
from pyiceberg.catalog import Catalog

from orders_platform.fault_points import FaultPoint
from orders_platform.ingest.bronze import bronze_table, load_day
from orders_platform.ingest.dead_letters import Selection, count_dead_letters, list_dead_letters, show_dead_letter
from orders_platform.ingest.errors import (
    OffsetsResetError,
    PositionFellError,
)
from orders_platform.ingest.ledger import COMMIT, Ledger
from orders_platform.ingest.ledger_check import check_bronze
from orders_platform.ingest.offsets import OffsetRange
from orders_platform.ingest.staging import stage_day
from orders_platform.lake.commits import own_properties
from orders_platform.settings import Settings
from orders_platform_tests.ingest.broker_admin import delete_before, settled
from orders_platform_tests.ingest.events import (
    Record,
    change,
    contract,
    envelope,
    keep_clear_of_midnight,
    moment,
    order,
    produce,
    put,
    source,
    today,
    transactional,
)
from orders_platform_tests.ingest.loads import assert_sound, ingest, rows, start

DAY = date(2026, 3, 1)
NEXT = DAY + timedelta(days=1)


def orders_of(settings: Settings) -> list[object]:
    return [row[0] for row in rows(settings)]


def test_records_become_rows_once_and_the_ledger_says_which(shop_topic: Settings, topic: str, catalog: Catalog) -> None:
    records = [change(i, i, partition=i % 3, at=moment(DAY)) for i in range(9)]
    produce(
        shop_topic,
        topic,
        [*records, Record(None, {"order_id": 0}, 0, moment(DAY)), Record({"ts_ms": 1}, b"{}", 1, moment(DAY))],
    )
    result = ingest(shop_topic, DAY)
    assert (result.rows, result.tombstones, result.skipped, result.dead) == (9, 1, 1, 0)
    assert result.ranges == (OffsetRange(0, 0, 4), OffsetRange(1, 0, 4), OffsetRange(2, 0, 3))
    assert ingest(shop_topic, DAY).snapshot_id is None
    table = bronze_table(catalog, contract())
    ledger = Ledger.read(table)
    assert ledger.snapshot_id == result.snapshot_id
    assert ledger.rows == 9 == len(rows(shop_topic))
    assert '"records":11' in own_properties(table, ledger.snapshot_id)[COMMIT]
    assert_sound(shop_topic, catalog, DAY)


def test_days_in_any_order_and_in_parts_give_the_same_table(shop_topic: Settings, topic: str, catalog: Catalog) -> None:
    days = [DAY, NEXT, NEXT + timedelta(days=1)]
    produce(shop_topic, topic, [change(i, i, at=moment(days[i // 4])) for i in range(12)])
    for day, until in (
        (days[2], {0: 10}),
        (days[0], None),
        (days[2], None),
        (days[1], {0: 5}),
        (days[1], None),
        (days[0], None),
    ):
        ingest(shop_topic, day, until)
    assert orders_of(shop_topic) == list(range(12))
    assert Ledger.read(bronze_table(catalog, contract())).of(_topic_id(shop_topic), 0).pairs == ((0, 12),)
    for day in days:
        assert_sound(shop_topic, catalog, day)


@pytest.mark.parametrize("fault", [point for point in FaultPoint if point.startswith(("staging", "bronze"))])
def test_a_process_killed_at_any_step_is_made_good_by_the_next(
    shop_topic: Settings, topic: str, catalog: Catalog, fault: FaultPoint
) -> None:
    produce(shop_topic, topic, [change(i, i, partition=i % 3, at=moment(DAY)) for i in range(30)])
    assert start(shop_topic, DAY, fault).wait(120) == -signal.SIGKILL
    produce(shop_topic, topic, [change(i, i, partition=i % 3, at=moment(DAY)) for i in range(30, 60)])
    ingest(shop_topic, DAY)
    assert sorted(orders_of(shop_topic)) == list(range(60))
    assert_sound(shop_topic, catalog, DAY)


def test_a_large_load_is_cut_into_commits(shop_topic: Settings, topic: str, catalog: Catalog) -> None:
    few = shop_topic.model_copy(update={"max_records_per_run": 10})
    for part in range(3):
        produce(few, topic, [change(i, i, at=moment(DAY)) for i in range(part * 10, part * 10 + 10)])
        stage_day(few, contract(), DAY)
    result = load_day(few, catalog, contract(), DAY)
    assert result.rows == 30
    assert len(bronze_table(catalog, contract()).metadata.snapshots) == 3
    assert result.ranges == (OffsetRange(0, 0, 30),)


def test_aborted_transactions_leave_no_row_and_their_offsets_are_done(shop_topic: Settings, topic: str) -> None:
    keep_clear_of_midnight()
    producer = transactional(shop_topic, f"tx-{topic}")
    for number, finish in enumerate((producer.commit_transaction, producer.abort_transaction)):
        producer.begin_transaction()
        put(producer, topic, [change(number, number)])
        assert producer.flush(30) == 0
        finish(30)
    settled(shop_topic, topic)
    result = ingest(shop_topic, today())
    assert orders_of(shop_topic) == [0]
    assert result.ranges == (OffsetRange(0, 0, 4),)


def test_dead_letters_keep_place_reason_and_bytes_and_the_rest_goes_on(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    bad = Record(b"{broken", {"order_id": 1}, 0, moment(DAY), (("h", b"x"),))
    produce(shop_topic, topic, [change(1, 1, at=moment(DAY)), bad, change(2, 2, at=moment(DAY), total="1.234")])
    result = ingest(shop_topic, DAY)
    assert (result.rows, result.dead) == (1, 2)
    assert count_dead_letters(shop_topic, catalog, contract()) == {"NotJson": 1, "ValueOutOfRange": 1}
    letter = show_dead_letter(shop_topic, catalog, contract(), 0, 1)
    assert letter is not None
    assert (letter.value, letter.headers) == (b"{broken", '[["h", "eA=="]]')
    assert letter.to_dict()["value"] == "e2Jyb2tlbg=="
    assert letter.timestamp == moment(DAY)
    found = list_dead_letters(shop_topic, catalog, contract(), Selection(DAY, "ValueOutOfRange"))
    assert [each.offset for each in found] == [2]
    assert list_dead_letters(shop_topic, catalog, contract(), Selection(NEXT)) == []
    assert list_dead_letters(shop_topic, catalog, contract("customers")) == []
    assert_sound(shop_topic, catalog, DAY)


def test_records_that_expired_after_they_were_staged_are_loaded(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(10)])
    stage_day(shop_topic, contract(), DAY)
    delete_before(shop_topic, topic, 0, 10)
    assert load_day(shop_topic, catalog, contract(), DAY).rows == 10


def test_a_log_that_ends_before_the_ledger_stops_the_load(shop_topic: Settings, topic: str, catalog: Catalog) -> None:
    produce(shop_topic, topic, [change(1, 1, at=moment(DAY))])
    ingest(shop_topic, DAY)
    table = bronze_table(catalog, contract())
    ledger = Ledger.read(table).including(_topic_id(shop_topic), [OffsetRange(0, 1, 50)], 0, {})
    from orders_platform.lake.commits import commit

    commit(table, expected=ledger.snapshot_id, add=(), summary=ledger.summary())
    with pytest.raises(OffsetsResetError, match=r"ends \[0\] at offset 1, but bronze holds it up to 49"):
        ingest(shop_topic, DAY)


def test_a_commit_position_that_falls_stops_the_topic(shop_topic: Settings, topic: str) -> None:
    produce(shop_topic, topic, [change(1, 900, at=moment(DAY)), change(2, 901, at=moment(DAY))])
    ingest(shop_topic, DAY)
    produce(shop_topic, topic, [change(3, 500, at=moment(DAY))])
    with pytest.raises(PositionFellError, match=r"\[0\] offset 2: commit position 500 .* below 901"):
        ingest(shop_topic, DAY)
    assert orders_of(shop_topic) == [1, 2]


def test_redelivered_changes_and_reads_of_an_incremental_snapshot_may_be_lower(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in (100, 200, 300)])
    ingest(shop_topic, DAY)
    read = source(50) | {"lsn": None, "snapshot": "incremental"}
    snapshot = Record(envelope("r", order(7), 50, source=read), {"order_id": 7}, 0, moment(DAY))
    again = [change(i, i, at=moment(DAY)) for i in (200, 300, 400, 300, 400, 500)]
    produce(shop_topic, topic, [*again[:2], snapshot, *again[2:]])
    assert ingest(shop_topic, DAY).rows == 7
    assert_sound(shop_topic, catalog, DAY)


def test_changes_delivered_again_to_another_partition_may_be_lower(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    """After the number of partitions was raised, keys have moved: in the next load, and within the same one."""
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in (100, 200)])
    produce(shop_topic, topic, [change(300, 300, partition=1, at=moment(DAY))])
    ingest(shop_topic, DAY)
    produce(shop_topic, topic, [change(400, 400, at=moment(DAY))])
    produce(shop_topic, topic, [change(i, i, partition=1, at=moment(DAY)) for i in (100, 500, 400)])
    assert ingest(shop_topic, DAY).rows == 4
    assert_sound(shop_topic, catalog, DAY)


def test_a_snapshot_read_again_in_another_partition_is_no_redelivery(shop_topic: Settings, topic: str) -> None:
    """All reads of a snapshot have one position: those of a restored PostgreSQL are not known by it."""
    produce(shop_topic, topic, [change(1, 100, op="r", snapshot="true", at=moment(DAY))])
    produce(shop_topic, topic, [change(2, 300, partition=1, at=moment(DAY))])
    ingest(shop_topic, DAY)
    produce(shop_topic, topic, [change(3, 100, op="r", snapshot="true", partition=1, at=moment(DAY))])
    with pytest.raises(PositionFellError):
        ingest(shop_topic, DAY)


def test_the_check_notices_a_row_too_many(shop_topic: Settings, topic: str, catalog: Catalog) -> None:
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(4)])
    ingest(shop_topic, DAY)
    table = bronze_table(catalog, contract())
    table.append(
        table.scan().to_arrow().slice(0, 1), snapshot_properties=own_properties(table, Ledger.read(table).snapshot_id)
    )
    outcome = check_bronze(shop_topic, catalog, contract(), DAY)
    assert not outcome.passed
    assert "1 rows stand twice" in outcome.description
    assert not check_bronze(shop_topic, catalog, contract(), DAY, [OffsetRange(0, 0, 1)]).passed


def _topic_id(settings: Settings) -> str:
    from orders_platform.ingest.topics import topic_id

    return topic_id(settings, contract())
