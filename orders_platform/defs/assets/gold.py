"""`gold_*`: dbt's models by order date, written where nobody reads, tested there, then published together.

An order date that a test refuses is published in none of the models, and keeps no other date from being published.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

import dagster as dg

from orders_platform.defs.assets.dbt_manifest import DbtModel
from orders_platform.defs.assets.order_dates import OrderDatesConfig
from orders_platform.defs.checks.per_day import DayResult, Event, checks_done, days_done, days_recorded
from orders_platform.defs.partitions import DAYS
from orders_platform.defs.resources.dbt import DbtBuild, DbtBuildError, NodeResult
from orders_platform.defs.resources.passing_errors import retried
from orders_platform.defs.resources.platform import Platform
from orders_platform.lake.outcome import CheckOutcome

if TYPE_CHECKING:
    from orders_platform.lake.gold_run import GoldResult

OP = "gold"


def gold_assets(models: Sequence[DbtModel]) -> dg.AssetsDefinition:
    """All models as one step: a date is tested in all of them, and published in all of them or in none."""

    @dg.multi_asset(
        name=OP,
        specs=[model.spec.replace_attributes(partitions_def=DAYS) for model in models],
        check_specs=[test for model in models for test in model.tests.values()],
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=OP,
    )
    def build(
        context: dg.AssetExecutionContext, config: OrderDatesConfig, platform: dg.ResourceParam[Platform]
    ) -> Iterator[Event]:
        from orders_platform.lake.gold_run import DatesRefusedError, build_gold

        dbt = DbtBuild(context.log.info)
        try:
            with retried(context):
                result = build_gold(
                    platform.settings,
                    platform.catalog,
                    config.dates_of(context),
                    by_hand=not config.order_dates,
                    run_dbt=dbt,
                )
        except DatesRefusedError as error:
            for model in models:
                done = _days(model, error.result, dbt.results) if error.result else {}
                name = model.spec.key.to_user_string()
                yield from days_recorded(context, name, done, _refused(model, error.refused, dbt.failed))
            raise dg.Failure(description=str(error), allow_retries=False) from error
        except DbtBuildError as error:
            dates = config.dates_of(context)
            for model in models:
                said = DayResult({}, _checks(model, dbt.results))
                yield from checks_done(context, model.spec.key.to_user_string(), dict.fromkeys(dates, said))
            raise dg.Failure(
                description=f"gold was not published, readers see what they saw before: {error}", allow_retries=False
            ) from error
        for model in models:
            yield from days_done(context, model.spec.key.to_user_string(), _days(model, result, dbt.results))

    return build


def _days(model: DbtModel, result: "GoldResult", said: Mapping[str, NodeResult]) -> dict[date, DayResult]:
    """Rows of each order date of a model, and the figures of the build."""
    stored = next(each for each in result.published if each.model == model.spec.key.to_user_string())
    of_run: dict[str, int | float | str] = {
        "bytes": stored.bytes,
        "order_dates": len(result.dates),
        "stale_dates_left": len(result.left),
        "seconds": round(said[model.unique_id].seconds, 3),
        "snapshot_id": str(stored.snapshot_id),
    }
    return {
        day: DayResult(
            {"dagster/partition_row_count": stored.rows.get(day, 0), "rows": stored.rows.get(day, 0), **of_run},
            _checks(model, said),
        )
        for day in result.dates
    }


def _refused(
    model: DbtModel, refused: Mapping[str, frozenset[date]], said: Mapping[str, NodeResult]
) -> dict[date, DayResult]:
    """The tests of a model that failed, for each order date that they refuse."""
    own = {test: days for test, days in refused.items() if test in model.tests}
    return {
        day: DayResult({}, _checks(model, {test: said[test] for test in own if day in own[test]}))
        for day in frozenset[date]().union(*own.values())
    }


def _checks(model: DbtModel, said: Mapping[str, NodeResult]) -> dict[str, CheckOutcome]:
    """What dbt's tests of a model say."""
    return {
        spec.name: CheckOutcome(
            passed=result.passed,
            description=result.message,
            metadata={"failures": result.failures, "seconds": round(result.seconds, 3)},
            warns_only=result.status == "warn",
        )
        for unique_id, spec in model.tests.items()
        if (result := said.get(unique_id)) is not None and result.status != "skipped"
    }
