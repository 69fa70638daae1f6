"""Silver against PostgreSQL: equality is proved, and whatever is not equal is named."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest
from pyiceberg.catalog import Catalog

from orders_platform.lake.catalog import ensure_table, open_catalog
from orders_platform.lake.schemas import silver_schema
from orders_platform.quality.comparison import Patience
from orders_platform.quality.errors import NotLoadedError, ShopUnreadableError
from orders_platform.quality.reconcile import reconcile_silver
from orders_platform.quality.report import Finding, RowDifference, TableComparison, Value
from orders_platform.settings import Settings
from orders_platform.stack.shop import apply_schema
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.quality.copied_silver import contract_of, damaged

NO_PATIENCE = Patience(limit_seconds=0)


def compared(settings: Settings, catalog: Catalog, table: str, patience: Patience = NO_PATIENCE) -> TableComparison:
    comparisons = {c.table: c for c in reconcile_silver(settings, catalog, patience=patience)}
    assert [name for name, c in comparisons.items() if not c.equal and name != f"silver.{table}"] == []
    return comparisons[f"silver.{table}"]


def execute(settings: Settings, statement: str) -> None:
    with psycopg.connect(settings.postgres) as connection:
        connection.execute(statement)


def test_equal_tables_are_found_equal_row_for_row(shop_settings: Settings, catalog: Catalog) -> None:
    comparisons = reconcile_silver(shop_settings, catalog, patience=NO_PATIENCE)
    with psycopg.connect(shop_settings.postgres) as connection:
        for comparison in comparisons:
            count = connection.execute(f"SELECT count(*) FROM {comparison.table.partition('.')[2]}").fetchone()
            assert comparison.equal
            assert (comparison.rows, comparison.source_rows) == (*count, *count)  # type: ignore[misc]
    assert {c.table for c in comparisons} == {
        f"silver.{table}" for table in ("customers", "inventory", "line_items", "orders", "products")
    }


def test_one_altered_cell_is_named_with_both_values(shop_settings: Settings, catalog: Catalog) -> None:
    columns = "* REPLACE (CASE WHEN line_item_id = 77 THEN quantity + 1 ELSE quantity END AS quantity)"
    with damaged(shop_settings, catalog, "silver.line_items", f"SELECT {columns} FROM t"):
        found = compared(shop_settings, catalog, "line_items")
    (difference,) = found.differences
    (value,) = difference.values
    assert difference.key == (("line_item_id", "77"),)
    assert (value.column, int(value.found or 0) - int(value.expected or 0)) == ("quantity", 1)
    assert "line_item_id=77: different (quantity is" in str(found)


def test_a_dropped_row_of_a_table_with_two_key_columns_is_named(shop_settings: Settings, catalog: Catalog) -> None:
    with psycopg.connect(shop_settings.postgres) as connection:
        row = connection.execute("SELECT warehouse_id, product_id FROM inventory ORDER BY 2, 1 LIMIT 1").fetchone()
    assert row is not None
    select = f"SELECT * FROM t WHERE NOT (warehouse_id = {row[0]} AND product_id = {row[1]})"
    with damaged(shop_settings, catalog, "silver.inventory", select):
        found = compared(shop_settings, catalog, "inventory")
    key = (("warehouse_id", str(row[0])), ("product_id", str(row[1])))
    assert found.differences == (RowDifference(key, Finding.MISSING),)
    assert found.source_rows == found.rows + 1


def test_a_doubled_row_is_named(shop_settings: Settings, catalog: Catalog) -> None:
    with damaged(shop_settings, catalog, "silver.orders", "FROM t UNION ALL FROM t WHERE order_id = 5"):
        found = compared(shop_settings, catalog, "orders")
    assert found.differences == (RowDifference((("order_id", "5"),), Finding.REPEATED),)


def test_a_row_that_the_shop_deleted_is_named(shop_settings: Settings, catalog: Catalog) -> None:
    execute(shop_settings, "DELETE FROM line_items WHERE line_item_id = 9")
    found = compared(shop_settings, catalog, "line_items")
    assert found.differences == (RowDifference((("line_item_id", "9"),), Finding.UNEXPECTED),)


def test_a_row_deleted_in_silver_counts_as_gone(shop_settings: Settings, catalog: Catalog) -> None:
    execute(shop_settings, "DELETE FROM line_items WHERE line_item_id = 9")
    select = "SELECT * REPLACE (_deleted OR line_item_id = 9 AS _deleted) FROM t"
    with damaged(shop_settings, catalog, "silver.line_items", select):
        assert compared(shop_settings, catalog, "line_items").equal


def test_masked_columns_are_compared_masked_and_never_shown_in_clear(shop_settings: Settings, catalog: Catalog) -> None:
    execute(
        shop_settings,
        "UPDATE customers SET email = 'new@mail.example', address = 'Elm Road 1, Graz' WHERE customer_id = 4",
    )
    found = compared(shop_settings, catalog, "customers")
    (difference,) = found.differences
    assert [value.column for value in difference.values] == ["email", "address"]
    assert difference.values[1].expected == "Graz"
    assert "new@mail.example" not in str(found)


@pytest.mark.parametrize(
    "name",
    ["", " ", "\\N", '"', "two\nlines", "a,b", "ĳ – 漢字 🦆", "NULL", "‮right to left"],
)
def test_text_that_looks_like_something_else_is_compared_as_text(
    shop_settings: Settings, catalog: Catalog, name: str
) -> None:
    with psycopg.connect(shop_settings.postgres) as connection:
        rows = connection.execute("SELECT product_id FROM products ORDER BY 1 LIMIT 2").fetchall()
        (named,), (empty,) = rows
        connection.execute("UPDATE products SET name = %s, description = %s WHERE product_id = %s", [name, name, named])
        connection.execute("UPDATE products SET description = NULL WHERE product_id = %s", [empty])
    text = "'" + name.replace("'", "''") + "'"
    select = f"""
        SELECT * REPLACE (
            CASE WHEN product_id = {named} THEN {text} ELSE name END AS name,
            CASE product_id WHEN {named} THEN {text} WHEN {empty} THEN NULL ELSE description END AS description)
        FROM t
    """
    with damaged(shop_settings, catalog, "silver.products", select):
        assert compared(shop_settings, catalog, "products").equal
        execute(shop_settings, f"UPDATE products SET description = NULL WHERE product_id = {named}")
        (difference,) = compared(shop_settings, catalog, "products").differences
    assert difference.values == (Value("description", None, name),)


def test_all_differing_rows_are_counted_and_some_named(shop_settings: Settings, catalog: Catalog) -> None:
    execute(shop_settings, "UPDATE orders SET total = total + 0.01 WHERE order_id <= 30")
    comparisons = reconcile_silver(shop_settings, catalog, limit=2, patience=NO_PATIENCE)
    (orders,) = (comparison for comparison in comparisons if comparison.table == "silver.orders")
    assert len(orders.differences) == 2
    assert orders.differing > 20
    assert f"and {orders.differing - 2} more" in str(orders)


def test_empty_tables_on_both_sides_are_equal(shop_dsn: str, settings: Settings) -> None:
    own = new_settings(settings.home, postgres_dsn=shop_dsn)
    apply_schema(shop_dsn)
    catalog = open_catalog(own)
    for table in ("customers", "inventory", "line_items", "orders", "products"):
        ensure_table(catalog, f"silver.{table}", silver_schema(contract_of(table)))
    assert all(c.equal and c.rows == 0 for c in reconcile_silver(own, catalog, patience=NO_PATIENCE))


def test_a_silver_table_that_does_not_exist_is_an_error_that_says_what_to_do(
    shop_settings: Settings, settings: Settings
) -> None:
    nothing_loaded = open_catalog(settings)
    with pytest.raises(NotLoadedError, match=r"silver\.customers does not exist yet; .*orders-platform sync"):
        reconcile_silver(shop_settings, nothing_loaded, patience=NO_PATIENCE)


def test_a_database_that_does_not_answer_is_an_error_that_says_so(settings: Settings, catalog: Catalog) -> None:
    with pytest.raises(ShopUnreadableError, match="The shop's database cannot be read"):
        reconcile_silver(settings, catalog, patience=NO_PATIENCE)


def test_what_the_shop_has_dropped_or_refuses_keeps_nothing_else_from_being_compared(
    shop_settings: Settings, catalog: Catalog
) -> None:
    role = f"reader_{uuid4().hex}"
    execute(
        shop_settings,
        "ALTER TABLE products DROP COLUMN category, DROP COLUMN active; DROP TABLE line_items CASCADE;"
        " UPDATE products SET name = 'other' WHERE product_id = 1; UPDATE orders SET refunded = 7 WHERE order_id = 5;"
        f" CREATE ROLE {role} LOGIN; GRANT SELECT ON customers, orders, products TO {role}",
    )
    reader = new_settings(shop_settings.home, postgres_dsn=shop_settings.postgres.replace("//shop@", f"//{role}@"))
    found = {c.table: c for c in reconcile_silver(reader, catalog, patience=NO_PATIENCE)}
    assert found["silver.customers"].equal
    assert [value.column for value in found["silver.orders"].differences[0].values] == ["refunded"]
    products = found["silver.products"]
    assert [value.column for value in products.differences[0].values] == ["name"]
    assert "PostgreSQL's public.products (which no longer has category, active)" in str(products)
    for table, problem in {
        "line_items": 'relation "public.line_items" does not exist',
        "inventory": "permission denied for table inventory",
    }.items():
        assert (found[f"silver.{table}"].equal, found[f"silver.{table}"].is_certain) == (False, True)
        said = f"silver.{table} cannot be compared with PostgreSQL's public.{table}: {problem}"
        assert str(found[f"silver.{table}"]) == said
