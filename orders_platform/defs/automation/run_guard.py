"""Keeps sensors from asking twice: what is under way, what has failed, and how long to wait after a failure.

A run key that was used is skipped for ever, also after a failure, so it carries the number of failed attempts; and
nothing is requested while a run of the same kind is queued or running, or queues would grow when runs are slow.
"""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg

KIND_TAG = "orders-platform/kind"
REASON_TAG = "orders-platform/reason"
ATTEMPT_OF_TAG = "orders-platform/attempt-of"

FIRST_WAIT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 600.0

UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
FAILED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dataclass(frozen=True)
class Attempts:
    """Failed runs with the same plan, and when the last one ended (seconds since 1970)."""

    failed: int = 0
    last_ended: float = 0.0

    def wait_seconds(self, now: float) -> float:
        """How long to wait from `now` on: longer after each failure, at most ten minutes."""
        if not self.failed:
            return 0.0
        pause = min(FIRST_WAIT_SECONDS * 2.0 ** (self.failed - 1), LONGEST_WAIT_SECONDS)
        return max(0.0, self.last_ended + pause - now)


def run_under_way(instance: dg.DagsterInstance, kind: str) -> str | None:
    """The id of a run of that kind that is queued or running."""
    records = instance.get_run_records(dg.RunsFilter(tags={KIND_TAG: kind}, statuses=UNDER_WAY), limit=1)
    return records[0].dagster_run.run_id if records else None


def failed_attempts(instance: dg.DagsterInstance, plan_key: str) -> Attempts:
    """How often that very plan has failed already."""
    records = instance.get_run_records(dg.RunsFilter(tags={ATTEMPT_OF_TAG: plan_key}, statuses=FAILED), limit=50)
    return Attempts(len(records), max((each.end_time or 0.0 for each in records), default=0.0))
