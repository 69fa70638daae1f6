"""Expectations made from the contracts: met by good rows, and broken by name."""

from __future__ import annotations

import sys

import dagster as dg
import pytest
from pyiceberg.catalog import Catalog

from orders_platform.defs.jobs import EXPECTATIONS
from orders_platform.defs.location import build_location
from orders_platform.defs.resources.platform import Platform
from orders_platform.quality.expectations import check_expectations, expectations
from orders_platform.settings import Settings
from orders_platform_tests.quality.copied_silver import contract_of, damaged

pytest.importorskip("great_expectations")


def test_a_contract_becomes_expectations() -> None:
    suite = expectations(contract_of("orders"))
    found = [(e.expectation_type, e.configuration.kwargs.get("column")) for e in suite.expectations]
    assert ("expect_column_values_to_not_be_null", "total") in found
    assert ("expect_column_values_to_be_in_set", "status") in found
    assert ("expect_column_values_to_be_unique", "order_id") in found


@pytest.mark.parametrize("table", ["orders", "inventory"])
def test_good_rows_meet_them(copied_shop: Settings, catalog: Catalog, table: str) -> None:
    outcome = check_expectations(copied_shop, catalog, contract_of(table))
    assert outcome.passed, outcome.description
    assert int(outcome.metadata["rows"]) > 0


@pytest.mark.parametrize(
    ("table", "select", "sentence"),
    [
        (
            "orders",
            "SELECT * REPLACE (CASE WHEN order_id = 3 THEN 'lost' ELSE status END AS status) FROM t",
            "expect_column_values_to_be_in_set of status: 1 rows break it",
        ),
        (
            "orders",
            "SELECT * REPLACE (CASE WHEN order_id < 3 THEN NULL ELSE currency END AS currency) FROM t",
            "expect_column_values_to_not_be_null of currency: 2 rows break it",
        ),
        (
            "inventory",
            "(FROM t) UNION ALL (FROM t ORDER BY product_id LIMIT 1)",
            "expect_compound_columns_to_be_unique of warehouse_id, product_id: 2 rows break it",
        ),
    ],
    ids=["value not accepted", "required value missing", "key repeated"],
)
def test_broken_rows_are_counted_by_expectation(
    copied_shop: Settings, catalog: Catalog, table: str, select: str, sentence: str
) -> None:
    with damaged(copied_shop, catalog, f"silver.{table}", select):
        outcome = check_expectations(copied_shop, catalog, contract_of(table))
    assert (outcome.passed, outcome.description) == (False, sentence)


def test_the_daily_run_has_a_result_for_each_table_and_names_what_is_broken(
    copied_shop: Settings, catalog: Catalog
) -> None:
    job = build_location(Platform(copied_shop)).resolve_job_def(EXPECTATIONS)
    select = "SELECT * REPLACE (CASE WHEN order_id = 3 THEN 'lost' ELSE status END AS status) FROM t"
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with damaged(copied_shop, catalog, "silver.orders", select), dg.DagsterInstance.ephemeral() as instance:
        run = job.execute_in_process(quiet, instance)
    found = {each.asset_key.to_user_string(): each for each in run.get_asset_check_evaluations()}
    assert {table: each.passed for table, each in found.items()} == {
        "postgres_customers": True,
        "postgres_inventory": True,
        "postgres_line_items": True,
        "postgres_orders": False,
        "postgres_products": True,
    }
    assert "expect_column_values_to_be_in_set of status: 1 rows break it" in str(found["postgres_orders"].description)


def test_of_many_rows_a_sample_is_validated(
    copied_shop: Settings, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orders_platform.quality.expectations.LARGEST_SAMPLE", 10)
    assert check_expectations(copied_shop, catalog, contract_of("orders")).metadata["rows"] == 10


@pytest.mark.parametrize(
    ("installed", "passed", "said"),
    [(True, True, "does not exist yet"), (False, False, "install orders-platform[quality]")],
)
def test_without_rows_or_without_the_library_every_table_has_its_result(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, installed: bool, passed: bool, said: str
) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "great_expectations", None)
    job = build_location(Platform(settings)).resolve_job_def(EXPECTATIONS)
    with dg.DagsterInstance.ephemeral() as instance:
        run = job.execute_in_process({"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}, instance)
    found = run.get_asset_check_evaluations()
    assert len(found) == 5
    assert all(each.passed == passed and said in str(each.description) for each in found)
