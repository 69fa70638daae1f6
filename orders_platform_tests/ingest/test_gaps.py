"""Where a log does not go on, loading stops and says exactly where; what was accepted is kept for ever."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from pyiceberg.catalog import Catalog

from orders_platform.ingest import gap_acceptance
from orders_platform.ingest.backlog import unread
from orders_platform.ingest.bronze import bronze_table
from orders_platform.ingest.errors import (
    LedgerError,
    OffsetsResetError,
    PositionFellError,
    RecordsExpiredError,
    TopicRecreatedError,
)
from orders_platform.ingest.gap_acceptance import NoSuchGapError, accept, open_gap
from orders_platform.ingest.gaps import END, Gap, GapKind
from orders_platform.ingest.ledger import Ledger
from orders_platform.ingest.ledger_check import check_bronze
from orders_platform.ingest.ledger_rebuild import NotNeededError, rebuild
from orders_platform.ingest.ledger_view import view
from orders_platform.ingest.offsets import Intervals, OffsetRange
from orders_platform.ingest.staging import stage_day
from orders_platform.lake.commits import commit
from orders_platform.lake.maintenance import expire
from orders_platform.lake.silver import merge_silver
from orders_platform.settings import Settings
from orders_platform_tests.ingest.broker_admin import add_partitions, delete_before, drop_topic, make_topic
from orders_platform_tests.ingest.decisions import DAY, let, stopped
from orders_platform_tests.ingest.events import change, contract, moment, produce
from orders_platform_tests.ingest.loads import assert_sound, ingest, rows
from orders_platform_tests.lake.changes import silver_rows

NEXT = DAY + timedelta(days=1)


def test_expired_offsets_are_accepted_exactly_and_stay_in_the_ledger(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(10)])
    ingest(shop_topic, DAY, {0: 3})
    delete_before(shop_topic, topic, 0, 6)
    name = stopped(shop_topic, catalog, RecordsExpiredError)
    assert name.endswith(":0:3-6")
    with pytest.raises(ValueError, match="reason"):
        accept(shop_topic, catalog, contract(), name, reason=" ", by="ann")
    with pytest.raises(NoSuchGapError, match=r"what does is expired:.*:0:3-6"):
        accept(shop_topic, catalog, contract(), name.replace("3-6", "3-7"), reason="known", by="ann")
    let(shop_topic, catalog, name)
    let(shop_topic, catalog, name)
    with pytest.raises(NoSuchGapError, match="nothing stops orders now"):
        accept(shop_topic, catalog, contract(), name.replace("3-6", "3-7"), reason="known", by="ann")
    assert unread(shop_topic, catalog, contract()).records == 4
    assert ingest(shop_topic, DAY).ranges == (OffsetRange(0, 6, 10),)
    assert [row[0] for row in rows(shop_topic)] == [0, 1, 2, 6, 7, 8, 9]
    assert_sound(shop_topic, catalog, DAY)
    seen = view(shop_topic, catalog, contract(), count_rows=True)
    (place,) = [each for each in seen.partitions if each.partition == 0]
    assert (place.loaded, place.lost, place.offsets, place.rows) == (((0, 3), (6, 10)), ((3, 6),), 7, 7)
    assert [gap["kind"] for gap in seen.to_dict()["gaps"]] == ["expired"]


@pytest.mark.parametrize("lost", ["*/*/origin.json", "*"])
@pytest.mark.parametrize("known", [True, False], ids=["while the gap is open", "before anybody saw the gap"])
def test_offsets_that_expired_are_a_gap_although_all_that_lay_beside_the_tables_is_lost(
    shop_topic: Settings, topic: str, catalog: Catalog, lost: str, known: bool
) -> None:
    """A life-cycle rule of the bucket, a folder that was wiped, or staging that moved to another place."""
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(10)])
    ingest(shop_topic, DAY, {0: 3})
    delete_before(shop_topic, topic, 0, 6)
    if known:
        stopped(shop_topic, catalog, RecordsExpiredError)
    for each in list(Path(shop_topic.staging).glob(lost)):
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    name = stopped(shop_topic, catalog, RecordsExpiredError)
    assert name.endswith(":0:3-6")
    with pytest.raises(RecordsExpiredError):
        unread(shop_topic, catalog, contract())
    let(shop_topic, catalog, name)
    assert ingest(shop_topic, DAY).ranges == (OffsetRange(0, 6, 10),)
    assert open_gap(shop_topic, catalog, contract()) is None
    assert_sound(shop_topic, catalog, DAY)


def test_a_topic_made_again_is_read_from_its_start_and_staged_records_of_the_former_one_are_not_lost(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(3)])
    ingest(shop_topic, DAY, {0: 2})
    stage_day(shop_topic, contract(), DAY)
    drop_topic(shop_topic, topic)
    make_topic(shop_topic)
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in (10, 11)])
    found = open_gap(shop_topic, catalog, contract())
    assert found is not None
    assert found.gap is not None
    assert (found.gap.kind, found.gap.ranges) == (GapKind.REPLACED, ((0, 3, END),))
    let(shop_topic, catalog, found.gap.name)
    assert [row[0] for row in rows(shop_topic)] == [0, 1, 2]
    ingest(shop_topic, DAY)
    assert sorted(rows(shop_topic)) == [(0,), (1,), (2,), (10,), (11,)]
    assert open_gap(shop_topic, catalog, contract()) is None
    assert_sound(shop_topic, catalog, DAY)


def test_a_new_topic_that_has_lost_records_since_is_a_gap_of_its_own(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    produce(shop_topic, topic, [change(1, 1, at=moment(DAY))])
    ingest(shop_topic, DAY)
    drop_topic(shop_topic, topic)
    make_topic(shop_topic)
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(5)])
    delete_before(shop_topic, topic, 0, 2)
    found = open_gap(shop_topic, catalog, contract())
    assert found is not None
    assert found.gap is not None
    let(shop_topic, catalog, found.gap.name)
    assert stopped(shop_topic, catalog, RecordsExpiredError).endswith(":0:0-2")


def test_a_log_cut_back_goes_on_under_an_id_of_its_own_and_keeps_what_was_not_cut(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    produce(shop_topic, topic, [change(i, i, partition=i % 2, at=moment(DAY)) for i in range(4)])
    ingest(shop_topic, DAY)
    table = bronze_table(catalog, contract())
    ledger = Ledger.read(table)
    (topic_id,) = ledger.intervals
    # As if 48 more records had been loaded which the log has lost since.
    commit(
        table,
        expected=ledger.snapshot_id,
        add=(),
        summary=ledger.including(topic_id, [OffsetRange(0, 2, 50)], 0, {}).summary(),
    )
    name = stopped(shop_topic, catalog, OffsetsResetError)
    produce(shop_topic, topic, [change(9, 9, at=moment(DAY))])
    let(shop_topic, catalog, name)
    produce(shop_topic, topic, [change(10, 10, at=moment(DAY)), change(11, 11, partition=1, at=moment(DAY))])
    ingest(shop_topic, DAY)
    ingest(shop_topic, DAY)
    assert sorted(rows(shop_topic, "order_id, _topic_id, _kafka_offset")) == [
        *((i, topic_id, i // 2) for i in range(4)),
        (9, f"{topic_id}~1", 2), (10, f"{topic_id}~1", 3), (11, f"{topic_id}~1", 2),
    ]  # fmt: skip
    assert_sound(shop_topic, catalog, DAY)


def test_what_somebody_else_decides_meanwhile_is_not_decided_twice(
    shop_topic: Settings, topic: str, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search takes minutes where much is unread: two people who accept the same find it both."""
    produce(shop_topic, topic, [change(1, 100, at=moment(DAY))])
    ingest(shop_topic, DAY)
    produce(shop_topic, topic, [change(2, 50, at=moment(DAY))])
    name = stopped(shop_topic, catalog, PositionFellError)
    found = gap_acceptance._found

    def overtaken(*judged: Any) -> Gap:
        gap = found(*judged)
        monkeypatch.setattr(gap_acceptance, "_found", found)
        let(shop_topic, catalog, name)
        ingest(shop_topic, DAY)
        return gap

    monkeypatch.setattr(gap_acceptance, "_found", overtaken)
    let(shop_topic, catalog, name)
    assert [each.epoch for each in Ledger.read(bronze_table(catalog, contract())).accepted] == [1]
    assert_sound(shop_topic, catalog, DAY)


