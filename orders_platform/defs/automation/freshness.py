"""The schedule that asks how old the data are."""

import dagster as dg

from orders_platform.defs.automation.run_guard import REASON_TAG
from orders_platform.defs.jobs import FRESHNESS


@dg.schedule(
    job_name=FRESHNESS,
    cron_schedule="*/5 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Compares the age of silver's data with what each contract allows.",
)
def freshness_every_five_minutes(_: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One tick."""
    return dg.RunRequest(tags={REASON_TAG: "the age of silver's data, every five minutes"})
