"""Orchestration: sensors and runs of Dagster, on a real broker, with runs that die and runs that carry many days."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date, timedelta

import dagster as dg
import pytest
from pyiceberg.catalog import Catalog

from orders_platform.contracts import Contract, load_contracts
from orders_platform.defs.automation.behind import find_behind
from orders_platform.defs.automation.kafka_lag import BROKER_SECONDS, RANGE_END_TAG, RANGE_START_TAG, kafka_lag
from orders_platform.defs.jobs import FRESHNESS
from orders_platform.defs.location import build_location
from orders_platform.defs.resources.platform import Platform
from orders_platform.fault_points import VARIABLE, FaultPoint
from orders_platform.ingest import bronze, consumer
from orders_platform.lake.audit import audited_snapshot, check_silver
from orders_platform.lake.commits import head
from orders_platform.settings import Settings
from orders_platform_tests.ingest.events import (
    Record,
    change,
    contract,
    envelope,
    moment,
    order,
    produce,
    source,
    today,
)
from orders_platform_tests.ingest.loads import assert_sound, rows
from orders_platform_tests.waiting import PATIENCE_SECONDS

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
TICK_SECONDS = 60.0
"""Dagster ends a sensor's tick after so long, if DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS says nothing else."""


class Installation:
    """One table's part of a code location, on a topic of the test's own."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.settings = settings.model_copy(update={"lag_threshold_records": 1})
        self.instance = instance
        self.platform = Platform(self.settings, (contract(),))
        self.job = build_location(self.platform).resolve_job_def("kafka_to_silver")

    def tick(self) -> dg.RunRequest | dg.SkipReason:
        """One tick of the sensor, which must be quick."""
        started = time.monotonic()
        found = kafka_lag(dg.build_sensor_context(self.instance, resources={"platform": self.platform}))
        assert time.monotonic() - started < TICK_SECONDS
        if isinstance(found, dg.SkipReason):
            return found
        assert isinstance(found, dg.SensorResult)
        assert found.cursor is None, "the tables say what is loaded; there is no cursor that could be wrong"
        (request,) = found.run_requests or ()
        return request

    def asked(self) -> dg.RunRequest:
        request = self.tick()
        assert isinstance(request, dg.RunRequest), request
        return request

    def run(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        return self.job.execute_in_process(
            {**request.run_config, **QUIET},
            self.instance,
            request.partition_key,
            raise_on_error=False,
            asset_selection=request.asset_selection,
            tags=dict(request.tags),
        )

    def range(self, first: date, last: date) -> dg.ExecuteInProcessResult:
        """A run of several days, as a backfill from the UI starts it."""
        days = {RANGE_START_TAG: first.isoformat(), RANGE_END_TAG: last.isoformat()}
        return self.job.execute_in_process(QUIET, self.instance, tags=days, raise_on_error=False)

    def freshness(self) -> dg.AssetCheckEvaluation:
        """What the schedule's run says of the table."""
        job = build_location(self.platform).resolve_job_def(FRESHNESS)
        (found,) = job.execute_in_process(QUIET, self.instance).get_asset_check_evaluations()
        return found


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


@pytest.fixture
def installation(shop_topic: Settings, instance: dg.DagsterInstance) -> Installation:
    return Installation(shop_topic, instance)


def ranges(request: dg.RunRequest) -> dict[str, list[int]]:
    found: dict[str, list[int]] = request.run_config["ops"]["staging_orders"]["config"]["ranges"]
    return found