def test_a_rebuild_leaves_what_was_not_cut_to_the_log_that_goes_on(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    """Staging has it under the former id, Kafka under the new one: loaded from both it would be there twice."""
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(4)])
    ingest(shop_topic, DAY)
    table = bronze_table(catalog, contract())
    ledger = Ledger.read(table)
    (topic_id,) = ledger.intervals
    lost = ledger.including(topic_id, [OffsetRange(0, 4, 50)], 0, {})  # as if they had been loaded
    commit(table, expected=ledger.snapshot_id, add=(), summary=lost.summary())
    let(shop_topic, catalog, stopped(shop_topic, catalog, OffsetsResetError))
    catalog.load_table("bronze.orders").delete("_kafka_offset > 1")  # not by us: no ledger is copied
    rebuild(shop_topic, catalog, contract())
    ingest(shop_topic, DAY)
    with suppress(NotNeededError):
        rebuild(shop_topic, catalog, contract())
    assert sorted(rows(shop_topic)) == [(0,), (1,), (2,), (3,)]


def test_a_history_that_begins_anew_at_a_lower_position_gets_the_next_epoch_and_wins(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    later = moment(DAY, 13)
    produce(shop_topic, topic, [change(i, 900 + i, partition=i % 2, at=moment(DAY)) for i in range(4)])
    ingest(shop_topic, DAY)
    again = [change(i, 500 + i, "u", partition=i % 2, at=later, status="paid") for i in range(2)]
    produce(shop_topic, topic, [change(6, 910, at=moment(DAY)), *again])
    name = stopped(shop_topic, catalog, PositionFellError)
    assert name.endswith(":0:3-,1:2-,2:0-")
    let(shop_topic, catalog, name)
    ingest(shop_topic, DAY)
    merge_silver(shop_topic, catalog, contract())
    state = {row["order_id"]: (row["_epoch"], row["status"]) for row in silver_rows(shop_topic, catalog, contract())}
    assert state == {0: (1, "paid"), 1: (1, "paid"), 2: (0, "placed"), 3: (0, "placed"), 6: (0, "placed")}
    produce(shop_topic, topic, [change(0, 505, "u", at=later), change(0, 400, "u", at=later)])
    assert stopped(shop_topic, catalog, PositionFellError).endswith(":0:5-,1:3-,2:0-")
    # A partition that is added later belongs to the present history.
    let(shop_topic, catalog, stopped(shop_topic, catalog, PositionFellError))
    add_partitions(shop_topic, topic, 4)
    produce(shop_topic, topic, [change(2, 600, "u", partition=3, at=later, status="shipped")])
    ingest(shop_topic, DAY)
    epochs = rows(
        shop_topic, "_kafka_partition, list(_epoch ORDER BY _kafka_offset) OVER (PARTITION BY _kafka_partition)"
    )
    assert sorted({(p, tuple(found)) for p, found in epochs}) == [  # type: ignore[call-overload]
        (0, (0, 0, 0, 1, 1, 2)), (1, (0, 0, 1)), (3, (2,)),
    ]  # fmt: skip


def test_a_new_history_begins_in_each_partition_where_its_first_record_is_also_before_the_first_fall(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    """Rows of its snapshot that were appended before the first fall must not stay in the former epoch: a complete
    snapshot removes whatever is older than itself."""
    old = [change(1, 900, at=moment(DAY, 12)), change(2, 200, partition=1, at=moment(DAY, 12, 1))]
    produce(shop_topic, topic, old)
    ingest(shop_topic, DAY)
    between = change(3, 905, partition=2, at=moment(DAY, 12, 2))
    read = [change(2, 500, "r", partition=1, at=moment(DAY, 13)), change(1, 500, "r", at=moment(DAY, 13, 1))]
    produce(shop_topic, topic, [between, *read, change(4, 510, partition=2, at=moment(DAY, 13, 2))])
    name = stopped(shop_topic, catalog, PositionFellError)
    assert name.endswith(":0:1-,1:1-,2:1-")
    let(shop_topic, catalog, name)
    ingest(shop_topic, DAY)
    epochs = sorted(rows(shop_topic, "_commit_pos, _epoch"))
    assert epochs == [(200, 0), (500, 1), (500, 1), (510, 1), (900, 0), (905, 0)]
    assert_sound(shop_topic, catalog, DAY)
    table = bronze_table(catalog, contract())
    former = replace(Ledger.read(table), accepted=())
    commit(table, expected=former.snapshot_id, add=(), summary=former.summary())
    outcome = check_bronze(shop_topic, catalog, contract(), DAY)
    assert "3 rows are of another epoch than was accepted" in outcome.description


def test_staged_records_that_kafka_has_forgotten_are_asked_for(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(4)])
    produce(shop_topic, topic, [change(9, 9, at=moment(NEXT))])
    stage_day(shop_topic, contract(), DAY)
    delete_before(shop_topic, topic, 0, 4)
    days = unread(shop_topic, catalog, contract()).days
    assert {day: found.records for day, found in days.items()} == {DAY: 4, NEXT: 1}


def a_log_that_ended(shop_topic: Settings, topic: str, catalog: Catalog) -> str:
    """The id of a log of which somebody has taken three of four rows, after it was accepted as ended."""
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(4)])
    ingest(shop_topic, DAY)
    (former,) = Ledger.read(bronze_table(catalog, contract())).intervals
    drop_topic(shop_topic, topic)
    make_topic(shop_topic)
    produce(shop_topic, topic, [change(9, 9, at=moment(DAY))])
    let(shop_topic, catalog, stopped(shop_topic, catalog, TopicRecreatedError))
    ingest(shop_topic, DAY)
    table = bronze_table(catalog, contract())
    table.delete(f"_topic_id == '{former}' and _kafka_offset > 0")  # not by us: no ledger is copied
    return former


