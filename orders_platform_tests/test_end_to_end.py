"""The main job on real parts: what a shop writes to PostgreSQL is what the dashboards show, to the cent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import dagster as dg
import pytest

from orders_platform.contracts import load_contracts
from orders_platform.defs.assets.bronze import LEDGER_CHECK
from orders_platform.defs.assets.clickhouse import EQUAL_CHECK
from orders_platform.defs.assets.silver import STATE_CHECK
from orders_platform.defs.demo import daily_revenue
from orders_platform.defs.location import build_location
from orders_platform.defs.resources.platform import Platform
from orders_platform.defs.sync import SyncReport, sync
from orders_platform.lake.duckdb_engine import connect, scan_sql
from orders_platform.quality.reconcile import reconcile
from orders_platform.settings import Settings
from orders_platform.stack import wait_until_captured
from orders_platform.stack.shop import run_shop
from orders_platform_tests.conftest import _free_ports
from orders_platform_tests.object_store import object_store

pytestmark = pytest.mark.timeout(600)

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def trade(settings: Settings, changes: int, seed: int, history_days: int = 0) -> None:
    """Lets the shop write, and returns when Debezium has delivered all of it."""
    run_shop(settings.postgres, 5000, None, seed, history_days, max_changes=changes, orders_a_day=40)
    wait_until_captured(settings)


def assert_equal_everywhere(settings: Settings) -> None:
    """Silver equals PostgreSQL, gold silver, ClickHouse gold; and the dashboard's figures equal PostgreSQL's."""
    report = reconcile(settings, Platform(settings).catalog)
    assert report.equal, "\n".join(str(table) for table in report.unequal)
    revenue = daily_revenue(settings)
    assert revenue
    assert [row for row in revenue if not row.equal] == []
    assert sum(row.clickhouse for row in revenue) > Decimal(0)


def tables(settings: Settings) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table, without what says when a row was merged or built."""
    catalog = Platform(settings).catalog
    found = {}
    with connect(settings) as connection:
        for namespace in ("bronze", "silver", "gold"):
            for identifier in catalog.list_tables(namespace):
                table = catalog.load_table(identifier)
                sql = f"SELECT COLUMNS(c -> c NOT IN ('_seq')) FROM {scan_sql(table)} ORDER BY ALL"
                found[".".join(identifier)] = connection.execute(sql).fetchall()
    return found


METADATA = {
    "staging_orders": {"rows", "bytes", "files", "offsets", "seconds"},
    "bronze_orders": {
        "rows", "dagster/partition_row_count", "dead_letters", "tombstones", "offsets", "bytes", "seconds",
        "snapshot_id",
    },
    "silver_orders": {"rows", "dagster/row_count", "rows_changed", "bytes_rewritten", "seconds", "snapshot_id"},
    "gold_fact_orders": {"rows", "dagster/partition_row_count", "bytes", "seconds"},
    "gold_daily_revenue": {"rows", "dagster/partition_row_count", "bytes", "seconds"},
    "clickhouse_daily_revenue": {"rows", "dagster/partition_row_count", "seconds"},
}  # fmt: skip
"""What every hop shows of a run in the UI."""


@pytest.fixture(scope="module")
def traded(live_stack: Settings) -> Settings:
    """A stack on which a shop with a past has traded and everything has been carried once."""
    trade(live_stack, changes=800, seed=1, history_days=3)
    report = sync(live_stack)
    assert report.hops["silver"].rows > 0
    return live_stack


def test_a_pass_carries_everything_to_the_dashboard(traded: Settings) -> None:
    assert_equal_everywhere(traded)


def test_a_pass_with_nothing_new_runs_nothing(traded: Settings) -> None:
    assert sync(traded) == SyncReport(seconds=pytest.approx(0, abs=60))


