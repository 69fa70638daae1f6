"""The schedule that validates silver against the contracts."""

import dagster as dg

from orders_platform.defs.automation.run_guard import REASON_TAG
from orders_platform.defs.jobs import EXPECTATIONS


@dg.schedule(
    job_name=EXPECTATIONS,
    cron_schedule="17 4 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Validates silver's rows against what the contracts promise.",
)
def daily_expectations(_: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One tick."""
    return dg.RunRequest(tags={REASON_TAG: "silver against the contracts, once a day"})
