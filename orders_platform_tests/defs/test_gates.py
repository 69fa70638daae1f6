"""From silver to ClickHouse through Dagster's runs: what is stale is rebuilt, and nothing passes a check that fails."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal

import dagster as dg
import pytest

from orders_platform.defs.automation.run_guard import Attempts
from orders_platform.defs.automation.stale_dates import order_dates_request, plan_order_dates, stale_order_dates
from orders_platform.defs.location import build_location
from orders_platform.defs.resources.platform import Platform
from orders_platform.ingest.ledger_rebuild import rebuild
from orders_platform.lake.audit import audited_snapshot
from orders_platform.lake.commits import commit, head
from orders_platform.lake.duckdb_engine import connect, scan_sql, write_files
from orders_platform.serving.client import open_client
from orders_platform.settings import Settings
from orders_platform_tests.defs.run_keys import RUN_KEY_TAG, is_new
from orders_platform_tests.lake.changes import append, change, contract, load, order

OLD, NEW = date(2026, 2, 19), date(2026, 5, 20)
ACCEPTED = "accepted_values_gold_fact_orders_status__placed__paid__shipped__delivered__cancelled"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Chain:
    """An installation without Kafka: bronze is written by the test, all after it by Dagster's runs."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.settings = settings
        self.platform = Platform(settings)
        self.instance = instance
        self._location = build_location(self.platform)

    def write(self, table: str, *rows: dict[str, object]) -> None:
        load(self.settings, self.platform.catalog, contract(table), rows)

    def silver(self, *tables: str) -> dg.ExecuteInProcessResult:
        keys = [dg.AssetKey(f"silver_{table}") for table in tables]
        job = self._location.resolve_job_def("kafka_to_silver")
        return job.execute_in_process(
            QUIET, self.instance, partition_key="2026-05-20", raise_on_error=False, asset_selection=keys
        )

    def tick(self) -> dg.RunRequest:
        context = dg.build_sensor_context(self.instance, resources={"platform": self.platform})
        request = stale_order_dates(context)
        assert isinstance(request, dg.RunRequest), request
        return request

    def order_dates(self) -> dg.ExecuteInProcessResult:
        """The run that the sensor asks for; a repeated tick asks for the same one, and its key was never used."""
        request = self.tick()
        assert self.tick().run_key == request.run_key
        assert request.run_key is not None
        assert is_new(self.instance, request.run_key)
        return self.run(request)

    def run(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        return self._location.resolve_job_def("gold_to_clickhouse").execute_in_process(
            {**request.run_config, **QUIET},
            self.instance,
            request.partition_key,
            raise_on_error=False,
            asset_selection=request.asset_selection,
            tags={**request.tags, RUN_KEY_TAG: request.run_key or ""},
        )

    def revenue(self) -> dict[date, Decimal]:
        """What a dashboard shows."""
        with open_client(self.settings) as client:
            rows = client.query("SELECT order_date, sum(revenue) FROM daily_revenue GROUP BY 1").result_rows
        return dict(rows)

    def days(self, asset: str) -> set[str | None]:
        records = self.instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
        return {record.partition_key for record in records}


def placed(order_id: int, day: date, at: int, total: str, **values: object) -> dict[str, object]:
    created = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    return order(order_id, "c", at, customer_id=1, total=Decimal(total), created_at=created, **values)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, clickhouse: Settings) -> Iterator[Chain]:
    """Two order dates, built once; the tests of this file go on from there in their order."""
    home = tmp_path_factory.mktemp("gates")
    own = Settings(_env_file=None, home=home, ports=clickhouse.ports)  # type: ignore[call-arg]
    with open_client(own) as client:
        client.command("DROP TABLE IF EXISTS daily_revenue SYNC")
    with dg.DagsterInstance.ephemeral() as instance:
        found = Chain(own, instance)
        found.write("orders", placed(1, OLD, 1, "10.00"), placed(2, NEW, 2, "5.50"))
        line = {"product_id": 1, "quantity": 2, "unit_price": Decimal(5), "discount": Decimal(0)}
        times = {"created_at": datetime(2026, 3, 1, tzinfo=UTC), "updated_at": datetime(2026, 3, 1, tzinfo=UTC)}
        found.write("line_items", change({"line_item_id": 1}, "c", 3, order_id=1, **line, **times))
        assert failures(found.silver("orders", "line_items")) == []
        yield found


