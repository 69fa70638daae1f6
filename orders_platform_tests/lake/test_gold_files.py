"""Files are chosen by their bounds, and never one too few."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from orders_platform.lake.commits import ForeignDeletesError, head
from orders_platform.lake.gold_files import (
    bounds,
    date_sequences,
    files_between,
    files_hit,
    files_of_dates,
    live_entries,
    live_files,
    partition_date,
)
from orders_platform.lake.gold_run import build_gold
from orders_platform.settings import Settings
from orders_platform_tests.lake.models_in_process import run_models
from orders_platform_tests.lake.shop_in_silver import KEYS_PER_FILE, ShopInSilver, at


@pytest.fixture
def orders(shop: ShopInSilver, catalog: Catalog) -> Table:
    """Orders 0 to 23 in three files, a day a file."""
    shop.put("orders", [shop.order(n, at(1 + n // KEYS_PER_FILE)) for n in range(3 * KEYS_PER_FILE)])
    return catalog.load_table("silver.orders")


@pytest.mark.parametrize(
    ("keys", "files_expected"),
    [([], 0), ([-1], 0), ([0], 1), ([7], 1), ([7, 8], 2), ([99], 0), ([-5, 0, 20, 99], 2), ([3, 3, 3], 1)],
)
def test_files_are_hit_by_keys_within_their_bounds(orders: Table, keys: list[int], files_expected: int) -> None:
    assert len(files_hit(orders, live_files(orders, head(orders)), "order_id", keys)) == files_expected


@pytest.mark.parametrize(
    ("start", "end", "files_expected"),
    [
        (at(1, hour=12), at(1, hour=13), 1),
        (at(1, hour=13), at(2, hour=12), 0),  # the end is not within the span
        (at(1, hour=0), at(3, hour=0), 2),
    ],
)
def test_spans_are_half_open(orders: Table, start: datetime, end: datetime, files_expected: int) -> None:
    span = tuple(int(moment.timestamp()) * 1_000_000 for moment in (start, end))
    found = files_between(orders, live_files(orders, head(orders)), "created_at", [(span[0], span[1])])
    assert len(found) == files_expected


def test_a_file_that_does_not_say_its_bounds_is_kept(orders: Table) -> None:
    files = live_files(orders, head(orders))
    assert bounds(orders, files[0], "_tx_id") is None
    assert files_hit(orders, files, "_tx_id", []) == files
    assert files_between(orders, files, "_tx_id", []) == files


def test_no_snapshot_has_no_files_and_a_wrong_one_is_an_error(orders: Table) -> None:
    assert live_files(orders, None) == []
    with pytest.raises(KeyError, match=r"silver\.orders has no snapshot 4711"):
        live_files(orders, 4711)


def test_a_date_has_the_sequence_of_the_commit_that_last_wrote_it(
    settings: Settings, catalog: Catalog, shop: ShopInSilver
) -> None:
    shop.put("orders", [shop.order(n, at(1 + n)) for n in range(3)])
    build_gold(settings, catalog, run_dbt=run_models)
    shop.put("orders", [shop.order(1, at(2), "3.00")])
    build_gold(settings, catalog, run_dbt=run_models)
    table = catalog.load_table("gold.fact_orders")
    sequences = date_sequences(table, head(table))
    assert sequences[date(2026, 3, 1)] == sequences[date(2026, 3, 3)] < sequences[date(2026, 3, 2)]
    second = files_of_dates(live_files(table, head(table)), [date(2026, 3, 2)])
    assert [partition_date(file) for file in second] == [date(2026, 3, 2)]


def test_delete_files_of_another_engine_are_an_error_that_names_the_table(
    orders: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyiceberg.manifest import ManifestContent, ManifestFile

    monkeypatch.setattr(ManifestFile, "content", property(lambda _: ManifestContent.DELETES))
    with pytest.raises(ForeignDeletesError, match=r"silver\.orders has delete files"):
        live_entries(orders, head(orders))


def test_bounds_are_exact_values_of_the_columns_type(orders: Table) -> None:
    first = min(live_files(orders, head(orders)), key=lambda file: bounds(orders, file, "order_id") or (0, 0))
    assert bounds(orders, first, "order_id") == (0, KEYS_PER_FILE - 1)
    noon = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()) * 1_000_000
    assert bounds(orders, first, "created_at") == (noon, noon)
