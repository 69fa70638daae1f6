"""What each kind of change does to silver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import pytest
from pyiceberg.catalog import Catalog

from orders_platform.contracts import Contract
from orders_platform.fault_points import VARIABLE, FaultPoint
from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.commits import commit, head
from orders_platform.lake.duckdb_engine import live_files
from orders_platform.lake.masking import mask_value
from orders_platform.lake.silver import SilverResult, ensure_silver, merge_silver, merged_bronze
from orders_platform.settings import Settings
from orders_platform_tests.lake.changes import DAY, append, bronze, change, contract, order, product, silver_rows

ORDERS, PRODUCTS, CUSTOMERS, INVENTORY = (contract(t) for t in ("orders", "products", "customers", "inventory"))


@pytest.fixture
def catalog(settings: Settings) -> Catalog:
    return open_catalog(settings)


class Merger:
    """Applies batches of changes, each appended to bronze and merged."""

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        self.settings, self.catalog = settings, catalog

    def __call__(self, of: Contract, *batches: list[dict[str, Any]]) -> SilverResult:
        result = SilverResult(None)
        for batch in batches:
            append(self.settings, self.catalog, of, batch)
            result = merge_silver(self.settings, self.catalog, of)
        return result

    def current(self, of: Contract, *columns: str) -> list[tuple[Any, ...]]:
        rows = silver_rows(self.settings, self.catalog, of)
        return [tuple(row[column] for column in columns) for row in rows if not row["_deleted"]]


@pytest.fixture
def merge(settings: Settings, catalog: Catalog) -> Merger:
    return Merger(settings, catalog)


def test_the_change_with_the_highest_position_wins_in_one_batch_and_over_several(merge: Merger) -> None:
    changes = [order(1, "c", 1), order(1, "u", 3, status="shipped"), order(1, "u", 2, status="paid")]
    merge(ORDERS, changes, [order(1, "u", 2, status="paid")])
    assert merge.current(ORDERS, "order_id", "status") == [(1, "shipped")]


@pytest.mark.parametrize("batches", [1, 2])
def test_case_18_21_positions_count_part_by_part_not_lsn_alone(merge: Merger, batches: int) -> None:
    """A transaction may write before another, and commit after it: the commit's position counts first."""
    late = order(1, "u", 2, status="paid", _commit_pos=200, _lsn=100)
    early = order(1, "u", 1, status="placed", _commit_pos=100, _lsn=150)
    merge(ORDERS, *([[late, early]] if batches == 1 else [[late], [early]]))
    assert merge.current(ORDERS, "status") == [("paid",)]


def test_case_20_a_snapshot_read_does_not_undo_a_newer_change(merge: Merger) -> None:
    merge(ORDERS, [order(1, "u", 9, status="paid"), order(2, "d", 9)], [order(1, "r", 5), order(2, "r", 5)])
    assert merge.current(ORDERS, "order_id", "status") == [(1, "paid")]


def test_case_17_a_delete_finds_its_row_whatever_day_it_came_on(merge: Merger) -> None:
    later = DAY + timedelta(days=3)
    result = merge(ORDERS, [order(1, "c", 1), order(2, "c", 2)], [order(1, "d", 3, _ingest_day=later)])
    assert merge.current(ORDERS, "order_id") == [(2,)]
    assert (result.deleted, result.rows_by_day) == (1, {later: 1})


def test_case_23_24_delete_and_insert_of_one_key_in_one_batch(merge: Merger) -> None:
    merge(ORDERS, [order(1, "c", 1), order(1, "d", 2), order(1, "c", 3, status="paid")], [order(1, "d", 2)])
    assert merge.current(ORDERS, "order_id", "status") == [(1, "paid")]


def test_a_deleted_row_keeps_its_key_alone(merge: Merger, settings: Settings, catalog: Catalog) -> None:
    merge(ORDERS, [order(1, "c", 1)], [order(1, "d", 2, total=5)])
    (row,) = silver_rows(settings, catalog, ORDERS)
    assert (row["order_id"], row["total"], row["_deleted"], row["_op"]) == (1, None, True, "d")


def test_case_19_truncate_removes_what_is_older_whenever_it_is_applied(merge: Merger) -> None:
    truncate = {**order(0, "d", 5), "order_id": None, "_op": "t"}
    merge(ORDERS, [order(1, "c", 1), order(2, "c", 7)], [truncate], [order(3, "c", 4), order(4, "c", 6)])
    assert merge.current(ORDERS, "order_id") == [(2,), (4,)]


