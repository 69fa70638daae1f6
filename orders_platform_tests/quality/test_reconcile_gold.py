"""Gold against silver and ClickHouse against gold: equality is proved, and whatever is not equal is named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyiceberg.catalog import Catalog

from orders_platform.lake.gold_run import build_gold
from orders_platform.quality.comparison import Patience
from orders_platform.quality.errors import NotLoadedError
from orders_platform.quality.gold_inputs import INPUTS, GoldInputs
from orders_platform.quality.reconcile import reconcile
from orders_platform.quality.report import Finding, ReconcileReport, TableComparison
from orders_platform.serving.client import open_client
from orders_platform.serving.daily_revenue import load_day, stale_days
from orders_platform.settings import Settings
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.quality.copied_silver import damaged

NO_PATIENCE = Patience(limit_seconds=0)
FACTS, REVENUE, DASHBOARD = "gold.fact_orders", "gold.daily_revenue", "ClickHouse's daily_revenue"


@pytest.fixture(scope="module")
def loaded(copied_shop: Settings, catalog: Catalog, clickhouse: Settings) -> Iterator[Settings]:
    """Everything equal, from PostgreSQL to ClickHouse."""
    settings = new_settings(copied_shop.home, postgres_dsn=copied_shop.postgres, clickhouse_url=clickhouse.clickhouse)
    build_gold(settings, catalog)
    _load_clickhouse(settings, catalog)
    yield settings
    with open_client(settings) as client:
        client.command("DROP TABLE daily_revenue SYNC")


def _load_clickhouse(settings: Settings, catalog: Catalog) -> None:
    for day in stale_days(settings, catalog):
        load_day(settings, catalog, day, "reconcile")


def run(settings: Settings, catalog: Catalog) -> ReconcileReport:
    return reconcile(settings, catalog, patience=NO_PATIENCE)


def only_unequal(report: ReconcileReport, table: str) -> TableComparison:
    (found,) = (comparison for comparison in report.unequal if comparison.table == table)
    return found


def test_every_hop_is_compared_and_found_equal(loaded: Settings, catalog: Catalog) -> None:
    told: list[str] = []
    report = reconcile(loaded, catalog, progress=told.append, patience=NO_PATIENCE)
    assert report.equal, [str(table) for table in report.unequal]
    assert [comparison.table for comparison in report.tables][-3:] == [FACTS, REVENUE, DASHBOARD]
    assert all(comparison.rows == comparison.source_rows > 0 for comparison in report.tables)
    assert "Comparing ClickHouse's daily_revenue with gold.daily_revenue" in told
    assert report.to_dict()["equal"] is True


def test_an_altered_fact_is_named(loaded: Settings, catalog: Catalog) -> None:
    select = "SELECT * REPLACE (CASE WHEN order_id = 12 THEN revenue + 0.01 ELSE revenue END AS revenue) FROM t"
    with damaged(loaded, catalog, FACTS, select):
        found = only_unequal(run(loaded, catalog), FACTS)
    (difference,) = found.differences
    assert difference.key == (("order_id", "12"),)
    assert [value.column for value in difference.values] == ["revenue"]


def test_a_fact_that_is_gone_and_one_that_is_there_twice_are_named(loaded: Settings, catalog: Catalog) -> None:
    select = "SELECT * FROM t WHERE order_id <> 3 UNION ALL SELECT * FROM t WHERE order_id = 4"
    with damaged(loaded, catalog, FACTS, select):
        found = only_unequal(run(loaded, catalog), FACTS)
    assert [(d.key[0][1], d.finding) for d in found.differences] == [("3", Finding.MISSING), ("4", Finding.REPEATED)]


def test_a_region_that_did_not_follow_the_customer_is_named(loaded: Settings, catalog: Catalog) -> None:
    select = "SELECT * REPLACE (CASE WHEN customer_id % 50 = 1 THEN 'MOON' ELSE region END AS region) FROM t"
    with damaged(loaded, catalog, "silver.customers", select):
        report = run(loaded, catalog)
    facts = only_unequal(report, FACTS)
    assert {value.column for difference in facts.differences for value in difference.values} == {"region_key"}
    assert {value.expected for difference in facts.differences for value in difference.values} == {"MOON"}


def test_an_altered_day_of_revenue_is_named(loaded: Settings, catalog: Catalog) -> None:
    select = "SELECT * REPLACE (CASE WHEN currency = 'GBP' THEN orders + 1 ELSE orders END AS orders) FROM t"
    with damaged(loaded, catalog, REVENUE, select):
        report = run(loaded, catalog)
    from_silver = [c for c in report.unequal if c.table == REVENUE]
    assert len(from_silver) == 1
    assert {dict(difference.key)["currency"] for difference in from_silver[0].differences} == {"GBP"}
    assert only_unequal(report, DASHBOARD).differing == from_silver[0].differing


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        ("ALTER TABLE daily_revenue UPDATE revenue = revenue + 1 WHERE {where}", Finding.DIFFERENT),
        ("ALTER TABLE daily_revenue DELETE WHERE {where}", Finding.MISSING),
        ("INSERT INTO daily_revenue SELECT * FROM daily_revenue WHERE {where}", Finding.REPEATED),
    ],
    ids=["altered", "dropped", "doubled"],
)
def test_a_damaged_row_in_clickhouse_is_named(
    loaded: Settings, catalog: Catalog, damage: str, finding: Finding
) -> None:
    with open_client(loaded) as client:
        (key,) = client.query(
            "SELECT toString(order_date), region, currency FROM daily_revenue ORDER BY order_date, region LIMIT 1"
        ).result_rows
        where = "order_date = '{}' AND region = '{}' AND currency = '{}'".format(*key)
        client.command(damage.format(where=where), settings={"mutations_sync": 1})
        found = only_unequal(run(loaded, catalog), DASHBOARD)
        client.command("TRUNCATE TABLE daily_revenue")
    _load_clickhouse(loaded, catalog)
    (difference,) = found.differences
    assert (tuple(value for _, value in difference.key), difference.finding) == (tuple(key), finding)


def test_gold_is_held_to_what_silver_held_when_the_comparison_began(loaded: Settings, catalog: Catalog) -> None:
    before = {identifier: GoldInputs(catalog, identifier) for identifier in (FACTS, REVENUE)}
    read = before[FACTS].read()
    assert read == before[REVENUE].read() == {n: _head(catalog, n) for n in INPUTS}
    with damaged(loaded, catalog, "silver.customers", "SELECT * REPLACE ('MOON' AS region) FROM t"):
        assert before[FACTS].read() == read
        assert not any(GoldInputs(catalog, identifier).has_come() for identifier in (FACTS, REVENUE))


def _head(catalog: Catalog, identifier: str) -> int:
    snapshot = catalog.load_table(identifier).current_snapshot()
    assert snapshot is not None
    return snapshot.snapshot_id


def test_a_clickhouse_that_does_not_answer_is_an_error_that_says_so(loaded: Settings, catalog: Catalog) -> None:
    away = new_settings(loaded.home, postgres_dsn=loaded.postgres)
    with pytest.raises(NotLoadedError, match="ClickHouse's daily_revenue cannot be read"):
        run(away, catalog)
