"""The ledger is believed only where it can be true, and can be made again from the rows."""

from __future__ import annotations

from datetime import date

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from orders_platform.ingest.bronze import bronze_table
from orders_platform.ingest.errors import LedgerError, LedgerMissingError
from orders_platform.ingest.ledger import LEDGER, Ledger
from orders_platform.ingest.ledger_check import check_bronze
from orders_platform.ingest.ledger_rebuild import rebuild
from orders_platform.ingest.offsets import Intervals, OffsetRange
from orders_platform.lake.commits import commit
from orders_platform.lake.duckdb_engine import live_files
from orders_platform.settings import Settings
from orders_platform_tests.ingest.events import Record, change, contract, moment, produce
from orders_platform_tests.ingest.loads import assert_sound, ingest, rows

DAY = date(2026, 3, 1)


@pytest.fixture
def table(shop_topic: Settings, topic: str, catalog: Catalog) -> Table:
    """Bronze after two loads of three records each, the last of them a tombstone."""
    for first in (0, 3):
        records = [change(i, i, at=moment(DAY)) for i in range(first, first + 2)]
        produce(shop_topic, topic, [*records, Record(None, {"order_id": first}, 0, moment(DAY))])
        ingest(shop_topic, DAY)
    return bronze_table(catalog, contract())


def foreign_rewrite(table: Table, keep: int | None = None) -> None:
    """A compaction by an engine that knows nothing of the ledger; with `keep`, one that loses rows."""
    content = table.scan().to_arrow()
    table.overwrite(content if keep is None else content.slice(0, keep))


def test_a_table_without_snapshots_has_an_empty_ledger(catalog: Catalog) -> None:
    assert Ledger.read(bronze_table(catalog, contract())) == Ledger()


def test_what_is_loaded_cannot_be_added_again(table: Table) -> None:
    ledger = Ledger.read(table)
    (topic_id,) = ledger.intervals
    with pytest.raises(LedgerError, match="are in the table already"):
        ledger.including(topic_id, [OffsetRange(0, 5, 9)], 1, {})
    assert ledger.missing(topic_id, {0: Intervals(((4, 9),))}) == {0: Intervals(((6, 9),))}


def test_a_rollback_takes_the_ledger_with_it_and_the_records_are_loaded_again(
    table: Table, shop_topic: Settings, catalog: Catalog
) -> None:
    before = table.metadata.snapshots[0].snapshot_id
    table.manage_snapshots().rollback_to_snapshot(before).commit()
    assert len(rows(shop_topic)) == 2
    assert ingest(shop_topic, DAY).rows == 2
    assert [row[0] for row in rows(shop_topic)] == [0, 1, 3, 4]
    assert_sound(shop_topic, catalog, DAY)


def test_a_ledger_that_the_rows_contradict_is_not_believed(
    table: Table, shop_topic: Settings, catalog: Catalog
) -> None:
    foreign_rewrite(table, keep=3)
    with pytest.raises(LedgerError, match="does not fit it"):
        ingest(shop_topic, DAY)
    outcome = check_bronze(shop_topic, catalog, contract(), DAY)
    assert not outcome.passed
    assert "ledger rebuild" in outcome.description


def test_no_ledger_is_an_error_until_it_is_rebuilt_from_the_rows(
    table: Table, shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    files = live_files(table)
    catalog.drop_table("bronze.orders")
    table = bronze_table(catalog, contract())
    table.add_files([file.file_path for file in files])
    with pytest.raises(LedgerMissingError, match="no ledger is reachable"):
        ingest(shop_topic, DAY)
    rebuilt = rebuild(shop_topic, catalog, contract()).ledger
    (topic_id,) = rebuilt.intervals
    assert rebuilt.of(topic_id, 0).pairs == ((0, 5),)
    assert rebuilt.rows == 4
    produce(shop_topic, topic, [change(9, 9, at=moment(DAY))])
    result = ingest(shop_topic, DAY)
    assert (result.rows, result.tombstones) == (1, 1)
    assert_sound(shop_topic, catalog, DAY)


def test_an_unreadable_ledger_is_an_error(table: Table) -> None:
    head = table.current_snapshot()
    assert head is not None
    commit(table, expected=head.snapshot_id, add=(), summary={LEDGER: "{nonsense"})
    with pytest.raises(LedgerError, match="cannot be read"):
        Ledger.read(table)
