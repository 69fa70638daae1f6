"""Keeps sensors from asking twice: what is under way, what has failed, and how long to wait after a failure.

Dagster skips a run key that was used for ever, however its run ended. A state of the tables may come back, by a
rollback or a kill at the same point, so a key names the state and the last run that was made for it.
Tables are loaded together, and each may fail by itself: their attempts are counted by table and position, so that one
that does not get on waits longer each time, and the others do not.
Nothing is requested while a run of the same kind is queued or running, or queues would grow when runs are slow.
"""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg

KIND_TAG = "orders-platform/kind"
REASON_TAG = "orders-platform/reason"
ATTEMPT_OF_TAG = "orders-platform/attempt-of"
POSITION_TAG = "orders-platform/position-of-"
"""Followed by a table's name: where the table stood when the run was asked for."""

FIRST_WAIT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 600.0

UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dataclass(frozen=True)
class Attempts:
    """Runs of the same plan, or from a table's same position, that have ended; when the last one did (seconds since
    1970), and its id.

    One that went well counts too: the same plan is due again because its state came back, or because nothing moved.
    """

    ended: int = 0
    last_ended: float = 0.0
    last_run: str = ""

    def wait_seconds(self, now: float) -> float:
        """How long to wait from `now` on: longer after each attempt, at most ten minutes."""
        if not self.ended:
            return 0.0
        pause = min(FIRST_WAIT_SECONDS * 2.0 ** min(self.ended - 1, 10), LONGEST_WAIT_SECONDS)
        return max(0.0, self.last_ended + pause - now)


def run_under_way(instance: dg.DagsterInstance, kind: str) -> str | None:
    """The id of a run of that kind that is queued or running."""
    records = instance.get_run_records(dg.RunsFilter(tags={KIND_TAG: kind}, statuses=UNDER_WAY), limit=1)
    return records[0].dagster_run.run_id if records else None


def last_run_failed(instance: dg.DagsterInstance, kind: str) -> bool:
    """Whether the newest run of that kind that has ended did not go well."""
    records = instance.get_run_records(dg.RunsFilter(tags={KIND_TAG: kind}, statuses=ENDED), limit=1)
    return bool(records) and records[0].dagster_run.status is not dg.DagsterRunStatus.SUCCESS


def attempts_of(instance: dg.DagsterInstance, plan_key: str) -> Attempts:
    """What has been tried of that very plan."""
    return _ended(instance, ATTEMPT_OF_TAG, plan_key)


def attempts_at(instance: dg.DagsterInstance, table: str, position: str) -> Attempts:
    """What has been tried with a table since it came to that position: all of it left the table where it was."""
    return _ended(instance, f"{POSITION_TAG}{table}", position)


def _ended(instance: dg.DagsterInstance, tag: str, value: str) -> Attempts:
    wanted = dg.RunsFilter(tags={tag: value}, statuses=ENDED)
    newest = instance.get_run_records(wanted, limit=1)
    if not newest:
        return Attempts()
    return Attempts(instance.get_runs_count(wanted), newest[0].end_time or 0.0, newest[0].dagster_run.run_id)


def run_key(plan_key: str, attempts: Attempts) -> str:
    """The same for a repeated tick, and another one as soon as a run of the plan has ended."""
    return f"{plan_key}-after-{attempts.last_run}" if attempts.last_run else plan_key
