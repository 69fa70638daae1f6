"""Dagster's own rule of run keys, for tests: the daemon launches no second run with a key that a run has had."""

import dagster as dg

RUN_KEY_TAG = "dagster/run_key"


def is_new(instance: dg.DagsterInstance, key: str) -> bool:
    """Whether the daemon would launch a run with that key."""
    runs = instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: key}))
    return all(run.status is dg.DagsterRunStatus.NOT_STARTED for run in runs)
