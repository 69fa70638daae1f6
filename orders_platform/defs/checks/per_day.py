"""One result per day, also when a run carries a range of days.

Dagster records a single check result without a day for a range, and nothing at all about the days that went well when
another one failed. The functions here record each day's rows, metadata and check results as that day's.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from time import monotonic

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData

from orders_platform.defs.partitions import DAYS, is_partition, run_days
from orders_platform.defs.resources.passing_errors import retried
from orders_platform.lake.outcome import CheckOutcome

Event = dg.MaterializeResult[None] | dg.AssetMaterialization | dg.AssetCheckEvaluation | dg.AssetCheckResult
Metadata = Mapping[str, int | float | str]


@dataclass(frozen=True)
class DayResult:
    """What a step says of one day: numbers for the UI, and the outcome of each check by its name."""

    metadata: Metadata
    checks: Mapping[str, CheckOutcome] = field(default_factory=dict)


def daily_check(
    asset: str | dg.AssetKey, name: str, description: str | None, *, blocking: bool = True
) -> dg.AssetCheckSpec:
    """A check with a result for each day; when it fails, and is `blocking`, nothing after it runs."""
    with warnings.catch_warnings():
        # Checks with partitions are a preview feature of Dagster 1.13: the one warning that is accepted.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(name, asset=asset, description=description, blocking=blocking, partitions_def=DAYS)


def each_day(
    context: dg.AssetExecutionContext, asset: str, do: Callable[[date], DayResult], days: Sequence[date] | None = None
) -> Iterator[Event]:
    """Does the work of each day and records it as that day's; days that can be done are done although others fail.

    `days` are the run's partitions unless given; those beyond the run's partitions are recorded one by one.

    Raises:
        dagster.RetryRequested: an error that may pass; the next attempt starts from what is already committed.
        dagster.Failure: naming the days that failed. The others stand, and are recorded.
    """
    done: dict[date, DayResult] = {}
    failed: dict[date, Exception] = {}
    for day in run_days(context) if days is None else days:
        try:
            started = monotonic()
            with retried(context):
                result = do(day)
            done[day] = replace(result, metadata={**result.metadata, "seconds": round(monotonic() - started, 3)})
        except dg.RetryRequested:
            raise
        except Exception as error:
            context.log.error(f"{asset}: {day} failed: {type(error).__name__}: {error}", exc_info=error)
            failed[day] = error
    yield from days_failed(context, asset, done, failed) if failed else days_done(context, asset, done)


def days_done(context: dg.AssetExecutionContext, asset: str, done: Mapping[date, DayResult]) -> Iterator[Event]:
    """Records days that went well: the run's own partitions as its result, others as events of their own."""
    key = dg.AssetKey(asset)
    own = run_days(context)
    for day in own:
        context.add_asset_metadata(dict(done[day].metadata) if day in done else {}, key, day.isoformat())
    yield dg.MaterializeResult(asset_key=key)
    yield from _materializations(key, {day: result for day, result in done.items() if day not in own})
    yield from checks_done(context, asset, done)


def checks_done(context: dg.AssetExecutionContext, asset: str, done: Mapping[date, DayResult]) -> Iterator[Event]:
    """Records the check results of days: each as its day's, and what they come to as the run's."""
    key, own = dg.AssetKey(asset), run_days(context)
    selected = {check.name for check in context.selected_asset_check_keys if check.asset_key == key}
    selected &= {name for result in done.values() for name in result.checks}
    alone = len(own) == 1
    for day, result in done.items():
        if not (alone and day in own):
            yield from _evaluations(context, key, day, {n: o for n, o in result.checks.items() if n in selected})
    for name in sorted(selected):
        of_run = {day: done[day].checks[name] for day in own if day in done and name in done[day].checks}
        yield _aggregate(key, name, of_run)