def test_later_changes_of_old_orders_reach_their_order_dates(traded: Settings) -> None:
    before = {row.key: row.clickhouse for row in daily_revenue(traded)}
    trade(traded, changes=600, seed=2)
    report = sync(traded)
    assert report.hops["staging"].rows > 0
    assert_equal_everywhere(traded)
    after = {row.key: row.clickhouse for row in daily_revenue(traded)}
    today = datetime.now(UTC).date().isoformat()
    assert [key for key in before if key[0] < today and after.get(key) != before[key]], (
        "no order of the past has changed"
    )


def test_every_partition_again_as_one_range_changes_no_row(traded: Settings) -> None:
    """What a person may do in the UI at any time: all assets, several days, one run."""
    before = tables(traded)
    platform = Platform(traded)
    location = build_location(platform)
    today = datetime.now(UTC).date()
    days = {RANGE_START: (today - timedelta(days=4)).isoformat(), RANGE_END: today.isoformat()}
    with dg.DagsterInstance.ephemeral() as instance:
        job = location.resolve_implicit_global_asset_job_def()
        done = job.execute_in_process(instance=instance, tags=days, raise_on_error=False)
        assert done.success, [event.message for event in done.all_events if event.is_failure]
        assert recorded_days(instance, "bronze_orders") == recorded_days(instance, "gold_daily_revenue")
        assert len(recorded_days(instance, "clickhouse_daily_revenue")) == 5
        checks = {"bronze_orders": LEDGER_CHECK, "silver_orders": STATE_CHECK, "clickhouse_daily_revenue": EQUAL_CHECK}
        for asset, check in checks.items():
            results = check_results(instance, asset, check)
            assert set(results.values()) == {"SUCCEEDED"}
            assert len(results) == 6, "one a day, and the run's"
    assert tables(traded) == before
    assert_equal_everywhere(traded)


def test_the_whole_chain_of_one_day_runs_by_itself(traded: Settings) -> None:
    location = build_location(Platform(traded))
    today = datetime.now(UTC).date().isoformat()
    with dg.DagsterInstance.ephemeral() as instance:
        job = location.resolve_implicit_global_asset_job_def()
        done = job.execute_in_process(instance=instance, partition_key=today, raise_on_error=False)
        assert done.success, [event.message for event in done.all_events if event.is_failure]
        assert recorded_days(instance, "gold_fact_orders") == {today}
        missing = {asset: names - metadata_of(instance, asset) for asset, names in METADATA.items()}
        assert {asset: names for asset, names in missing.items() if names} == {}


def metadata_of(instance: dg.DagsterInstance, asset: str) -> set[str]:
    """The names of what the asset's materializations say of themselves."""
    records = instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
    said = [record.asset_materialization for record in records]
    return {name for each in said if each is not None for name in each.metadata}


def recorded_days(instance: dg.DagsterInstance, asset: str) -> set[str | None]:
    """The partitions that have a materialization."""
    records = instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
    return {record.partition_key for record in records}


def check_results(instance: dg.DagsterInstance, asset: str, name: str) -> dict[str | None, str]:
    """A check's status by day; that of a range's run under None."""
    key = dg.AssetCheckKey(dg.AssetKey(asset), name)
    history = instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    return {record.partition: record.status.value for record in reversed(history)}


@pytest.fixture(scope="module")
def on_s3(traded: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The same shop and topics; staging and warehouse on a real S3 server, by settings alone."""
    with object_store(_free_ports(8), "orders-platform") as variables, pytest.MonkeyPatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, value)
        environment.setenv("PYICEBERG_CATALOG__ORDERS__WAREHOUSE", "s3://orders-platform/warehouse")
        yield Settings(
            _env_file=None,  # type: ignore[call-arg]
            home=tmp_path_factory.mktemp("on s3"),
            ports=traded.ports,
            staging_url="s3://orders-platform/staging",
        )


def test_the_whole_chain_runs_on_s3_by_settings_alone(on_s3: Settings) -> None:
    sync(on_s3)
    assert_equal_everywhere(on_s3)
    assert not (on_s3.home / "warehouse").exists()
    assert not (on_s3.home / "staging").exists()
    for contract in load_contracts():
        table = Platform(on_s3).catalog.load_table(contract.silver_table)
        assert table.location().startswith("s3://orders-platform/warehouse")