def test_a_sensor_makes_admin_calls_only_and_reads_no_message(
    installation: Installation, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever waits in Kafka, a tick takes the same short time."""
    produce(installation.settings, topic, [change(n, n, partition=n % 3) for n in range(300)])

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the sensor opened a consumer")

    monkeypatch.setattr(consumer, "Consumer", refuse)
    assert sum(end - first for first, end in ranges(installation.asked()).values()) == 300


def test_a_dead_broker_is_a_skipped_tick_in_bounded_time(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon is not held up, and the reason stands in the tick."""
    assert BROKER_SECONDS < 10
    monkeypatch.setattr("orders_platform.defs.automation.kafka_lag.BROKER_SECONDS", 1.5)
    platform = Platform(settings, load_contracts())
    found = kafka_lag(dg.build_sensor_context(instance, resources={"platform": platform}))
    assert isinstance(found, dg.SkipReason)
    assert "did not answer within 1.5 s" in (found.skip_message or "")


def test_a_run_config_carries_ranges_however_much_waits(installation: Installation, topic: str) -> None:
    """Its size depends on the number of partitions, not of records, and no value of a row is in it."""
    produce(installation.settings, topic, [change(n, n, partition=n % 3, status="secret") for n in range(9)])
    few = installation.asked()
    produce(installation.settings, topic, [change(n, n, partition=n % 3, status="secret") for n in range(9, 999)])
    many = installation.asked()
    assert ranges(many) == {"0": [0, 333], "1": [0, 333], "2": [0, 333]}
    texts = [json.dumps(each.run_config) for each in (few, many)]
    assert len(texts[1]) - len(texts[0]) <= 6
    assert "secret" not in texts[1]


def test_a_failed_runs_range_is_asked_for_again(
    installation: Installation, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A used run key is skipped for ever, so the next attempt has another; it takes the same records, once."""
    monkeypatch.setattr("orders_platform.defs.automation.run_guard.FIRST_WAIT_SECONDS", 300.0)
    produce(installation.settings, topic, [change(n, n, partition=n % 3) for n in range(9)])
    first = installation.asked()
    with monkeypatch.context() as patch:
        patch.setattr(bronze, "commit", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
        assert not installation.run(first).success
    waiting = installation.tick()
    assert isinstance(waiting, dg.SkipReason)
    assert "tried 1 times, next attempt in" in (waiting.skip_message or "")
    monkeypatch.setattr("orders_platform.defs.automation.run_guard.FIRST_WAIT_SECONDS", 0.0)
    second = installation.asked()
    assert (ranges(second), second.run_key != first.run_key) == (ranges(first), True)
    assert installation.run(second).success
    assert isinstance(installation.tick(), dg.SkipReason)
    assert sorted(rows(installation.settings)) == [(n,) for n in range(9)]


def test_each_day_of_a_ranged_backfill_has_its_own_rows_and_results(installation: Installation, topic: str) -> None:
    """One run of three days: a day's rows, its metadata and its check results stand under that day."""
    days = [date(2026, 3, 1) + timedelta(days=n) for n in range(3)]
    records = [change(10 * n + k, 10 * n + k, at=moment(day)) for n, day in enumerate(days) for k in range(n + 1)]
    produce(installation.settings, topic, records)
    assert installation.range(days[0], days[-1]).success
    for layer in ("staging", "bronze", "silver"):
        found = installation.instance.fetch_materializations(dg.AssetKey(f"{layer}_orders"), limit=10).records
        written = {r.partition_key: r.asset_materialization.metadata for r in found if r.asset_materialization}
        assert set(written) == {day.isoformat() for day in days}
        counted = {day: metadata.get("rows", metadata.get("records")) for day, metadata in written.items()}
        assert [counted[day.isoformat()].value for day in days] == [1, 2, 3], layer  # type: ignore[union-attr]
    storage = installation.instance.event_log_storage
    for key in build_location(installation.platform).resolve_asset_graph().asset_check_keys:
        if key.asset_key.to_user_string() in ("bronze_orders", "silver_orders"):
            history = storage.get_asset_check_execution_history(key, limit=20)
            passed = {record.partition for record in history if record.evaluation and record.evaluation.passed}
            assert {day.isoformat() for day in days} <= passed, key


def test_records_of_a_day_years_ago_are_asked_for_and_older_ones_stop_their_table_by_name(
    installation: Installation, topic: str
) -> None:
    produce(installation.settings, topic, [change(1, 1, at=moment(date(2019, 8, 1)))])
    request = installation.asked()
    assert request.partition_key == "2019-08-01"
    assert installation.run(request).success
    assert rows(installation.settings) == [(1,)]
    produce(installation.settings, topic, [change(2, 2, at=moment(date(2013, 8, 1)), partition=1)])
    behind = find_behind(installation.platform)
    assert "records of 2013-08-01 are older than the first ingest day" in behind.stopped["orders"]
    before = today().isoformat()
    assert installation.asked().partition_key in (before, today().isoformat())


def test_an_old_days_backfill_makes_nothing_fresher(installation: Installation, topic: str) -> None:
    """The age is that of the newest change in the data; a run of today that loads an old day leaves it as it was."""
    long_ago = date(2026, 3, 1)
    produce(installation.settings, topic, [change(1, 1, at=moment(long_ago))])
    assert installation.range(long_ago, long_ago).success
    old = installation.freshness()
    assert not old.passed
    assert "minutes old; the contract allows 5.0 minutes" in (old.description or "")

    now = time.time_ns() // 1000
    value = envelope("c", order(2), 2) | {"source": source(2, ts_us=now, ts_ms=now // 1000)}
    produce(installation.settings, topic, [Record(value, {"order_id": 2})])
    waiting = installation.freshness()
    assert not waiting.passed, "what waits in Kafka is not in silver yet"
    assert installation.run(installation.asked()).success
    fresh = installation.freshness()
    assert fresh.passed

    produce(installation.settings, topic, [change(3, 3, at=moment(long_ago))])
    assert installation.range(long_ago, long_ago).success
    again = installation.freshness()
    assert again.metadata["watermark"] == fresh.metadata["watermark"]
    assert again.metadata["age_seconds"].value > fresh.metadata["age_seconds"].value  # type: ignore[operator]


RUN_AND_DIE = """
import json, sys
import dagster as dg
from orders_platform.settings import Settings
from orders_platform_tests.cases.test_orchestration import Installation
with dg.DagsterInstance.get() as instance:
    installation = Installation(Settings.model_validate_json(sys.argv[1]), instance)
    installation.run(installation.asked())
"""


@pytest.mark.parametrize(
    "point", [FaultPoint.BRONZE_BEFORE_COMMIT, FaultPoint.BRONZE_COMMIT_UNANSWERED, FaultPoint.SILVER_BEFORE_AUDITED]
)
def test_after_a_killed_run_the_next_one_starts_clean(
    shop_topic: Settings, topic: str, catalog: Catalog, orders: Contract, point: FaultPoint
) -> None:
    """No lock, no half-loaded table, no record of its own that would be in the way: the next run takes what is left."""
    day = date(2026, 3, 1)
    produce(shop_topic, topic, [change(n, n, partition=n % 3, at=moment(day)) for n in range(9)])
    with dg.instance_for_test() as instance:
        home = {"DAGSTER_HOME": instance.root_directory, VARIABLE: str(point)}
        died = subprocess.run(
            [sys.executable, "-c", RUN_AND_DIE, shop_topic.model_dump_json()],
            env={**os.environ, **home},
            capture_output=True,
            check=False,
            timeout=120,
        )
        assert died.returncode == -9, died.stderr[-2000:]
        (zombie,) = instance.get_runs()
        assert zombie.status == dg.DagsterRunStatus.STARTED, "it could not say that it died"
        installation = Installation(shop_topic, instance)
        assert isinstance(installation.tick(), dg.SkipReason), "until the daemon has noticed, nobody runs beside it"
        instance.report_run_failed(zombie)  # what run monitoring does, see deploy/dagster/dagster.yaml
        if (request := _next(installation)) is not None:
            assert installation.run(request).success
        assert isinstance(installation.tick(), dg.SkipReason)
    assert sorted(rows(shop_topic)) == [(n,) for n in range(9)]
    assert_sound(shop_topic, catalog, day)
    silver = catalog.load_table("silver.orders")
    assert audited_snapshot(silver) == head(silver)
    assert check_silver(shop_topic, catalog, orders).passed


def _next(installation: Installation) -> dg.RunRequest | None:
    """What the sensor asks for once the pause after the failure is over; None if the dead run had done it all."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while isinstance(found := installation.tick(), dg.SkipReason):
        if "0 unread records" in (found.skip_message or ""):
            return None
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
    return found
