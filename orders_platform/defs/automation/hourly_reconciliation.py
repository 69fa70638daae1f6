"""The schedule that compares silver with the shop's own rows, a part of every table each hour."""

import dagster as dg

from orders_platform.defs.automation.run_guard import KIND_TAG, REASON_TAG, run_under_way
from orders_platform.defs.jobs import RECONCILIATION

KIND = "reconciliation"
CRON = "37 * * * *"
"""A day has as many ticks as `quality.rounds.LOOKS_A_DAY`, at a minute at which not everybody else's jobs start."""


@dg.schedule(
    job_name=RECONCILIATION,
    cron_schedule=CRON,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Compares the next slice of each of the shop's tables with silver's: every row within a day.",
)
def hourly_reconciliation(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """One tick: a run of every table's check, unless the last one still goes on."""
    if running := run_under_way(context.instance, KIND):
        return dg.SkipReason(f"run {running} is queued or running; the next tick does the slice after its")
    return dg.RunRequest(tags={KIND_TAG: KIND, REASON_TAG: "the next slice of each table, every hour"})