def test_a_complete_snapshot_removes_what_it_does_not_have(merge: Merger) -> None:
    """Rows deleted while no replication slot existed never arrive as deletes."""
    snapshot = {"_commit_pos": 50, "_lsn": 50}
    reads = [
        order(2, "r", 10, _snapshot="first", **snapshot),
        order(3, "r", 11, _snapshot="last_in_data_collection", **snapshot),
    ]
    merge(ORDERS, [order(1, "c", 1), order(2, "c", 2)], reads, [order(4, "c", 20)])
    assert merge.current(ORDERS, "order_id") == [(2,), (3,), (4,)]


def test_an_incremental_snapshot_removes_nothing(merge: Merger) -> None:
    merge(ORDERS, [order(1, "c", 1)], [order(2, "r", 9, _snapshot="incremental")])
    assert merge.current(ORDERS, "order_id") == [(1,), (2,)]


def test_case_15_an_unchanged_toast_value_stays_whichever_comes_first(merge: Merger) -> None:
    long = product(1, "c", 1, description="long")
    short = product(1, "u", 2, _unavailable=["description"])
    result = merge(PRODUCTS, [short])
    assert (result.held, merge.current(PRODUCTS, "product_id")) == (1, [])
    merge(PRODUCTS, [long])
    assert merge.current(PRODUCTS, "price", "description") == [(2, "long")]


def test_a_null_that_was_written_is_not_taken_for_a_value_that_did_not_travel(merge: Merger) -> None:
    merge(
        PRODUCTS,
        [product(1, "c", 1, description="long"), product(1, "u", 2, description=None)],
        [product(1, "u", 3, _unavailable=["description"])],
    )
    assert merge.current(PRODUCTS, "price", "description") == [(3, None)]


def test_a_value_from_before_a_delete_does_not_come_back(merge: Merger) -> None:
    changes = [
        product(1, "c", 1, description="old"),
        product(1, "d", 2),
        product(1, "c", 3, description="new"),
        product(1, "u", 4, _unavailable=["description"]),
    ]
    merge(PRODUCTS, changes[:2], changes[3:], changes[2:3])
    assert merge.current(PRODUCTS, "description") == [("new",)]


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain key", "key with schema"])
def test_case_18_a_changed_key_takes_the_value_from_the_old_one(merge: Merger, wrapped: bool) -> None:
    old_key = '{"schema": {}, "payload": {"product_id": 1}}' if wrapped else '{"product_id": 1}'
    moved = product(9, "c", 3, _unavailable=["description"], _old_key=old_key)
    merge(PRODUCTS, [moved], [product(1, "d", 2)], [product(1, "c", 1, description="long")])
    assert merge.current(PRODUCTS, "product_id", "description") == [(9, "long")]


def test_an_old_key_that_cannot_be_read_holds_the_row_back(merge: Merger) -> None:
    moved = product(9, "c", 3, _unavailable=["description"], _old_key="Struct{product_id=1}")
    result = merge(PRODUCTS, [product(1, "c", 1, description="long")], [moved])
    assert (result.held, merge.current(PRODUCTS, "product_id")) == (1, [(1,)])


def test_personal_data_is_masked(merge: Merger, settings: Settings) -> None:
    person = {"email": "ann@example.com", "full_name": "Ann", "phone": None, "address": "Road 1, 1234, Bonn"}
    merge(CUSTOMERS, [change({"customer_id": 1}, "c", 1, **person, region="EU")])
    column = CUSTOMERS.column("email").masking
    expected = mask_value(column, settings.masking_key, "ann@example.com")
    assert merge.current(CUSTOMERS, "email", "phone", "address") == [(expected, None, "Bonn")]


def test_keys_of_two_columns_are_found_by_both(merge: Merger) -> None:
    def stock(warehouse: int, item: int, at: int) -> dict[str, Any]:
        return change({"warehouse_id": warehouse, "product_id": item}, "u", at, quantity=at)

    merge(INVENTORY, [stock(1, 1, 1), stock(1, 2, 2), stock(2, 1, 3)], [stock(1, 2, 9), stock(2, 2, 4)])
    found = merge.current(INVENTORY, "warehouse_id", "product_id", "quantity")
    assert found == [(1, 1, 1), (1, 2, 9), (2, 1, 3), (2, 2, 4)]


def test_an_undecodable_record_is_no_change(merge: Merger) -> None:
    error = {"stage": "decode", "error_class": "X", "message": "m", "contract_version": "1"}
    dead = {**order(0, "d", 2), "order_id": None, "_op": None, "_error": error}
    result = merge(ORDERS, [order(1, "c", 1), dead])
    assert (result.rows_changed, merge.current(ORDERS, "order_id")) == (1, [(1,)])


def test_a_batch_of_records_that_change_nothing_is_not_read_again(merge: Merger, catalog: Catalog) -> None:
    merge(ORDERS, [order(1, "u", 5)])
    result = merge(ORDERS, [order(1, "c", 1)])
    assert (result.rows_changed, result.files_rewritten) == (0, 0)
    silver = ensure_silver(catalog, ORDERS)
    assert merged_bronze(silver, head(silver)) == head(bronze(catalog, ORDERS))