def test_two_dates_far_apart_are_rebuilt_by_one_run_and_each_is_recorded(chain: Chain) -> None:
    run = plan_order_dates(chain.platform)
    assert run is not None
    assert run.dates == (OLD, NEW)
    assert order_dates_request(run, Attempts()).partition_key == "2026-05-20"
    done = chain.order_dates()
    assert failures(done) == []
    assert chain.revenue() == {OLD: Decimal("10.00"), NEW: Decimal("5.50")}
    for asset in ("gold_fact_orders", "gold_daily_revenue", "clickhouse_daily_revenue"):
        assert chain.days(asset) == {OLD.isoformat(), NEW.isoformat()}
    assert plan_order_dates(chain.platform) is None
    checks = {event.check_name: event.passed for event in done.get_asset_check_evaluations()}
    assert {"gold_revenue_agrees_with_silver", "unique_gold_fact_orders_order_id", "equals_gold"} <= checks.keys()
    assert all(checks.values())
    key = dg.AssetCheckKey(dg.AssetKey("gold_fact_orders"), "unique_gold_fact_orders_order_id")
    history = chain.instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
    assert {OLD.isoformat(), NEW.isoformat()} <= {record.partition for record in history}
    (latest, *_) = chain.instance.fetch_materializations(dg.AssetKey("gold_fact_orders"), limit=1).records
    assert latest.asset_materialization is not None
    metadata = latest.asset_materialization.metadata
    assert metadata["rows"].value == 1
    assert isinstance(metadata["seconds"].value, float)


def test_a_day_that_somebody_changed_in_clickhouse_is_loaded_again_without_gold(chain: Chain) -> None:
    with open_client(chain.settings) as client:
        client.command("ALTER TABLE daily_revenue DROP PARTITION 20260520")
    run = plan_order_dates(chain.platform)
    assert run is not None
    assert (run.dates, run.gold) == ((NEW,), False)
    assert failures(chain.order_dates()) == []
    assert chain.revenue()[NEW] == Decimal("5.50")


