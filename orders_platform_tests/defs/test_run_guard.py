"""What keeps sensors from asking twice, too often, or never again."""

import json
import logging
import time
from collections.abc import Iterator
from datetime import date

import dagster as dg
import pytest

from orders_platform.defs.automation.failure_alerts import alert, failed_runs
from orders_platform.defs.automation.run_guard import (
    ATTEMPT_OF_TAG,
    KIND_TAG,
    REASON_TAG,
    Attempts,
    attempts_of,
    run_under_way,
)
from orders_platform.defs.automation.stale_dates import OrderDatesRun, order_dates_request
from orders_platform.defs.resources.passing_errors import may_pass
from orders_platform.ingest.errors import BrokerUnavailableError, TopicMissingError
from orders_platform.lake.commits import ConflictError


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


@dg.op
def breaks() -> None:
    raise ValueError("bad contract")


@dg.job
def breaking() -> None:
    breaks()


@pytest.mark.parametrize(
    ("failed", "since_seconds", "wait_seconds"), [(0, 0, 0), (1, 0, 5), (1, 9, 0), (3, 1, 19), (20, 100, 500)]
)
def test_each_failure_makes_the_next_attempt_wait_longer_up_to_ten_minutes(
    failed: int, since_seconds: float, wait_seconds: float
) -> None:
    assert Attempts(failed, last_ended=1000.0).wait_seconds(1000.0 + since_seconds) == wait_seconds


def test_a_run_counts_as_under_way_until_it_ends(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(breaking, tags={KIND_TAG: "lag"})
    assert run_under_way(instance, "lag") == run.run_id
    assert run_under_way(instance, "other") is None
    instance.report_run_canceled(run)
    assert run_under_way(instance, "lag") is None


def test_attempts_of_a_plan_are_counted_from_the_runs(instance: dg.DagsterInstance) -> None:
    for _ in range(2):
        done = breaking.execute_in_process(instance=instance, tags={ATTEMPT_OF_TAG: "plan"}, raise_on_error=False)
    attempts = attempts_of(instance, "plan")
    assert (attempts.ended, attempts.last_run) == (2, done.run_id)
    assert time.time() - attempts.last_ended < 60
    assert attempts_of(instance, "another plan") == Attempts()


def test_a_failed_run_is_one_structured_line(instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture) -> None:
    done = breaking.execute_in_process(instance=instance, tags={REASON_TAG: "why"}, raise_on_error=False)
    context = dg.build_run_status_sensor_context(
        sensor_name="failed_runs",
        dagster_instance=instance,
        dagster_run=done.dagster_run,
        dagster_event=done.get_run_failure_event(),
    ).for_run_failure()
    with caplog.at_level(logging.ERROR, "orders_platform.alerts"):
        failed_runs(context)
    (line,) = [record.message for record in caplog.records if record.name == "orders_platform.alerts"]
    said = json.loads(line)
    assert said == json.loads(json.dumps(alert(context)))
    assert (said["run_id"], said["reason"], said["job"]) == (done.run_id, "why", "breaking")
    assert "bad contract" in said["steps"]["breaks"]


def test_dates_far_apart_are_one_run_whose_partition_is_the_newest() -> None:
    run = OrderDatesRun((date(2026, 2, 19), date(2026, 5, 20)), gold=True, state="s1")
    request = order_dates_request(run, Attempts())
    assert request.partition_key == "2026-05-20"
    dates = {"order_dates": ["2026-02-19", "2026-05-20"]}
    assert request.run_config == {"ops": {"gold": {"config": dates}, "clickhouse_daily_revenue": {"config": dates}}}
    assert "2 order dates stale in gold" in request.tags[REASON_TAG]
    assert order_dates_request(run, Attempts(1, 0.0, "a run")).run_key != request.run_key
    assert OrderDatesRun(run.dates, gold=True, state="s2").key != run.key
    assert OrderDatesRun(run.dates, gold=True, state="s1", heads="h2").key != run.key


def test_dates_stale_in_clickhouse_alone_do_not_rebuild_gold() -> None:
    request = order_dates_request(OrderDatesRun((date(2026, 2, 19),), gold=False), Attempts())
    assert request.asset_selection == [dg.AssetKey("clickhouse_daily_revenue")]
    assert list(request.run_config["ops"]) == ["clickhouse_daily_revenue"]


def test_a_run_for_dates_that_are_no_partitions_takes_todays() -> None:
    run = OrderDatesRun((date(2014, 12, 31),), gold=True)
    assert run.partition > date(2014, 12, 31)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (BrokerUnavailableError("down"), True),
        (ConflictError("lost the race"), True),
        (ConnectionRefusedError("store"), True),
        (TimeoutError("catalog"), True),
        (TopicMissingError("no topic"), False),
        (ValueError("bad contract"), False),
    ],
)
def test_only_what_can_pass_is_tried_again(error: Exception, passes: bool) -> None:
    assert may_pass(error) is passes
