"""Silver's check finds what is wrong, and the mark moves only to what was checked."""

from __future__ import annotations

import pytest
from pyiceberg.catalog import Catalog

from orders_platform.lake.audit import audited_snapshot, check_silver, mark_audited
from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.commits import commit, head, own_properties
from orders_platform.lake.duckdb_engine import connect, live_files, scan_sql, write_files
from orders_platform.lake.silver import ensure_silver, merge_silver
from orders_platform.settings import Settings
from orders_platform_tests.lake.changes import append, contract, order, read

ORDERS = contract("orders")


@pytest.fixture
def catalog(settings: Settings) -> Catalog:
    catalog = open_catalog(settings)
    append(settings, catalog, ORDERS, [order(i, "c", i) for i in range(1, 11)])
    merge_silver(settings, catalog, ORDERS)
    return catalog


def spoil(settings: Settings, catalog: Catalog, select: str) -> None:
    """Replaces silver's rows by what a SELECT makes of them."""
    silver = ensure_silver(catalog, ORDERS)
    with connect(settings) as connection:
        files = write_files(connection, silver, select.format(rows=scan_sql(silver)))
    commit(silver, expected=head(silver), add=files, remove=live_files(silver), summary={})


def test_a_merged_table_passes(settings: Settings, catalog: Catalog) -> None:
    outcome = check_silver(settings, catalog, ORDERS)
    assert (outcome.passed, outcome.metadata["rows_compared"]) == (True, 10)


@pytest.mark.parametrize(
    ("select", "figure"),
    [
        ("SELECT * FROM {rows} WHERE order_id <> 3", "missing_keys"),
        ("SELECT * FROM {rows} UNION ALL SELECT * FROM {rows} WHERE order_id = 3", "duplicate_keys"),
        ("SELECT * REPLACE (total + (order_id = 3)::INT AS total) FROM {rows}", "different_rows"),
        ("SELECT * REPLACE (_lsn - (order_id = 3)::INT AS _lsn) FROM {rows}", "keys_behind"),
    ],
    ids=["a row is lost", "a row is doubled", "a value is altered", "a change was not applied"],
)
def test_what_is_wrong_is_found_and_counted(settings: Settings, catalog: Catalog, select: str, figure: str) -> None:
    spoil(settings, catalog, select)
    outcome = check_silver(settings, catalog, ORDERS)
    assert not outcome.passed
    assert outcome.metadata[figure] == 1


def test_after_an_audit_only_what_is_new_is_compared(settings: Settings, catalog: Catalog) -> None:
    mark_audited(catalog, ORDERS, int(check_silver(settings, catalog, ORDERS).metadata["snapshot_id"]))
    append(settings, catalog, ORDERS, [order(3, "u", 50)])
    merge_silver(settings, catalog, ORDERS)
    assert check_silver(settings, catalog, ORDERS).metadata["rows_compared"] == 1


def test_the_mark_never_moves_back(settings: Settings, catalog: Catalog) -> None:
    first = head(ensure_silver(catalog, ORDERS))
    append(settings, catalog, ORDERS, [order(3, "u", 50)])
    second = merge_silver(settings, catalog, ORDERS).snapshot_id
    assert first is not None
    assert second is not None
    mark_audited(catalog, ORDERS, second)
    mark_audited(catalog, ORDERS, first)
    assert audited_snapshot(ensure_silver(catalog, ORDERS)) == second
    with pytest.raises(ValueError, match="no snapshot 1"):
        mark_audited(catalog, ORDERS, 1)


def test_rows_carry_the_number_of_the_commit_that_changed_them(settings: Settings, catalog: Catalog) -> None:
    since = ensure_silver(catalog, ORDERS).metadata.last_sequence_number
    append(settings, catalog, ORDERS, [order(3, "u", 50), order(11, "c", 51), order(4, "u", 1)])
    merge_silver(settings, catalog, ORDERS)
    silver = ensure_silver(catalog, ORDERS)
    changed = read(settings, silver, "order_id, _seq", f"_seq > {since}")
    assert changed == [{"order_id": key, "_seq": silver.metadata.last_sequence_number} for key in (3, 11)]


def test_a_table_without_rows_passes(settings: Settings) -> None:
    catalog = open_catalog(settings)
    assert check_silver(settings, catalog, contract("inventory")).passed


def test_the_audit_leaves_silvers_own_properties(catalog: Catalog) -> None:
    silver = ensure_silver(catalog, ORDERS)
    before = own_properties(silver, head(silver))
    mark_audited(catalog, ORDERS)
    after = ensure_silver(catalog, ORDERS)
    assert own_properties(after, head(after)) == before
