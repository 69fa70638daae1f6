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


def fill_shop(settings: Settings, contract: Contract) -> Timed:
    """PostgreSQL's table with the rows that silver has."""
    import psycopg

    from orders_platform.lake.catalog import open_catalog
    from orders_platform.lake.duckdb_engine import connect, scan_sql
    from orders_platform.stack.shop import apply_schema

    apply_schema(settings.postgres)
    rows = settings.home / "rows.csv"
    columns = ", ".join(contract.column_names)
    silver = scan_sql(open_catalog(settings).load_table(contract.silver_table))
    with connect(settings) as con:
        con.execute(f"COPY (SELECT {columns} FROM {silver} WHERE NOT _deleted) TO '{rows}' (FORMAT csv, HEADER false)")
    with psycopg.connect(settings.postgres, autocommit=True) as connection, Stopwatch() as watch:
        connection.execute("SET session_replication_role = replica")  # orders only: no customers to refer to
        with (
            connection.cursor() as cursor,
            cursor.copy(f"COPY {contract.table} ({columns}) FROM STDIN (FORMAT csv)") as c,
            rows.open("rb") as file,
        ):
            while block := file.read(1 << 20):
                c.write(block)
        connection.execute(f"VACUUM (ANALYZE) {contract.table}")
    return Timed(watch.seconds)


def reconcile(settings: Settings, contract: Contract, wrong_cells: int) -> Timed:
    """All rows of a silver table beside PostgreSQL's; `wrong_cells` are altered there before, and must be found."""
    import psycopg

    from orders_platform.lake.catalog import open_catalog
    from orders_platform.quality.comparison import Patience
    from orders_platform.quality.key_range import EVERYTHING
    from orders_platform.quality.reconcile import reconcile_range

    with psycopg.connect(settings.postgres) as connection:
        connection.execute(
            "UPDATE orders SET refunded = refunded + 0.01"
            " WHERE order_id IN (SELECT order_id FROM orders ORDER BY order_id OFFSET 777 LIMIT %s)",
            [wrong_cells],
        )
    catalog = open_catalog(settings)
    nothing_moves = Patience(limit_seconds=0)
    with Stopwatch() as watch:
        found = reconcile_range(settings, catalog, contract, EVERYTHING, patience=nothing_moves)
    if (found.differing, len(found.differences)) != (wrong_cells, wrong_cells):
        raise AssertionError(str(found))
    return Timed(watch.seconds, {"rows": found.rows})


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