def test_a_rebuild_brings_back_from_staging_what_the_table_has_no_more_of_an_ended_log(
    shop_topic: Settings, topic: str, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = a_log_that_ended(shop_topic, topic, catalog)
    with monkeypatch.context() as patched:
        patched.setattr("orders_platform.ingest.ledger_rebuild.load_former", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            rebuild(shop_topic, catalog, contract())
    assert sorted(rows(shop_topic)) == [(0,), (9,)]
    with monkeypatch.context() as patched:
        patched.setattr("orders_platform.ingest.ledger_rebuild.load_former", Mock(side_effect=LedgerError("so it is")))
        (said,) = rebuild(shop_topic, catalog, contract()).unknown
        assert said == f"what is staged of {former} on {DAY} was not loaded: so it is"
    found = rebuild(shop_topic, catalog, contract())
    assert found.ledger.intervals[former] == {0: Intervals(((0, 4),))}
    assert [each for each in found.unknown if former in each] == []
    assert sorted(rows(shop_topic)) == [(0,), (1,), (2,), (3,), (9,)]
    assert_sound(shop_topic, catalog, DAY)
    with pytest.raises(NotNeededError):
        rebuild(shop_topic, catalog, contract())


def test_a_rebuilt_ledger_says_which_rows_of_an_ended_log_are_gone(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    former = a_log_that_ended(shop_topic, topic, catalog)
    for staged in (shop_topic.home / "staging" / topic / former).rglob("*.parquet"):
        staged.unlink()
    lost = rebuild(shop_topic, catalog, contract())
    assert [each for each in lost.unknown if f"{former}[0] 1–3" in each and "gaps repair" in each] != []


def test_a_rebuilt_ledger_knows_closed_logs_epochs_and_accepted_gaps(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    produce(shop_topic, topic, [change(i, 900 + i, at=moment(DAY)) for i in range(4)])
    ingest(shop_topic, DAY, {0: 1})
    delete_before(shop_topic, topic, 0, 2)
    let(shop_topic, catalog, stopped(shop_topic, catalog, RecordsExpiredError))
    ingest(shop_topic, DAY)
    produce(shop_topic, topic, [change(5, 5, at=moment(DAY, 13))])
    let(shop_topic, catalog, stopped(shop_topic, catalog, PositionFellError))
    ingest(shop_topic, DAY)
    table = bronze_table(catalog, contract())
    before = Ledger.read(table)
    # Another engine compacts and copies no ledger; then the tag and the old snapshots go.
    table.overwrite(table.scan().to_arrow())
    table.manage_snapshots().remove_tag("ledger").commit()
    kept = rebuild(shop_topic, catalog, contract(), although_believed=True)
    assert kept.ledger.accepted == before.accepted
    table = catalog.load_table("bronze.orders")
    table.overwrite(table.scan().to_arrow())
    table.manage_snapshots().remove_tag("ledger").commit()
    expire(table, keep=1)
    derived = rebuild(shop_topic, catalog, contract())
    assert any("why and by whom" in each for each in derived.unknown)
    (topic_id,) = derived.ledger.intervals
    assert derived.ledger.epochs(topic_id) == ((1, {0: 4}),)
    produce(shop_topic, topic, [change(6, 6, at=moment(DAY, 14))])
    assert ingest(shop_topic, DAY).rows == 1
    assert rows(shop_topic, "order_id, _epoch") == [(0, 0), (2, 0), (3, 0), (5, 1), (6, 1)]
    assert_sound(shop_topic, catalog, DAY)