def days_failed(
    context: dg.AssetExecutionContext,
    asset: str,
    done: Mapping[date, DayResult],
    failed: Mapping[date, Exception],
) -> Iterator[Event]:
    """Records the days that went well, with their check results, and raises `dagster.Failure` for the others."""
    yield from days_recorded(context, asset, done)
    reasons = {day.isoformat(): f"{type(error).__name__}: {error}" for day, error in failed.items()}
    total, named = len(done) + len(failed), "; ".join(f"{day}: {reason}" for day, reason in reasons.items())
    which = f"{len(failed)} of {total} days failed ({named}). The other days stand." if total > 1 else named
    raise dg.Failure(
        description=f"{asset}: {which} Repair the cause and materialize what failed again.",
        metadata=reasons,
        allow_retries=False,
    ) from next(iter(failed.values()))


def days_recorded(
    context: dg.AssetExecutionContext,
    asset: str,
    done: Mapping[date, DayResult],
    refused: Mapping[date, DayResult] | None = None,
) -> Iterator[Event]:
    """Records days of a step that is about to fail: those that went well, and the checks of those that did not."""
    key = dg.AssetKey(asset)
    yield from _materializations(key, done)
    selected = {check.name for check in context.selected_asset_check_keys if check.asset_key == key}
    for day, result in {**done, **(refused or {})}.items():
        yield from _evaluations(context, key, day, {n: o for n, o in result.checks.items() if n in selected})


def _materializations(key: dg.AssetKey, done: Mapping[date, DayResult]) -> Iterator[dg.AssetMaterialization]:
    for day, result in done.items():
        if is_partition(day):
            yield dg.AssetMaterialization(key, partition=day.isoformat(), metadata=dict(result.metadata))


def _evaluations(
    context: dg.AssetExecutionContext, key: dg.AssetKey, day: date, checks: Mapping[str, CheckOutcome]
) -> Iterator[dg.AssetCheckEvaluation]:
    """The day's check results, tied to the materialization that this run has just recorded for it."""
    if not checks or not is_partition(day):
        return
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[day.isoformat()])
    latest = context.instance.fetch_materializations(wanted, limit=1).records
    target = (
        AssetCheckEvaluationTargetMaterializationData(
            storage_id=latest[0].storage_id, run_id=latest[0].event_log_entry.run_id, timestamp=latest[0].timestamp
        )
        if latest
        else None
    )
    for name, outcome in checks.items():
        yield dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=name,
            passed=outcome.passed,
            severity=_severity([outcome]),
            description=outcome.description,
            metadata=dict(outcome.metadata),
            target_materialization_data=target,
            blocking=not outcome.warns_only,
            partition=day.isoformat(),
        )


def _aggregate(key: dg.AssetKey, name: str, outcomes: Mapping[date, CheckOutcome]) -> dg.AssetCheckResult:
    """The run's own result of a check: its only day's, or that of all its days."""
    if len(outcomes) == 1:
        (outcome,) = outcomes.values()
        return dg.AssetCheckResult(
            asset_key=key,
            check_name=name,
            passed=outcome.passed,
            severity=_severity([outcome]),
            description=outcome.description,
            metadata=dict(outcome.metadata),
        )
    bad = sorted(day.isoformat() for day, outcome in outcomes.items() if not outcome.passed)
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=not bad,
        severity=_severity(outcomes.values()),
        description=f"failed for {', '.join(bad)}" if bad else f"passed for each of {len(outcomes)} days",
        metadata={"days": len(outcomes), "failed_days": len(bad)},
    )


def _severity(outcomes: Iterable[CheckOutcome]) -> dg.AssetCheckSeverity:
    """What a failure means: a blocking check holds back what follows unless all failures only warn."""
    failed = [outcome for outcome in outcomes if not outcome.passed]
    only_warnings = bool(failed) and all(outcome.warns_only for outcome in failed)
    return dg.AssetCheckSeverity.WARN if only_warnings else dg.AssetCheckSeverity.ERROR