def test_a_day_that_clickhouse_loses_again_is_loaded_again(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same day, stale in the same way: a key made of the state alone would be skipped for ever."""
    monkeypatch.setattr("orders_platform.defs.automation.run_guard.FIRST_WAIT_SECONDS", 0.0)
    for _ in range(2):
        with open_client(chain.settings) as client:
            client.command("ALTER TABLE daily_revenue DROP PARTITION 20260520")
        assert failures(chain.order_dates()) == []
        assert chain.revenue()[NEW] == Decimal("5.50")


def test_a_dbt_test_that_fails_keeps_dashboards_as_they_were_until_it_is_repaired(chain: Chain) -> None:
    again = {"customer_id": 1, "created_at": at_noon(NEW)}
    chain.write("orders", order(2, "u", 9, status="lost in the post", total=Decimal(7), **again))
    assert failures(chain.silver("orders")) == []
    done = chain.order_dates()
    assert len(failures(done)) == 1
    failed = [event for event in done.get_asset_check_evaluations() if not event.passed]
    assert ["accepted_values" in event.check_name for event in failed] == [True]
    assert "clickhouse_daily_revenue" not in {e.step_key for e in done.all_events if e.is_step_success}
    assert chain.revenue()[NEW] == Decimal("5.50")
    chain.write("orders", order(2, "u", 10, total=Decimal(7), **again))
    assert failures(chain.silver("orders")) == []
    assert failures(chain.order_dates()) == []
    assert chain.revenue()[NEW] == Decimal("7.00")


def test_a_date_that_gold_refuses_keeps_no_other_date_from_the_dashboard(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run fails, naming the date; what it has published of the other is loaded before gold tries again."""
    chain.write("orders", placed(2, NEW, 11, "8.00", _op="u"), placed(1, OLD, 12, "11.00", _op="u", status="lost"))
    assert failures(chain.silver("orders")) == []
    done = chain.order_dates()
    (failure,) = failures(done)
    assert f"not published for 1 of 2 order dates, and of these readers see what they saw before: {OLD}" in failure
    key = dg.AssetCheckKey(dg.AssetKey("gold_fact_orders"), ACCEPTED)
    history = chain.instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
    of_run = {each.partition: each.status.value for each in history if each.run_id == done.run_id}
    assert of_run[OLD.isoformat()] == "FAILED"
    assert of_run[NEW.isoformat()] == "SUCCEEDED"
    records = chain.instance.fetch_materializations(dg.AssetKey("gold_fact_orders"), limit=100).records
    assert [each.partition_key for each in records if each.run_id == done.run_id] == [NEW.isoformat()]
    request = chain.tick()
    assert request.asset_selection == [dg.AssetKey("clickhouse_daily_revenue")]
    assert failures(chain.run(request)) == []
    assert chain.revenue() == {OLD: Decimal("10.00"), NEW: Decimal("8.00")}
    monkeypatch.setattr("orders_platform.defs.automation.run_guard.FIRST_WAIT_SECONDS", 0.0)
    again = plan_order_dates(chain.platform)
    assert again is not None
    assert again.dates == (OLD,)
    chain.write("orders", placed(1, OLD, 13, "10.00", _op="u"), placed(2, NEW, 14, "7.00", _op="u"))
    assert failures(chain.silver("orders")) == []
    assert failures(chain.order_dates()) == []
    assert chain.revenue() == {OLD: Decimal("10.00"), NEW: Decimal("7.00")}


def test_gold_that_is_rolled_back_twice_is_rebuilt_twice(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orders_platform.defs.automation.run_guard.FIRST_WAIT_SECONDS", 0.0)
    tables = [chain.platform.catalog.load_table(f"gold.{name}") for name in ("fact_orders", "daily_revenue")]
    first = {table.name(): table.metadata.snapshots[0].snapshot_id for table in tables}
    for _ in range(2):
        for table in tables:
            table.refresh().manage_snapshots().set_current_snapshot(snapshot_id=first[table.name()]).commit()
        assert failures(chain.order_dates()) == []
        assert chain.revenue()[NEW] == Decimal("7.00")


def test_bronze_that_fails_its_check_is_not_what_the_next_run_of_silver_takes(chain: Chain) -> None:
    """Bronze's check stops what follows in its own run; a run of silver alone used to publish what it had refused."""
    audited = audited_snapshot(chain.platform.catalog.load_table("silver.orders"))
    append(chain.settings, chain.platform.catalog, contract("orders"), [placed(3, NEW, 15, "50.00")])
    for _ in range(2):
        (failure,) = failures(chain.silver("orders"))
        assert "have offsets that the ledger does not hold" in failure
        assert "ledger rebuild orders" in failure
        silver = chain.platform.catalog.load_table("silver.orders")
        assert (head(silver), audited_snapshot(silver)) == (audited, audited)
        assert plan_order_dates(chain.platform) is None
        assert chain.revenue()[NEW] == Decimal("7.00")
    rebuild(chain.settings, chain.platform.catalog, contract("orders"))
    assert failures(chain.silver("orders")) == []
    assert failures(chain.order_dates()) == []
    assert chain.revenue()[NEW] == Decimal("57.00")


def test_silver_that_fails_its_check_is_not_what_gold_reads(chain: Chain) -> None:
    double_a_row(chain)
    chain.write("orders", placed(4, NEW, 16, "100.00"))
    assert not chain.silver("orders").success
    silver = chain.platform.catalog.load_table("silver.orders")
    assert audited_snapshot(silver) != head(silver)
    assert plan_order_dates(chain.platform) is None, "gold sees silver as it was last audited"
    assert chain.revenue()[NEW] == Decimal("57.00")


def failures(done: dg.ExecuteInProcessResult) -> list[str]:
    """Why steps failed; empty when all went well."""
    failed = [event.step_failure_data for event in done.all_events if event.is_step_failure]
    return [data.error_display_string for data in failed]


def at_noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def double_a_row(chain: Chain) -> None:
    """What a foreign writer might do to silver."""
    table = chain.platform.catalog.load_table("silver.orders")
    with connect(chain.settings) as connection:
        files = write_files(connection, table, f"SELECT * FROM {scan_sql(table)} WHERE order_id = 2")
    commit(table, expected=head(table), add=files, summary={})
