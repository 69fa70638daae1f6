"""Work that is due again is asked for with a run key that Dagster has not seen, whatever happened before."""

from collections.abc import Iterator
from datetime import date

import dagster as dg
import pytest

from orders_platform.defs.automation.behind import LakeState
from orders_platform.defs.automation.ingest_plan import IngestRun, UnreadDay, plan_ingest
from orders_platform.defs.automation.kafka_lag import ingest_request
from orders_platform.defs.automation.run_guard import attempts_at
from orders_platform.defs.resources.platform import Platform
from orders_platform.ingest.offsets import OffsetRange
from orders_platform.lake.audit import check_silver, mark_audited
from orders_platform.lake.silver import merge_silver
from orders_platform.settings import Settings
from orders_platform_tests.defs.run_keys import RUN_KEY_TAG, is_new
from orders_platform_tests.lake.changes import append, contract, order

TODAY = date(2026, 5, 20)
ORDERS = contract("orders")


@dg.job
def some_job() -> None:
    """Stands for a run that ends as the test says."""


class Daemon:
    """Asks for the runs of a plan as the sensor does, and launches them by Dagster's rule."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance

    def request(self, run: IngestRun) -> dg.RunRequest:
        (attempts,) = {attempts_at(self._instance, table, at) for table, at in run.positions.items()}
        return ingest_request(run, "why", attempts)

    def launch(self, run: IngestRun, status: dg.DagsterRunStatus) -> None:
        request = self.request(run)
        assert request.run_key == self.request(run).run_key, "a repeated tick asks for the same run"
        assert request.run_key is not None
        assert is_new(self._instance, request.run_key), "the daemon would skip this run for ever"
        tags = {**request.tags, RUN_KEY_TAG: request.run_key}
        self._instance.create_run_for_job(some_job, tags=tags, status=status)


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Daemon(instance)


def merge_only(platform: Platform) -> IngestRun:
    """The plan when bronze of orders is complete, and silver is not."""
    state = LakeState.of(platform, ORDERS)
    assert state.silver_is_behind
    (run,) = plan_ingest([], ("orders",), TODAY, 100, {"orders": state.heads}, {"orders": state.position})
    return run


def merge(platform: Platform) -> None:
    merge_silver(platform.settings, platform.catalog, ORDERS)
    checked = check_silver(platform.settings, platform.catalog, ORDERS).metadata["snapshot_id"]
    mark_audited(platform.catalog, ORDERS, int(checked))
    assert not LakeState.of(platform, ORDERS).silver_is_behind


def test_a_table_that_is_behind_twice_in_a_day_is_merged_twice(daemon: Daemon, settings: Settings) -> None:
    platform = Platform(settings)
    keys = set()
    for number in (1, 2):
        append(settings, platform.catalog, ORDERS, [order(number, "c", number)])
        run = merge_only(platform)
        daemon.launch(run, dg.DagsterRunStatus.SUCCESS)
        keys.add(run.key)
        merge(platform)
    assert len(keys) == 2, "the second is no further attempt of the first, and need not wait"


def test_a_state_that_a_rollback_brings_back_is_worked_on_again(daemon: Daemon, settings: Settings) -> None:
    platform = Platform(settings)
    append(settings, platform.catalog, ORDERS, [order(1, "c", 1)])
    merge(platform)
    before = platform.catalog.load_table("bronze.orders").metadata.current_snapshot_id
    waiting = [UnreadDay("orders", TODAY, (OffsetRange(0, 2, 3),), 1)]
    for _ in range(2):
        state = LakeState.of(platform, ORDERS)
        heads = {"orders": state.heads}
        (run,) = plan_ingest(waiting, (), TODAY, 100, heads, {"orders": state.position})
        daemon.launch(run, dg.DagsterRunStatus.SUCCESS)
        append(settings, platform.catalog, ORDERS, [order(2, "c", 2)])
        assert LakeState.of(platform, ORDERS).heads != heads["orders"]
        assert before is not None
        platform.catalog.load_table("bronze.orders").manage_snapshots().set_current_snapshot(
            snapshot_id=before
        ).commit()
        assert LakeState.of(platform, ORDERS).heads == heads["orders"]


def test_the_sixtieth_failure_is_followed_by_another_attempt(daemon: Daemon) -> None:
    waiting = [UnreadDay("orders", TODAY, (OffsetRange(0, 2, 3),), 1)]
    (run,) = plan_ingest(waiting, (), TODAY, 100, {}, {"orders": "here"})
    for _ in range(61):
        daemon.launch(run, dg.DagsterRunStatus.FAILURE)
