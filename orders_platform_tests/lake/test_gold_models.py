"""The dbt models: what they say of themselves, and that both engines run the same SQL."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
import sqlglot
import yaml
from pyiceberg.catalog import Catalog
from pyiceberg.types import DecimalType, LongType

from orders_platform.lake.dbt_store import ForeignDateError, lay_out, store_model
from orders_platform.lake.gold import plan, prepare
from orders_platform.lake.gold_models import PROJECT, GoldModelError, load_models
from orders_platform.lake.gold_types import ModelTypeError, column_type
from orders_platform.settings import Settings
from orders_platform_tests.lake.models_in_process import model_sql
from orders_platform_tests.lake.shop_in_silver import ShopInSilver, at

MODELS = PROJECT / "models" / "gold"
TESTS = PROJECT / "tests"


def test_each_model_has_its_table_its_cause_and_stands_behind_what_it_is_built_from() -> None:
    facts, daily = load_models()
    assert (facts.identifier, facts.built_from) == ("gold.fact_orders", None)
    assert {change.table for change in facts.changes} == {"orders", "line_items", "customers"}
    assert (daily.identifier, daily.built_from, daily.changes) == ("gold.daily_revenue", "gold_fact_orders", ())


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"built_from": "other"}, "iceberg_table is missing"),
        ({"iceberg_table": "gold.x"}, "either changes or built_from"),
        ({"iceberg_table": "gold.x", "built_from": "a", "changes": {"orders": {"orders": "select 1"}}}, "either"),
    ],
)
def test_a_model_that_does_not_say_enough_is_refused_by_name(tmp_path: Path, meta: object, message: str) -> None:
    folder = tmp_path / "models" / "gold"
    folder.mkdir(parents=True)
    document = {"models": [{"name": "gold_new", "config": {"meta": meta}}]}
    (folder / "gold.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(GoldModelError, match=f"gold_new: .*{message}"):
        load_models(tmp_path)


def test_a_project_that_is_not_there_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(GoldModelError, match=str(tmp_path)):
        load_models(tmp_path)


def test_every_column_of_every_model_is_described(settings: Settings, catalog: Catalog, shop: ShopInSilver) -> None:
    described = {
        model["name"]: {column["name"] for column in model["columns"]}
        for model in yaml.safe_load((MODELS / "_gold.yml").read_text(encoding="utf-8"))["models"]
    }
    with workspace_connection(settings, catalog, shop) as con:
        for model in load_models():
            con.execute(f"CREATE OR REPLACE VIEW gold.{model.name} AS {model_sql(model.name)}")
            columns = {row[0] for row in con.execute(f"DESCRIBE gold.{model.name}").fetchall()}
            assert columns == described[model.name]


@pytest.mark.parametrize("folder", [MODELS, TESTS])
def test_the_models_and_tests_are_sql_of_both_engines(
    folder: Path, settings: Settings, catalog: Catalog, shop: ShopInSilver
) -> None:
    """Read as Spark's SQL and carried over to DuckDB, each gives the rows that DuckDB gives for it as it stands."""
    with workspace_connection(settings, catalog, shop) as con:
        for model in load_models():
            con.execute(f"CREATE OR REPLACE TABLE gold.{model.name} AS {model_sql(model.name)}")
        con.execute("UPDATE gold.gold_daily_revenue SET revenue = revenue + 1 WHERE region = 'EU'")
        for file in sorted(folder.glob("*.sql")):
            as_it_stands = model_sql(file.stem, folder)
            (from_spark,) = sqlglot.transpile(as_it_stands, read="spark", write="duckdb")
            expected = con.execute(f"SELECT * FROM ({as_it_stands}) ORDER BY ALL").fetchall()
            assert expected
            assert con.execute(f"SELECT * FROM ({from_spark}) ORDER BY ALL").fetchall() == expected, file.name


def test_rows_of_other_dates_are_refused_before_anything_is_written(
    settings: Settings, catalog: Catalog, shop: ShopInSilver, tmp_path: Path
) -> None:
    shop.put("orders", [shop.order(1, at(1)), shop.order(2, at(2))])
    planned = plan(settings, catalog)
    workspace = prepare(settings, catalog, planned, planned.stale_dates[:1], tmp_path / "run")
    with duckdb.connect() as con:
        lay_out(con, settings, workspace)
        con.execute("CREATE TABLE rows AS SELECT CAST(created_at AS DATE) AS order_date, order_id FROM silver.orders")
        con.execute("INSERT INTO rows VALUES (DATE '2026-03-02', 2)")
        with pytest.raises(ForeignDateError, match="2026-03-02; join it with order_dates"):
            store_model(con, settings, workspace, "gold_fact_orders", "rows")
    assert not catalog.table_exists("gold.fact_orders")


@pytest.mark.parametrize(("name", "expected"), [("BIGINT", LongType()), ("DECIMAL(14,2)", DecimalType(14, 2))])
def test_column_types_become_icebergs(name: str, expected: object) -> None:
    assert column_type(name) == expected


def test_a_type_that_iceberg_lacks_is_an_error_that_names_it() -> None:
    with pytest.raises(ModelTypeError, match="HUGEINT; cast the column"):
        column_type("HUGEINT")


def workspace_connection(settings: Settings, catalog: Catalog, shop: ShopInSilver) -> duckdb.DuckDBPyConnection:
    """A connection on which the models can run, as dbt's plugin lays it out, over a small shop."""
    shop.put("customers", [shop.customer(1, "EU"), shop.customer(2, "US")])
    shop.put("orders", [shop.order(n, at(1 + n % 2), customer_id=1 + n % 3, status="cancelled") for n in range(6)])
    shop.put("orders", [shop.order(n, at(1 + n % 2), customer_id=1 + n % 3) for n in range(4)])
    shop.put("line_items", [shop.line(n, n // 2, quantity=n) for n in range(12)])
    planned = plan(settings, catalog)
    workspace = prepare(settings, catalog, planned, planned.stale_dates, settings.home / "run")
    con = duckdb.connect()
    lay_out(con, settings, workspace)
    con.execute("CREATE SCHEMA IF NOT EXISTS gold")
    return con
