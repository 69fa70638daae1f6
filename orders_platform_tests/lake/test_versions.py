"""All versions of a row, each once, and the intervals that are read from them."""

from __future__ import annotations

from typing import Any

import pytest
from pyiceberg.catalog import Catalog

from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.duckdb_engine import connect
from orders_platform.lake.silver import merge_silver
from orders_platform.lake.versions import ensure_versions, versions_sql
from orders_platform.settings import Settings
from orders_platform_tests.lake.changes import START, append, contract, product, read

PRODUCTS = contract("products")


@pytest.fixture
def catalog(settings: Settings) -> Catalog:
    return open_catalog(settings)


def intervals(settings: Settings, catalog: Catalog, *batches: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """(key, description, price, seconds from, seconds to, removed) after these batches."""
    for batch in batches:
        append(settings, catalog, PRODUCTS, batch)
        merge_silver(settings, catalog, PRODUCTS)
    sql = versions_sql(ensure_versions(catalog, PRODUCTS), PRODUCTS)
    with connect(settings) as connection:
        return connection.execute(
            f"SELECT product_id, description, price::INT, epoch(valid_from)::BIGINT - {int(START.timestamp())}, "
            f"epoch(valid_to)::BIGINT - {int(START.timestamp())}, removed FROM ({sql}) ORDER BY 1, 4"
        ).fetchall()


def test_each_change_is_there_once_however_often_it_was_delivered(settings: Settings, catalog: Catalog) -> None:
    first = product(1, "c", 1)
    again = {**first, "_kafka_offset": 900, "_commit_pos": 5}
    intervals(settings, catalog, [again], [first, first])
    (row,) = read(settings, ensure_versions(catalog, PRODUCTS))
    assert (row["_commit_pos"], row["_kafka_offset"]) == (5, 900)


def test_a_version_holds_until_the_next_and_none_after_a_delete(settings: Settings, catalog: Catalog) -> None:
    changes = [
        product(1, "c", 1, description="a"),
        product(1, "u", 2, _unavailable=["description"]),
        product(1, "d", 4),
        product(1, "c", 6, description="b"),
    ]
    assert intervals(settings, catalog, changes[2:], changes[:2]) == [
        (1, "a", 1, 1, 2, False),
        (1, "a", 2, 2, 4, False),
        (1, "b", 6, 6, None, False),
    ]


def test_equal_neighbours_are_one_version(settings: Settings, catalog: Catalog) -> None:
    same = {"description": "a", "price": 1, "updated_at": START}
    found = intervals(settings, catalog, [product(1, "r", 1, **same), product(1, "u", 2, **same), product(1, "d", 3)])
    assert found == [(1, "a", 1, 1, 3, False)]


def test_a_changed_key_continues_the_value_of_the_old_one(settings: Settings, catalog: Catalog) -> None:
    moved = product(9, "c", 3, _unavailable=["description"], _old_key='{"product_id": 1}')
    found = intervals(settings, catalog, [moved, product(1, "d", 2)], [product(1, "c", 1, description="a")])
    assert found == [(1, "a", 1, 1, 2, False), (9, "a", 3, 3, None, False)]


def test_a_truncate_ends_what_was_before_it(settings: Settings, catalog: Catalog) -> None:
    truncate = {**product(0, "d", 5), "product_id": None, "_op": "t"}
    found = intervals(settings, catalog, [product(1, "c", 1, description="a")], [truncate], [product(2, "c", 6)])
    assert [(row[0], row[5]) for row in found] == [(1, True), (2, False)]


def test_a_table_without_history_has_no_versions(catalog: Catalog) -> None:
    with pytest.raises(ValueError, match="history"):
        ensure_versions(catalog, contract("orders"))
