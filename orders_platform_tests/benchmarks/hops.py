"""The platform's own steps, as the benchmark times them. Each function runs in a process of its own.

Imports stand inside: an interpreter's start and its imports are no part of a hop.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from orders_platform.contracts import Contract
from orders_platform.settings import Settings
from orders_platform_tests.benchmarks.events import Changes, Shape, produce
from orders_platform_tests.benchmarks.measure import Stopwatch, Timed


def _ingest_days(since: date) -> list[date]:
    """Today, and yesterday if midnight passed since the first event was sent."""
    today = datetime.now(UTC).date()
    return [since + timedelta(days=n) for n in range((today - since).days + 1)]


def to_bronze(settings: Settings, contract: Contract, since: date) -> Timed:
    """Topic to staging to bronze: all that is there."""
    from orders_platform.ingest.bronze import load_day
    from orders_platform.ingest.staging import stage_day
    from orders_platform.lake.catalog import open_catalog

    catalog = open_catalog(settings)
    staged = rows = 0
    with Stopwatch() as staging:
        for day in _ingest_days(since):
            staged += stage_day(settings, contract, day).records
    with Stopwatch() as loading:
        for day in _ingest_days(since):
            rows += load_day(settings, catalog, contract, day).rows
    seconds = staging.seconds + loading.seconds
    return Timed(
        seconds,
        {"staging_seconds": staging.seconds, "bronze_seconds": loading.seconds, "records": staged, "rows": rows},
    )


def to_silver(settings: Settings, contract: Contract) -> Timed:
    """Bronze to silver: all that silver has not applied."""
    from orders_platform.lake.catalog import open_catalog
    from orders_platform.lake.silver import merge_silver

    catalog = open_catalog(settings)
    with Stopwatch() as watch:
        result = merge_silver(settings, catalog, contract)
    return Timed(
        watch.seconds,
        {
            "rows_changed": result.rows_changed,
            "files_rewritten": result.files_rewritten,
            "bytes_rewritten": result.bytes_rewritten,
        },
    )


def audit_silver(settings: Settings, contracts: Sequence[Contract]) -> Timed:
    """Silver's blocking check, and the ref that gold reads."""
    from orders_platform.lake.audit import check_silver, mark_audited
    from orders_platform.lake.catalog import open_catalog

    catalog = open_catalog(settings)
    with Stopwatch() as watch:
        for contract in contracts:
            outcome = check_silver(settings, catalog, contract)
            if not outcome.passed:
                raise AssertionError(f"{contract.silver_table}: {outcome.description}")
            mark_audited(catalog, contract)
    return Timed(watch.seconds)


def to_gold(settings: Settings, order_date: date) -> Timed:
    """One order date of gold: plan, dbt, audit, publish."""
    from orders_platform.lake.catalog import open_catalog
    from orders_platform.lake.gold_run import build_gold

    catalog = open_catalog(settings)
    with Stopwatch() as watch:
        result = build_gold(settings, catalog, [order_date])
    return Timed(watch.seconds, {f"{model}_rows": rows.get(order_date, 0) for model, rows in result.rows.items()})


def to_clickhouse(settings: Settings, order_date: date) -> Timed:
    """One order date into ClickHouse: load, compare, swap, compare."""
    from orders_platform.lake.catalog import open_catalog
    from orders_platform.serving.daily_revenue import load_day

    catalog = open_catalog(settings)
    with Stopwatch() as watch:
        result = load_day(settings, catalog, order_date, "benchmark")
    return Timed(watch.seconds, {"rows": result.rows})


def many_commits(settings: Settings, contract: Contract, commits: int, rows: int, shape: Shape) -> Timed:
    """Micro-batches of `rows` events into a table of their own. Seconds of bronze's commits, early and late."""
    from orders_platform.ingest.bronze import load_day
    from orders_platform.ingest.staging import stage_day
    from orders_platform.lake.catalog import open_catalog

    catalog = open_catalog(settings)
    since = datetime.now(UTC).date()
    seconds = []
    for number in range(commits):
        changes = Changes(contract, rows, position=1 + number * rows, keys=f"i + 1 + {number * rows}")
        produce(settings, changes, shape)
        for day in _ingest_days(since):
            stage_day(settings, contract, day)
            with Stopwatch() as watch:
                load_day(settings, catalog, contract, day)
            seconds.append(watch.seconds)
    around = max(1, min(5, commits // 4))
    return Timed(
        sum(seconds),
        {"early_seconds": _median(seconds[10 - around : 10 + around]), "late_seconds": _median(seconds[-2 * around :])},
    )


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
