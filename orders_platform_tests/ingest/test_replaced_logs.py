"""A log that is not the one that was loaded, or seen: noticed, and what comes from it takes its place in the order."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog

from orders_platform.ingest.backlog import unread
from orders_platform.ingest.bronze import bronze_table
from orders_platform.ingest.errors import OffsetsResetError, PositionFellError, TopicRecreatedError
from orders_platform.ingest.gap_acceptance import open_gap
from orders_platform.ingest.ledger import Ledger
from orders_platform.ingest.offsets import OffsetRange
from orders_platform.ingest.positions import Place
from orders_platform.ingest.staging import stage_day
from orders_platform.lake.commits import commit
from orders_platform.lake.silver import merge_silver
from orders_platform.settings import Settings
from orders_platform_tests.ingest.broker_admin import drop_topic, make_topic
from orders_platform_tests.ingest.decisions import DAY, let, stopped
from orders_platform_tests.ingest.events import change, contract, moment, produce
from orders_platform_tests.ingest.loads import assert_sound, ingest, rows
from orders_platform_tests.lake.changes import silver_rows


@pytest.mark.parametrize("staged", [True, False], ids=["staged", "seen"])
def test_a_topic_that_is_made_anew_before_its_first_load_is_noticed(
    shop_topic: Settings, topic: str, catalog: Catalog, staged: bool
) -> None:
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(3)])
    if staged:
        stage_day(shop_topic, contract(), DAY)
    else:
        unread(shop_topic, catalog, contract())
    drop_topic(shop_topic, topic)
    make_topic(shop_topic)
    produce(shop_topic, topic, [change(9, 9, at=moment(DAY))])
    name = stopped(shop_topic, catalog, TopicRecreatedError)
    let(shop_topic, catalog, name)
    ingest(shop_topic, DAY)
    assert sorted(rows(shop_topic)) == [*((i,) for i in range(3) if staged), (9,)]
    assert_sound(shop_topic, catalog, DAY)
    # What goes on as the accepted topic was never loaded when it is replaced in its turn.
    drop_topic(shop_topic, topic)
    make_topic(shop_topic)
    let(shop_topic, catalog, stopped(shop_topic, catalog, TopicRecreatedError))
    drop_topic(shop_topic, topic)
    make_topic(shop_topic)
    shutil.rmtree(Path(shop_topic.staging))
    stopped(shop_topic, catalog, TopicRecreatedError)


def test_a_new_topic_of_a_restored_database_begins_an_epoch_once_both_are_accepted(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    """Its changes lie below what the former topic brought, and would lose to it."""
    placed = [change(i, 900 + i, partition=i, at=moment(DAY)) for i in range(3)]
    produce(shop_topic, topic, placed)
    ingest(shop_topic, DAY)
    drop_topic(shop_topic, topic)
    make_topic(shop_topic)
    produce(shop_topic, topic, [change(2, 950, "u", partition=2, at=moment(DAY, 12, 1), status="lost")])
    let(shop_topic, catalog, stopped(shop_topic, catalog, TopicRecreatedError))
    ingest(shop_topic, DAY)
    drop_topic(shop_topic, topic)
    make_topic(shop_topic)
    again = [change(i, 500 + i, "u", partition=i, at=moment(DAY, 13), status="paid") for i in range(3)]
    produce(shop_topic, topic, [*again, change(0, 901, "u", at=moment(DAY, 13, 1), status="shipped")])
    let(shop_topic, catalog, stopped(shop_topic, catalog, TopicRecreatedError))
    name = stopped(shop_topic, catalog, PositionFellError)
    assert name.endswith(":0:0-,1:0-,2:0-")
    let(shop_topic, catalog, name)
    ingest(shop_topic, DAY)
    merge_silver(shop_topic, catalog, contract())
    state = {row["order_id"]: (row["_epoch"], row["status"]) for row in silver_rows(shop_topic, catalog, contract())}
    assert state == {0: (1, "shipped"), 1: (1, "paid"), 2: (1, "paid")}
    assert_sound(shop_topic, catalog, DAY)


def test_a_log_that_was_cut_back_together_with_its_database_begins_an_epoch(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    """Kafka and PostgreSQL were restored from one backup: what comes lies below what is loaded, and would lose."""
    produce(shop_topic, topic, [change(i, 100 + i, at=moment(DAY)) for i in range(2)])
    ingest(shop_topic, DAY)
    table = bronze_table(catalog, contract())
    ledger = Ledger.read(table)
    (topic_id,) = ledger.intervals
    # As if two more had been loaded, the last one from position 900.
    lost = ledger.including(topic_id, [OffsetRange(0, 2, 4)], 0, {0: Place(4, 0, 900)})
    commit(table, expected=ledger.snapshot_id, add=(), summary=lost.summary())
    let(shop_topic, catalog, stopped(shop_topic, catalog, OffsetsResetError))
    produce(shop_topic, topic, [change(1, 500, "u", at=moment(DAY, 13), status="paid")])
    assert stopped(shop_topic, catalog, PositionFellError).endswith(":0:2-,1:0-,2:0-")


def test_another_cluster_with_the_same_topic_id_is_noticed(shop_topic: Settings, topic: str, catalog: Catalog) -> None:
    produce(shop_topic, topic, [change(1, 1, at=moment(DAY))])
    ingest(shop_topic, DAY)
    table = bronze_table(catalog, contract())
    ledger = Ledger.read(table)
    (topic_id,) = ledger.intervals
    elsewhere = ledger.including(topic_id, [], 0, {}, "another-cluster")
    commit(table, expected=ledger.snapshot_id, add=(), summary=elsewhere.summary())
    found = open_gap(shop_topic, catalog, contract())
    assert found is not None
    assert found.gap is not None
    assert "was loaded from cluster another-cluster" in str(found)
    let(shop_topic, catalog, found.gap.name)
    ingest(shop_topic, DAY)
    assert sorted(rows(shop_topic, "_topic_id, order_id")) == [(topic_id, 1), (f"{topic_id}~1", 1)]
