"""One pass over everything that is behind, through the assets that the sensors run, in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import monotonic

import dagster as dg

from orders_platform.defs.automation.behind import Behind, find_behind
from orders_platform.defs.automation.ingest_plan import UnreadDay, plan_ingest
from orders_platform.defs.automation.kafka_lag import ingest_request
from orders_platform.defs.automation.run_guard import Attempts
from orders_platform.defs.automation.stale_dates import (
    GOLD_OPS,
    order_dates_request,
    plan_clickhouse,
    plan_order_dates,
)
from orders_platform.defs.jobs import INGEST, ORDER_DATES
from orders_platform.defs.location import build_location
from orders_platform.defs.resources.platform import Platform
from orders_platform.ingest.offsets import OffsetRange
from orders_platform.settings import Settings

Progress = Callable[[str], None]
Ends = Mapping[tuple[str, int], int]
"""Up to where to read, by table and partition."""

HOPS = ("staging", "bronze", "silver", "gold", "clickhouse")
ROWS_OF_HOP = {
    "staging": "staging_",
    "bronze": "bronze_",
    "silver": "silver_",
    "gold": "gold_fact_orders",
    "clickhouse": "clickhouse_",
}
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class SyncError(Exception):
    """Something could not be brought up to date; the message names the steps and why. What was done stands."""


@dataclass(frozen=True)
class HopFigures:
    """Rows that a hop wrote (records staged, rows loaded, rows changed, rows built) and the seconds its steps took."""

    rows: int = 0
    seconds: float = 0.0

    def plus(self, rows: int, seconds: float) -> HopFigures:
        return HopFigures(self.rows + rows, self.seconds + seconds)


@dataclass(frozen=True)
class SyncReport:
    """What a pass did: runs, figures by hop, wall-clock seconds, and steps that failed with their reasons."""

    runs: int = 0
    hops: Mapping[str, HopFigures] = field(default_factory=lambda: dict.fromkeys(HOPS, HopFigures()))
    seconds: float = 0.0
    failures: Mapping[str, str] = field(default_factory=dict)

    def followed_by(self, later: SyncReport) -> SyncReport:
        """Both passes as one."""
        hops = {hop: self.hops[hop].plus(later.hops[hop].rows, later.hops[hop].seconds) for hop in HOPS}
        return SyncReport(
            self.runs + later.runs, hops, self.seconds + later.seconds, {**self.failures, **later.failures}
        )


def sync(settings: Settings, progress: Progress = lambda _: None) -> SyncReport:
    """Carries what is in Kafka now, and what an earlier run left half done, through to ClickHouse.

    Records that arrive meanwhile wait for the next pass. Runs are recorded in `DAGSTER_HOME` if it is set, and take
    their turn with those of the daemon; otherwise they leave no record but the tables.

    Raises:
        BrokerUnavailableError, TopicMissingError (no topic is there): before anything was run.
        SyncError: a step failed, a table cannot be loaded (the others were), or nothing moved although something is
            behind.
    """
    return _pass(settings, progress, (), order_dates=True)


def load(settings: Settings, tables: Collection[str], progress: Progress = lambda _: None) -> SyncReport:
    """Carries what is in Kafka of these tables as far as silver. Raises as `sync`."""
    return _pass(settings, progress, tables, order_dates=False)


def _pass(settings: Settings, progress: Progress, tables: Collection[str], *, order_dates: bool) -> SyncReport:
    started = monotonic()
    platform = Platform(settings)
    location = build_location(platform)
    with _instance() as instance:
        runner = _Runner(location, instance, progress)
        stopped = _ingest(platform, runner, tables)
        if order_dates and not runner.report.failures:
            _order_dates(platform, runner)
    report = replace(runner.report, seconds=round(monotonic() - started, 3))
    report = replace(report, failures={**report.failures, **stopped})
    if report.failures:
        raise SyncError("; ".join(f"{step}: {reason}" for step, reason in report.failures.items()))
    return report


def _ingest(platform: Platform, runner: _Runner, tables: Collection[str]) -> Mapping[str, str]:
    """Runs until bronze and silver have what Kafka had at the start; returns the tables that cannot go on, and why."""
    behind = find_behind(platform, tables)
    ends = {(d.table, r.partition): r.next for d in behind.unread for r in sorted(d.ranges, key=lambda r: r.next)}
    left = None
    while not runner.report.failures:
        unread = _up_to(behind, ends)
        limit = platform.settings.max_records_per_run
        runs = plan_ingest(unread, behind.merge_only, datetime.now(UTC).date(), limit, behind.heads, behind.positions)
        if not runs:
            break
        waiting = (sum(each.records for each in unread), behind.merge_only)
        if waiting == left:
            raise SyncError(
                f"nothing moved: {waiting[0]} records and {len(waiting[1])} tables are still behind after a run"
            )
        left = waiting
        for run in runs:
            runner.run(INGEST.name, ingest_request(run, "sync", Attempts()), f"{run.records} records of {run.last_day}")
        behind = find_behind(platform, tables)
    return {f"bronze_{table}": why for table, why in behind.stopped.items()}


def _order_dates(platform: Platform, runner: _Runner) -> None:
    """Runs until gold and ClickHouse have what silver has."""
    before = None
    while not runner.report.failures and (run := plan_order_dates(platform)) is not None:
        if (run.dates, run.gold, run.state) == before:
            raise SyncError(f"nothing moved: {run.reason} after a run that built them")
        before = (run.dates, run.gold, run.state)
        runner.run(ORDER_DATES.name, order_dates_request(run, Attempts()), run.reason)
    if runner.report.failures.keys() == {GOLD_OPS[0]} and (run := plan_clickhouse(platform)) is not None:
        # Gold refused some dates and may have published others: these must not wait for what is wrong with those.
        runner.run(ORDER_DATES.name, order_dates_request(run, Attempts()), run.reason)


def _up_to(behind: Behind, ends: Ends) -> tuple[UnreadDay, ...]:
    """What is unread below the ends."""
    days = []
    for each in behind.unread:
        ranges = tuple(
            OffsetRange(r.partition, r.first, min(r.next, ends[each.table, r.partition]))
            for r in each.ranges
            if r.first < ends.get((each.table, r.partition), 0)
        )
        if ranges:
            days.append(replace(each, ranges=ranges, records=sum(r.offsets for r in ranges)))
    return tuple(days)


class _Runner:
    """Executes run requests in this process and adds up what their steps report."""

    def __init__(self, location: dg.Definitions, instance: dg.DagsterInstance, progress: Progress) -> None:
        self._location = location
        self._instance = instance
        self._progress = progress
        self.report = SyncReport()

    def run(self, job: str, request: dg.RunRequest, what: str) -> None:
        """Executes one run; failures of its steps are in the report."""
        self._progress(what)
        result = self._location.resolve_job_def(job).execute_in_process(
            run_config={**request.run_config, **QUIET},
            instance=self._instance,
            partition_key=request.partition_key,
            asset_selection=request.asset_selection,
            tags=dict(request.tags),
            raise_on_error=False,
        )
        hops, failures = dict(self.report.hops), dict(self.report.failures)
        for event in result.all_events:
            hop = (event.step_key or "").partition("_")[0]
            if event.is_step_success:
                hops[hop] = hops[hop].plus(0, event.step_success_data.duration_ms / 1000)
            elif event.is_step_failure:
                failures[event.step_key or job] = _reason(event)
            elif event.is_step_materialization and event.asset_key is not None:
                asset = event.asset_key.to_user_string()
                if asset.startswith(ROWS_OF_HOP[hop]):
                    rows = event.materialization.metadata.get("rows")
                    hops[hop] = hops[hop].plus(int(str(rows.value)) if rows else 0, 0)
        if not result.success and not failures:
            failures[job] = "the run failed before its first step"
        self.report = replace(self.report, runs=self.report.runs + 1, hops=hops, failures=failures)


def _reason(event: dg.DagsterEvent) -> str:
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error else "failed"


@contextmanager
def _instance() -> Iterator[dg.DagsterInstance]:
    if os.environ.get("DAGSTER_HOME"):
        with dg.DagsterInstance.get() as instance:
            yield instance
    else:
        with dg.DagsterInstance.ephemeral() as instance:
            yield instance
