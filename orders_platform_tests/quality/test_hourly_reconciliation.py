"""The comparison with PostgreSQL as Dagster runs it: a part of each table at every tick, each row within a day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile

import dagster as dg
import psycopg
import pytest
from dagster._utils.schedules import cron_string_iterator
from pyiceberg.catalog import Catalog

from orders_platform.defs.automation.hourly_reconciliation import KIND, hourly_reconciliation
from orders_platform.defs.automation.run_guard import KIND_TAG
from orders_platform.defs.checks.reconciliation import last_round, reconciliation_key
from orders_platform.defs.location import build_location
from orders_platform.defs.resources.platform import Platform
from orders_platform.quality import reconcile, rounds
from orders_platform.quality.comparison import Patience
from orders_platform.settings import Settings
from orders_platform_tests.quality.copied_silver import contract_of, damaged

TABLES = (contract_of("inventory"), contract_of("orders"))
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
MIDNIGHT = datetime(2026, 3, 10, tzinfo=UTC)


class Clock:
    """An installation whose schedule ticks when the test says so."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.settings = settings
        self.instance = instance
        self.location = build_location(Platform(settings, TABLES))

    def tick(self) -> dict[str, dg.AssetCheckEvaluation]:
        """A run as the schedule asks for it; its results by table."""
        job = self.location.resolve_job_def("reconciliation")
        result = job.execute_in_process(QUIET, self.instance, tags={KIND_TAG: KIND}, raise_on_error=False)
        return {each.asset_key.to_user_string(): each for each in result.get_asset_check_evaluations()}


@pytest.fixture
def clock(shop_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    monkeypatch.setattr(rounds, "LEAST_ROWS", 5)
    # Nothing carries changes to silver here, so there is nothing to wait for.
    monkeypatch.setattr(reconcile, "Patience", lambda: Patience(limit_seconds=0))
    with dg.DagsterInstance.ephemeral() as instance:
        yield Clock(shop_settings, instance)


def test_a_day_of_ticks_covers_every_row_of_every_table(clock: Clock) -> None:
    ticks = cron_string_iterator(MIDNIGHT.timestamp(), hourly_reconciliation.cron_schedule, "UTC")
    of_day = list(takewhile(lambda tick: tick < MIDNIGHT + timedelta(days=1), ticks))
    assert len(of_day) == rounds.LOOKS_A_DAY
    results = [clock.tick() for _ in of_day]
    for contract in TABLES:
        found = [each[f"postgres_{contract.table}"] for each in results]
        assert all(each.passed for each in found)
        covered = [each.metadata["covered_percent"].value for each in found]
        (last,) = [number for number, percent in enumerate(covered) if percent == 100.0]
        compared = [str(each.metadata["compared"].value) for each in found[: last + 1]]
        assert compared[0].startswith("keys below ")
        for before, after in pairwise(compared):
            assert after.startswith(f"keys from {before.partition(' below ')[2]} on"), "a hole, or an overlap"
        assert compared[-1].endswith(" on")
        with psycopg.connect(clock.settings.postgres) as connection:
            count = connection.execute(f"SELECT count(*) FROM {contract.table}").fetchone()
        assert count == (sum(int(str(each.metadata["rows"].value)) for each in found[: last + 1]),)


def test_a_difference_keeps_the_check_red_until_it_is_repaired(clock: Clock, catalog: Catalog) -> None:
    with psycopg.connect(clock.settings.postgres) as connection:
        row = connection.execute("SELECT min(order_id) FROM orders").fetchone()
    assert row is not None
    select = f"SELECT * REPLACE (CASE WHEN order_id = {row[0]} THEN 'lost' ELSE status END AS status) FROM t"
    with damaged(clock.settings, catalog, "silver.orders", select):
        first, second = clock.tick(), clock.tick()
    for found in (first, second):
        assert (found["postgres_orders"].passed, found["postgres_inventory"].passed) == (False, True)
        assert f"order_id={row[0]}: different (status is 'lost'" in (found["postgres_orders"].description or "")
    assert clock.tick()["postgres_orders"].passed


def test_a_shop_that_does_not_answer_leaves_the_slice_for_the_next_tick(
    clock: Clock, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.tick()
    before = last_round(clock.instance, TABLES[0])
    with monkeypatch.context() as patch:
        patch.setitem(clock.settings.__dict__, "postgres", settings.postgres)
        assert clock.tick() == {}
    assert last_round(clock.instance, TABLES[0]) == before
    assert before is not None
    found = clock.tick()["postgres_inventory"]
    assert str(found.metadata["compared"].value).startswith(f"keys from ({', '.join(map(str, before.next or ()))}) on")


def test_a_round_of_another_release_is_begun_anew(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(rounds.Round, "to_json", lambda _: {"began": MIDNIGHT.isoformat(), "slice": 3})
        clock.tick()
    assert last_round(clock.instance, TABLES[0]) is None
    found = clock.tick()["postgres_inventory"]
    assert str(found.metadata["compared"].value).startswith("keys below ")


def test_loads_do_not_wait_for_the_comparison(clock: Clock) -> None:
    graph = clock.location.resolve_job_def("kafka_to_silver").asset_layer.asset_graph
    assert graph.asset_check_keys
    assert not {reconciliation_key(contract) for contract in TABLES} & set(graph.asset_check_keys)


def test_a_tick_asks_for_a_run_unless_the_one_before_it_goes_on(clock: Clock) -> None:
    job = clock.location.resolve_job_def("reconciliation")
    with dg.instance_for_test() as instance:
        request = hourly_reconciliation(dg.build_schedule_context(instance, MIDNIGHT))
        assert isinstance(request, dg.RunRequest)
        instance.create_run_for_job(job, tags=dict(request.tags), status=dg.DagsterRunStatus.STARTED)
        answer = hourly_reconciliation(dg.build_schedule_context(instance, MIDNIGHT))
        assert isinstance(answer, dg.SkipReason)
        assert "is queued or running" in (answer.skip_message or "")


def test_the_schedule_is_on_unless_somebody_stops_it(clock: Clock) -> None:
    assert clock.location.resolve_schedule_def("hourly_reconciliation").default_status.value == "RUNNING"
