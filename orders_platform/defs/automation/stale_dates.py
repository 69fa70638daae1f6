"""The sensor that asks for the order dates that are stale, by the tables' own marks, to be built again."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime

import dagster as dg

from orders_platform.defs.automation.run_guard import (
    ATTEMPT_OF_TAG,
    KIND_TAG,
    REASON_TAG,
    Attempts,
    attempts_of,
    last_run_failed,
    run_key,
    run_under_way,
)
from orders_platform.defs.jobs import ORDER_DATES
from orders_platform.defs.partitions import is_partition
from orders_platform.defs.resources.passing_errors import may_pass
from orders_platform.defs.resources.platform import Platform

KIND = "stale-order-dates"
TICK_SECONDS = 3
GOLD_OPS = ("gold",)
CLICKHOUSE = "clickhouse_daily_revenue"


@dataclass(frozen=True)
class OrderDatesRun:
    """One run for order dates, which need not be contiguous.

    `state` names what they are stale against, `heads` where the tables stand that the run will write.
    """

    dates: tuple[date, ...]
    gold: bool
    state: str = ""
    heads: str = ""

    @property
    def partition(self) -> date:
        """The newest of the dates that Dagster knows: the run's partition. Today's if it knows none of them."""
        known = [day for day in self.dates if is_partition(day)]
        return max(known) if known else _today()

    @property
    def config(self) -> dict[str, object]:
        """Dagster's run config: the order dates of each step."""
        ops = (*GOLD_OPS, CLICKHOUSE) if self.gold else (CLICKHOUSE,)
        dates = {"config": {"order_dates": [day.isoformat() for day in sorted(self.dates)]}}
        return {"ops": dict.fromkeys(ops, dates)}

    @property
    def key(self) -> str:
        """Fingerprint of the dates, of what they are stale against, and of what would be written."""
        text = f"{self.gold} {self.state} {self.heads} {' '.join(day.isoformat() for day in sorted(self.dates))}"
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @property
    def reason(self) -> str:
        what = "gold" if self.gold else "ClickHouse"
        span = f"{min(self.dates)} … {max(self.dates)}" if len(self.dates) > 1 else str(self.dates[0])
        return f"{len(self.dates)} order dates stale in {what}: {span}"


def _today() -> date:
    return datetime.now(UTC).date()


def plan_order_dates(platform: Platform) -> OrderDatesRun | None:
    """The run that the tables' own marks ask for: gold's stale dates first, else what ClickHouse has not taken over."""
    from orders_platform.lake.gold import plan
    from orders_platform.lake.gold_run import DATES_PER_BUILD

    stale = plan(platform.settings, platform.catalog)
    # No date is stale although silver has moved: today's is rebuilt, so that the mark does not outlive silver's expiry.
    dates = stale.stale_dates or ((_today(),) if stale.behind_only_by_mark else ())
    if dates:
        heads = str(sorted((table.model.name, table.head) for table in stale.tables))
        return OrderDatesRun(dates[-DATES_PER_BUILD:], gold=True, state=str(sorted(stale.inputs.items())), heads=heads)
    return plan_clickhouse(platform)


def plan_clickhouse(platform: Platform) -> OrderDatesRun | None:
    """The run for what gold has published and ClickHouse has not taken over."""
    from orders_platform.serving.daily_revenue import sequences_of_stale_days

    late = sequences_of_stale_days(platform.settings, platform.catalog)
    if not late:
        return None
    gold, shown = ([each.gold for each in late.values()], [sorted(each.shown) for each in late.values()])
    return OrderDatesRun(tuple(late), gold=False, state=str(gold), heads=str(shown))


@dg.sensor(
    job=ORDER_DATES,
    name="stale_order_dates",
    minimum_interval_seconds=TICK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for one run for all order dates that are stale, however far apart: the dates stand in the run's"
    " config, the newest is its partition.",
)
def stale_order_dates(
    context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
) -> dg.RunRequest | dg.SkipReason:
    """One tick: at most one run request for everything stale."""
    if running := run_under_way(context.instance, KIND):
        return dg.SkipReason(f"run {running} is queued or running; what it leaves is requested after it")
    # A run of gold that failed may have published some of its dates: dashboards do not wait for the others.
    plans = (plan_clickhouse, plan_order_dates) if last_run_failed(context.instance, KIND) else (plan_order_dates,)
    reasons = []
    for planned in plans:
        try:
            run = planned(platform)
        except Exception as error:
            if not may_pass(error):
                raise
            reasons.append(f"{type(error).__name__}: {error}")
            continue
        if run is None:
            continue
        attempts = attempts_of(context.instance, run.key)
        if not (wait := attempts.wait_seconds(time.time())):
            return order_dates_request(run, attempts)
        reasons.append(f"tried {attempts.ended} times, next attempt in {wait:.0f} s: {run.reason}")
    return dg.SkipReason("; ".join(dict.fromkeys(reasons)) or "no order date is stale")


def order_dates_request(run: OrderDatesRun, attempts: Attempts) -> dg.RunRequest:
    """Dagster's request of a planned run."""
    return dg.RunRequest(
        run_key=run_key(run.key, attempts),
        run_config=run.config,
        partition_key=run.partition.isoformat(),
        asset_selection=None if run.gold else [dg.AssetKey(CLICKHOUSE)],
        tags={KIND_TAG: KIND, REASON_TAG: run.reason, ATTEMPT_OF_TAG: run.key},
    )
