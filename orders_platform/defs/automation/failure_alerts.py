"""Says in one structured line a run that failed: for the log collector, and for people who read the daemon's log."""

from __future__ import annotations

import json
import logging

import dagster as dg

from orders_platform.defs.automation.run_guard import REASON_TAG

ALERTS = logging.getLogger("orders_platform.alerts")


@dg.run_failure_sensor(
    name="failed_runs",
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Logs each failed run as one JSON line: run, job, partition, reason, steps and their errors.",
)
def failed_runs(context: dg.RunFailureSensorContext) -> None:
    """Logs the alert of one failed run."""
    ALERTS.error(json.dumps(alert(context), sort_keys=True))


def alert(context: dg.RunFailureSensorContext) -> dict[str, object]:
    """What an on-call engineer needs to know of a failed run."""
    run = context.dagster_run
    errors = {}
    for event in context.get_step_failure_events():
        data = event.step_failure_data
        cause = data.error.cause if data.error and data.error.cause else data.error
        errors[event.step_key or "?"] = cause.message.strip() if cause else ""
    return {
        "alert": "run_failed",
        "run_id": run.run_id,
        "job": run.job_name,
        "partition": run.tags.get("dagster/partition"),
        "reason": run.tags.get(REASON_TAG),
        "steps": errors,
        "error": context.failure_event.message,
    }
