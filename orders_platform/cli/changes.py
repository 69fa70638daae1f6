"""Commands that make changes, carry them and compare: `shop`, `sync`, `reconcile`, `demo`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from orders_platform.cli.app import (
    NOT_COMPARED,
    WRONG,
    Json,
    app,
    document_of_failure,
    err,
    explained,
    explained_with,
    out,
    print_json,
    steps,
)
from orders_platform.settings import load

if TYPE_CHECKING:
    from orders_platform.defs.demo import DemoReport, RevenueRow
    from orders_platform.defs.sync import SyncReport


@app.command(rich_help_panel="Changes and where they go")
@explained
def shop(
    rate: Annotated[float, typer.Option(help="Changed rows a second.", min=0.1)] = 50.0,
    minutes: Annotated[float | None, typer.Option(help="How long to write; without end if not given.", min=0.0)] = None,
    seed: Annotated[int, typer.Option(help="The same seed on the same rows writes the same changes.")] = 0,
    history: Annotated[int, typer.Option(help="Past days to fill with orders first.", min=0)] = 0,
    into_postgres_dsn: Annotated[
        bool,
        typer.Option(
            "--into-postgres-dsn",
            help="Write to the database that ORDERS_PLATFORM_POSTGRES_DSN names: made-up rows, changed keys, deletes.",
        ),
    ] = False,
) -> None:
    """Write to PostgreSQL as a real shop does: orders through their whole life, refunds, moves, price changes, deletes.

    Example: `orders-platform shop --rate 500 --minutes 5 --history 90 --seed 7`
    """
    from orders_platform.stack.shop import apply_schema, place_of, require_own_postgres, run_shop

    settings = load()
    if not into_postgres_dsn:
        require_own_postgres(settings)
    elif settings.postgres_dsn is not None:
        err.print(f"the shop writes to {place_of(settings.postgres)}", markup=False, highlight=False)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as progress:
        task = progress.add_task("shop", total=minutes * 60 if minutes is not None else None)
        apply_schema(settings.postgres)
        report = run_shop(
            settings.postgres,
            rate,
            minutes,
            seed,
            history,
            progress=lambda so_far: progress.update(
                task,
                completed=so_far.seconds,
                description=f"shop: {so_far.history_rows:,} rows of history, {so_far.total:,} changes",
            ),
        )
    out.print(
        f"{report.history_rows:,} rows of history, {report.total:,} changes in {report.transactions:,} transactions"
    )


@app.command(rich_help_panel="Changes and where they go")
@explained
def sync(
    topic_prefix: Annotated[str | None, typer.Option(help="Debezium's topic.prefix, where it is not `orders`.")] = None,
    as_json: Json = False,
) -> None:
    """Bring everything up to date once, without the daemon: from what Kafka holds now to ClickHouse.

    Runs the same assets as Dagster does. Exit 0 when caught up with what was there at the start, 1 when not.
    Works on topics that another Debezium fills: give its prefix and Kafka's address.

    Example: `ORDERS_PLATFORM_KAFKA__BOOTSTRAP_SERVERS=kafka:9092 orders-platform sync --topic-prefix erp`
    """
    from orders_platform.defs.sync import sync as run_sync

    settings = load(**({"topic_prefix": topic_prefix} if topic_prefix else {}))
    with document_of_failure(as_json, {"caught_up": False}), steps(as_json) as step:
        report = run_sync(settings, step)
    if as_json:
        print_json({"caught_up": True, "runs": report.runs, "seconds": report.seconds, "hops": _hops(report)})
    else:
        _show_hops(report)


def _hops(report: SyncReport) -> Mapping[str, Any]:
    return {name: {"rows": hop.rows, "seconds": round(hop.seconds, 3)} for name, hop in report.hops.items()}


def _show_hops(report: SyncReport) -> None:
    table = Table("hop", "rows", "seconds", box=None)
    for name, hop in report.hops.items():
        table.add_row(name, f"{hop.rows:,}", f"{hop.seconds:.1f}")
    out.print(table)
    out.print(f"caught up in {report.seconds:.1f} s, {report.runs} runs")


@app.command(rich_help_panel="Changes and where they go")
@explained_with(NOT_COMPARED)
def reconcile(
    limit: Annotated[int, typer.Option(help="How many differing rows to name for each table.", min=1)] = 20,
    wait: Annotated[
        float, typer.Option(help="Seconds in which what differs may become equal: it may only be late.", min=0)
    ] = 120.0,
    as_json: Json = False,
) -> None:
    """Compare silver with PostgreSQL row by row, gold with silver, ClickHouse with gold. Exit 1 if anything differs,
    3 if they could not be compared.

    The shop may go on writing meanwhile. Example: `orders-platform reconcile --limit 3 --wait 10`
    """
    from orders_platform.lake.catalog import open_catalog
    from orders_platform.quality.comparison import Patience
    from orders_platform.quality.reconcile import reconcile as run_reconcile

    settings = load()
    with document_of_failure(as_json, {"equal": None}), steps(as_json) as step:
        report = run_reconcile(
            settings, open_catalog(settings), limit=limit, progress=step, patience=Patience(limit_seconds=wait)
        )
    if as_json:
        print_json(report.to_dict())
    else:
        for comparison in report.tables:
            out.print(str(comparison), style=None if comparison.equal else "red", markup=False, highlight=False)
    if not report.equal:
        raise typer.Exit(WRONG)


@app.command(rich_help_panel="Changes and where they go")
@explained
def demo(
    rate: Annotated[float, typer.Option(help="Changed rows a second while it is live.", min=1)] = 100.0,
    seconds: Annotated[float, typer.Option(help="How long the shop writes live.", min=1)] = 20.0,
    history: Annotated[int, typer.Option(help="Past days to fill with orders first.", min=0)] = 7,
) -> None:
    """The main job, end to end, on live changes: starts the stack, runs a shop, carries its changes to ClickHouse,
    compares every row, and shows the daily revenue beside PostgreSQL's own. Stops what it started;
    on parts of the stack that run already it shows the same, adds its shop's rows to them and leaves them running.
    """
    from orders_platform.defs.demo import run_demo

    with steps() as step:
        report = run_demo(load(), rate=rate, seconds=seconds, history_days=history, progress=step)
    show_demo(report)
    if not report.equal:
        raise typer.Exit(WRONG)


def show_demo(report: DemoReport) -> None:
    """Prints the figures, the hops, each comparison, and whether all are equal."""
    _show_revenue(report.revenue)
    _show_hops(report.sync)
    for comparison in report.reconciled.tables:
        out.print(str(comparison), style=None if comparison.equal else "red", markup=False, highlight=False)
    out.print(f"{len(report.revenue)} rows of daily revenue, {'all equal' if report.equal else 'NOT EQUAL'}")


def _show_revenue(rows: Sequence[RevenueRow]) -> None:
    """Daily revenue by currency, summed over the regions; each region by itself is compared too."""
    table = Table("order date", "currency", "orders", "ClickHouse", "PostgreSQL", "", box=None)
    for (day, currency), of_day in groupby(sorted(rows, key=_day_and_currency), key=_day_and_currency):
        regions = list(of_day)
        sums = [f"{sum(getattr(row, name) for row in regions):,.2f}" for name in ("clickhouse", "postgres")]
        equal = "[green]=[/]" if all(row.equal for row in regions) else "[red]≠[/]"
        table.add_row(day, currency, f"{sum(row.orders for row in regions):,}", *sums, equal)
    for column in table.columns[2:5]:
        column.justify = "right"
    out.print(table)


def _day_and_currency(row: RevenueRow) -> tuple[str, str]:
    day, _, currency = row.key
    return day, currency