def test_bronze_rolled_back_and_loaded_again_ends_in_the_same_rows(
    merge: Merger, settings: Settings, catalog: Catalog
) -> None:
    merge(ORDERS, [order(1, "c", 1)], [order(2, "c", 2)])
    before = silver_rows(settings, catalog, ORDERS)
    table = bronze(catalog, ORDERS)
    table.manage_snapshots().rollback_to_snapshot(table.metadata.snapshots[0].snapshot_id).commit()
    assert merge_silver(settings, catalog, ORDERS).rows_changed == 0
    merge(ORDERS, [order(2, "c", 2)])
    assert silver_rows(settings, catalog, ORDERS) == before


def test_rows_that_replaced_others_in_bronze_are_merged(merge: Merger, settings: Settings, catalog: Catalog) -> None:
    """A replayed dead letter overwrites its row: no append, so the days concerned are merged whole."""
    dead = {**order(7, "c", 2), "_error": {"stage": "x", "error_class": "x", "message": "x", "contract_version": "1"}}
    merge(ORDERS, [order(1, "c", 1)], [dead])
    old = live_files(bronze(catalog, ORDERS))
    append(settings, catalog, ORDERS, [order(1, "c", 1), order(7, "c", 2)])
    table = bronze(catalog, ORDERS)
    commit(table, expected=head(table), add=[], remove=old, summary={})
    merge_silver(settings, catalog, ORDERS)
    assert merge.current(ORDERS, "order_id") == [(1,), (7,)]


def test_a_merge_touches_only_files_that_hold_its_keys(merge: Merger, monkeypatch: pytest.MonkeyPatch) -> None:
    from orders_platform.lake import silver
    from orders_platform.lake.merge import MergeSpec

    monkeypatch.setattr(silver, "silver_spec", lambda of: MergeSpec(of.key, rows_per_file=100))
    merge(ORDERS, [order(i, "c", i) for i in range(1, 1001)])
    one = merge(ORDERS, [order(350, "u", 2000), order(355, "u", 2001)])
    assert one.files_rewritten == 1
    new = merge(ORDERS, [order(1001, "c", 2002)])
    assert new.files_rewritten == 1
    both = merge(ORDERS, [order(1, "u", 2003), order(999, "d", 2004)])
    assert both.files_rewritten == 2
    silver_table = ensure_silver(merge.catalog, ORDERS)
    assert all(file.record_count <= 150 for file in live_files(silver_table))
    assert len(merge.current(ORDERS, "order_id")) == 1000


def test_days_may_be_merged_in_any_order_and_are_counted_by_day(merge: Merger) -> None:
    first, second = DAY, date(2026, 3, 2)
    result = merge(ORDERS, [order(1, "u", 90_000, _ingest_day=second)], [order(1, "c", 1), order(2, "c", 2)])
    assert result.rows_by_day == {first: 1}
    assert merge.current(ORDERS, "order_id", "_ingest_day") == [(1, second), (2, first)]


def test_without_bronze_there_is_nothing_to_do(settings: Settings, catalog: Catalog) -> None:
    assert merge_silver(settings, catalog, ORDERS) == SilverResult(None)


def test_two_merges_at_once_apply_each_change_once(merge: Merger, settings: Settings, catalog: Catalog) -> None:
    merge(ORDERS, [order(i, "c", i) for i in range(1, 50)])
    append(settings, catalog, ORDERS, [order(i, "u", 100 + i) for i in range(1, 100)])
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: merge_silver(settings, open_catalog(settings), ORDERS), range(2)))
    assert sum(result.rows_changed for result in results) == 99
    assert len(merge.current(ORDERS, "order_id")) == 99


KILLED = """
import sys
from pathlib import Path
from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.silver import merge_silver
from orders_platform.settings import Settings
from orders_platform_tests.lake.changes import contract

settings = Settings(_env_file=None, home=Path(sys.argv[1]))
merge_silver(settings, open_catalog(settings), contract("products"))
"""

POINTS = [p for p in FaultPoint if p.startswith(("versions-", "silver-")) and "audited" not in p]


def test_a_merge_killed_at_any_point_is_completed_by_the_next(
    merge: Merger, settings: Settings, catalog: Catalog
) -> None:
    for number, point in enumerate(POINTS, 1):
        append(settings, catalog, PRODUCTS, [product(number, "c", number, description=str(point))])
        child = subprocess.run(
            [sys.executable, "-c", KILLED, str(settings.home)],
            env={**os.environ, VARIABLE: point},
            check=False,
            timeout=120,
        )
        assert child.returncode == -signal.SIGKILL, point
        merge_silver(settings, catalog, PRODUCTS)
        assert len(merge.current(PRODUCTS, "product_id")) == number, point
