"""Each day of a run has its own rows and check results, whatever happens to the other days."""

from collections.abc import Iterator, Sequence
from datetime import date

import dagster as dg
import pytest

from orders_platform.defs.checks.per_day import DayResult, Event, daily_check, each_day
from orders_platform.defs.partitions import DAYS
from orders_platform.lake.outcome import CheckOutcome

KEY = dg.AssetKey("table")
CHECK = dg.AssetCheckKey(KEY, "equal")
START, END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


class Broken(Exception):
    """A contract is broken: nothing that passes by itself."""


def location(
    wrong: Sequence[str] = (),
    broken: Sequence[str] = (),
    order_dates: Sequence[str] | None = None,
    error: type[Exception] = Broken,
) -> dg.Definitions:
    """A table whose check fails on the `wrong` days, whose work fails on the `broken` ones, and a table behind it."""

    @dg.multi_asset(
        name="table",
        specs=[dg.AssetSpec("table", partitions_def=DAYS)],
        check_specs=[daily_check("table", "equal", "as it should be")],
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def table(context: dg.AssetExecutionContext) -> Iterator[Event]:
        def do(day: date) -> DayResult:
            if day.isoformat() in broken:
                raise error(f"bad contract of {day}")
            passed = day.isoformat() not in wrong
            return DayResult({"rows": day.day}, {"equal": CheckOutcome(passed, f"{day} compared", {"rows": day.day})})

        days = [date.fromisoformat(text) for text in order_dates] if order_dates else None
        yield from each_day(context, "table", do, days)

    @dg.multi_asset(
        name="behind",
        specs=[dg.AssetSpec("behind", deps=["table"], partitions_def=DAYS)],
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def behind(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(asset_key="behind", metadata={"days": len(context.partition_keys)})

    return dg.Definitions([table, behind], jobs=[dg.define_asset_job("both")])


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def run(
    instance: dg.DagsterInstance, definitions: dg.Definitions, first: str, last: str | None = None
) -> dg.ExecuteInProcessResult:
    job = definitions.resolve_job_def("both")
    if last is None:
        return job.execute_in_process(instance=instance, partition_key=first, raise_on_error=False)
    return job.execute_in_process(instance=instance, tags={START: first, END: last}, raise_on_error=False)


def rows(instance: dg.DagsterInstance) -> dict[str | None, object]:
    """Rows recorded for each day of the table."""
    records = instance.fetch_materializations(KEY, limit=100).records
    return {
        record.partition_key: record.asset_materialization.metadata["rows"].value
        for record in records
        if record.asset_materialization
    }


def results(instance: dg.DagsterInstance) -> dict[str | None, str]:
    """Check results by day; that of the run as a whole under None."""
    history = instance.event_log_storage.get_asset_check_execution_history(CHECK, limit=100)
    return {record.partition: record.status.value for record in reversed(history)}


def test_a_day_has_its_rows_and_its_check_result(instance: dg.DagsterInstance) -> None:
    assert run(instance, location(), "2026-05-03").success
    assert rows(instance) == {"2026-05-03": 3}
    assert results(instance) == {"2026-05-03": "SUCCEEDED"}


def test_a_range_has_rows_and_a_check_result_for_each_day(instance: dg.DagsterInstance) -> None:
    assert run(instance, location(), "2026-05-03", "2026-05-05").success
    assert rows(instance) == {"2026-05-03": 3, "2026-05-04": 4, "2026-05-05": 5}
    assert results(instance) == {
        "2026-05-03": "SUCCEEDED", "2026-05-04": "SUCCEEDED", "2026-05-05": "SUCCEEDED", None: "SUCCEEDED",
    }  # fmt: skip


def test_a_check_that_fails_for_one_day_of_a_range_says_which_and_stops_what_follows(
    instance: dg.DagsterInstance,
) -> None:
    done = run(instance, location(wrong=["2026-05-04"]), "2026-05-03", "2026-05-05")
    assert not done.success
    assert results(instance) == {
        "2026-05-03": "SUCCEEDED", "2026-05-04": "FAILED", "2026-05-05": "SUCCEEDED", None: "FAILED",
    }  # fmt: skip
    assert not instance.fetch_materializations(dg.AssetKey("behind"), limit=1).records
    latest = instance.event_log_storage.get_asset_check_execution_history(CHECK, limit=10)
    targets = {r.partition: r.evaluation.target_materialization_data for r in latest if r.evaluation and r.partition}
    assert all(targets.values()), "each result belongs to its day's materialization"


def test_a_day_that_fails_leaves_the_other_days_of_the_range_materialized(instance: dg.DagsterInstance) -> None:
    done = run(instance, location(broken=["2026-05-04"]), "2026-05-03", "2026-05-05")
    assert not done.success
    assert rows(instance) == {"2026-05-03": 3, "2026-05-05": 5}
    assert results(instance) == {"2026-05-03": "SUCCEEDED", "2026-05-04": "PLANNED", "2026-05-05": "SUCCEEDED"}
    (failure,) = [event for event in done.all_events if event.is_step_failure]
    assert (
        "1 of 3 days failed (2026-05-04: Broken: bad contract of 2026-05-04)"
        in failure.step_failure_data.error_display_string
    )
    assert not instance.fetch_materializations(dg.AssetKey("behind"), limit=1).records


def test_a_check_that_fails_is_red_for_its_day_although_another_day_breaks(instance: dg.DagsterInstance) -> None:
    broken = location(wrong=["2026-05-03"], broken=["2026-05-04"])
    assert not run(instance, broken, "2026-05-03", "2026-05-05").success
    assert results(instance) == {"2026-05-03": "FAILED", "2026-05-04": "PLANNED", "2026-05-05": "SUCCEEDED"}


def test_what_cannot_pass_is_not_tried_again_and_what_can_is(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orders_platform.defs.resources.passing_errors.FIRST_WAIT_SECONDS", 0.01)
    broken = run(instance, location(broken=["2026-05-04"]), "2026-05-04")
    assert not [event for event in broken.all_events if event.is_step_up_for_retry]
    flaky = run(instance, location(broken=["2026-05-04"], error=ConnectionResetError), "2026-05-04")
    assert not flaky.success
    assert len([event for event in flaky.all_events if event.is_step_up_for_retry]) == 4


def test_order_dates_that_are_not_the_runs_partition_are_recorded_as_theirs(instance: dg.DagsterInstance) -> None:
    dates = ["2026-02-19", "2026-05-20"]
    assert run(instance, location(order_dates=dates), "2026-05-20").success
    assert rows(instance) == {"2026-02-19": 19, "2026-05-20": 20}
    assert results(instance) == {"2026-02-19": "SUCCEEDED", "2026-05-20": "SUCCEEDED"}


def test_a_check_that_fails_for_an_order_date_of_the_config_stops_what_follows(instance: dg.DagsterInstance) -> None:
    done = run(instance, location(wrong=["2026-02-19"], order_dates=["2026-02-19", "2026-05-20"]), "2026-05-20")
    assert not done.success
    assert results(instance) == {"2026-02-19": "FAILED", "2026-05-20": "SUCCEEDED"}
    assert not instance.fetch_materializations(dg.AssetKey("behind"), limit=1).records


def test_a_date_before_the_first_partition_is_processed_without_a_record(instance: dg.DagsterInstance) -> None:
    assert run(instance, location(order_dates=["2014-12-31", "2026-05-20"]), "2026-05-20").success
    assert rows(instance) == {"2026-05-20": 20}
