"""The sensor that asks for a run when Kafka has records, or bronze has rows, that silver does not have yet."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import dagster as dg

from orders_platform.defs.automation.behind import Behind, find_behind
from orders_platform.defs.automation.ingest_plan import IngestRun, plan_ingest
from orders_platform.defs.automation.run_guard import (
    KIND_TAG,
    POSITION_TAG,
    REASON_TAG,
    Attempts,
    attempts_at,
    run_key,
    run_under_way,
)
from orders_platform.defs.jobs import INGEST
from orders_platform.defs.resources.passing_errors import may_pass
from orders_platform.defs.resources.platform import Platform
from orders_platform.settings import Settings

KIND = "kafka-lag"
TICK_SECONDS = 3
BROKER_SECONDS = 8.0
"""A tick ends within 10 seconds, also where the broker is silent."""
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"


@dg.sensor(
    job=INGEST,
    name="kafka_lag",
    minimum_interval_seconds=TICK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for one run for all tables that are behind, as soon as enough records wait or one waits too long."
    " Makes admin calls only; the run config carries offset ranges.",
)
def kafka_lag(
    context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
) -> dg.SensorResult | dg.SkipReason:
    """One tick: a run request for each contiguous range of days that is behind, or the reason for none."""
    observe = first_of_its_minute(context, time.time())
    running = run_under_way(context.instance, KIND)
    under_way = f"run {running} is queued or running; what it leaves is requested after it"
    if running and not observe:
        return dg.SkipReason(under_way)
    try:
        behind = find_behind(platform, seconds=BROKER_SECONDS)
    except Exception as error:
        if not may_pass(error):
            raise
        return dg.SkipReason(f"{type(error).__name__}: {error}")
    now = datetime.now(UTC)
    observations = list(lag_observations(behind, now))
    if running:
        return _skipped(under_way, observations)
    reason = reason_to_run(behind, platform.settings, now)
    if reason is None and not behind.stopped:
        waiting = f"{behind.records} unread records, the oldest {behind.age_seconds(now):.1f} s old"
        return _skipped(waiting, observations if observe else [])
    attempts = {table: attempts_at(context.instance, table, behind.positions[table]) for table in behind.tables}
    requests, waits = [], []
    for tables, why, runs in _planned(behind, attempts, platform.settings, now):
        tried = max((attempts[table] for table in tables), key=lambda each: each.ended)
        if wait := tried.wait_seconds(time.time()):
            waits.append(f"{', '.join(tables)}: tried {tried.ended} times, next attempt in {wait:.0f} s")
        else:
            requests += [ingest_request(run, why, tried) for run in runs]
    if not requests:
        return _skipped("; ".join(waits), observations if observe else [])
    return dg.SensorResult(run_requests=requests, asset_events=observations)


def _planned(
    behind: Behind, attempts: Mapping[str, Attempts], settings: Settings, now: datetime
) -> Iterable[tuple[list[str], str, list[IngestRun]]]:
    """What is due, as tables, why, and their runs.

    One run carries all tables that are behind and get on. Those that a run has left where they were are tried again by
    themselves, and wait; together with the others that the same run has left behind, since then it may have been the
    run that failed. A table that is stopped has a run of its own, which fails with the reason.
    """
    together: dict[str, list[str]] = {}
    for table in behind.of(*behind.tables).tables:
        together.setdefault(attempts[table].last_run, []).append(table)
    for tables in together.values():
        part = behind.of(*tables)
        if why := reason_to_run(part, settings, now):
            limit = settings.max_records_per_run
            yield tables, why, plan_ingest(part.unread, part.merge_only, now.date(), limit, part.heads, part.positions)
    for table in sorted(behind.stopped):
        heads, positions = {table: behind.heads[table]}, {table: behind.positions[table]}
        run = IngestRun(now.date(), now.date(), {}, stopped=(table,), heads=heads, positions=positions)
        yield [table], behind.stopped[table], [run]


def first_of_its_minute(context: dg.SensorEvaluationContext, now: float) -> bool:
    """Whether a tick at `now` (seconds since 1970) is in another minute than the tick before it.

    Such a tick reports the lag also when it asks for nothing: the series goes on while runs are slow, and the event log
    grows by one event a table and minute.
    """
    before = context.last_tick_completion_time
    return before is not None and int(before // 60) != int(now // 60)


def _skipped(reason: str, observations: list[dg.AssetObservation]) -> dg.SensorResult | dg.SkipReason:
    if not observations:
        return dg.SkipReason(reason)
    return dg.SensorResult(skip_reason=reason, asset_events=observations)


def reason_to_run(behind: Behind, settings: Settings, now: datetime) -> str | None:
    """Why a run is due, in words for its tag; None while nothing waits long enough."""
    age = behind.age_seconds(now)
    if behind.records >= settings.lag_threshold_records:
        return f"{behind.records} unread records, threshold {settings.lag_threshold_records}"
    if behind.records and age >= settings.lag_threshold_seconds:
        threshold = settings.lag_threshold_seconds
        return f"oldest of {behind.records} unread records is {age:.0f} s old, threshold {threshold:g}"
    if behind.merge_only:
        return f"silver is behind bronze: {', '.join(behind.merge_only)}"
    return None


def ingest_request(run: IngestRun, reason: str, attempts: Attempts) -> dg.RunRequest:
    """Dagster's request of a planned run. A repeated tick makes the same run key, and so no second run."""
    first, last = run.first_day.isoformat(), run.last_day.isoformat()
    positions = {f"{POSITION_TAG}{table}": position for table, position in run.positions.items()}
    days = {} if first == last else {RANGE_START_TAG: first, RANGE_END_TAG: last}
    return dg.RunRequest(
        run_key=run_key(run.key, attempts),
        run_config=run.config,
        partition_key=first if first == last else None,
        asset_selection=[dg.AssetKey(name) for name in run.assets],
        tags={KIND_TAG: KIND, REASON_TAG: reason, **positions, **days},
    )


def lag_observations(behind: Behind, now: datetime) -> Iterable[dg.AssetObservation]:
    """Unread records and their age as numbers on the topics; 0 for one that is read to its end."""
    for table in sorted({*behind.heads, *(each.table for each in behind.unread)} - behind.stopped.keys()):
        of_table = behind.of(table)
        yield dg.AssetObservation(
            f"kafka_{table}",
            metadata={"lag_records": of_table.records, "lag_seconds": round(of_table.age_seconds(now), 3)},
        )
