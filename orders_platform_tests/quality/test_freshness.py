"""Freshness: the age of the data themselves."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pyiceberg.catalog import Catalog

from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.silver import merge_silver
from orders_platform.quality.freshness import Freshness, freshness
from orders_platform.settings import Settings
from orders_platform_tests.lake.changes import START, append, contract, order

TABLES = (contract("orders"), contract("products"))


@pytest.fixture
def lake(settings: Settings) -> Catalog:
    """Orders of which the newest change is 100 s after the start; nothing of products."""
    catalog = open_catalog(settings)
    append(settings, catalog, contract("orders"), [order(1, "c", 10), order(1, "u", 100, status="paid")])
    merge_silver(settings, catalog, contract("orders"))
    return catalog


def ages(catalog: Catalog, at: int, *unread: str) -> dict[str, Freshness]:
    return {f.table: f for f in freshness(catalog, START + timedelta(seconds=at), unread, TABLES)}


def test_the_age_is_that_of_the_newest_change(lake: Catalog) -> None:
    orders = ages(lake, 160)["silver.orders"]
    assert (orders.age, orders.is_fresh) == (timedelta(seconds=60), True)
    assert orders.outcome().description == "data are 1.0 minutes old; the contract allows 5.0 minutes"
    assert orders.outcome().metadata == {"age_seconds": 60.0, "watermark": "2026-03-01T00:01:40+00:00"}


def test_loading_an_old_change_makes_nothing_fresher(settings: Settings, lake: Catalog) -> None:
    append(settings, lake, contract("orders"), [order(2, "c", 20)])
    merge_silver(settings, lake, contract("orders"))
    late = ages(lake, 500)["silver.orders"]
    assert (late.age, late.is_fresh) == (timedelta(seconds=400), False)


def test_a_table_that_does_not_change_is_as_fresh_as_the_others(lake: Catalog) -> None:
    assert ages(lake, 160)["silver.products"].is_fresh


def test_a_table_with_unread_records_is_as_old_as_its_own_data(lake: Catalog) -> None:
    products = ages(lake, 160, "products")["silver.products"]
    assert not products.is_fresh
    assert products.outcome().description == "nothing has been loaded yet; the contract allows 5.0 minutes"


def test_a_table_that_bronze_is_ahead_of_is_as_old_as_its_own_data(settings: Settings, lake: Catalog) -> None:
    append(settings, lake, contract("orders"), [order(3, "c", 200)])
    assert ages(lake, 210)["silver.orders"].age == timedelta(seconds=110)


def test_an_empty_lake_is_not_fresh(settings: Settings) -> None:
    assert not any(f.is_fresh for f in ages(open_catalog(settings), 0).values())
