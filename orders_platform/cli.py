"""`orders-platform …`: the platform from a terminal. Heavy parts are imported by the commands that use them."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from orders_platform.settings import SettingsError, load

if TYPE_CHECKING:
    from orders_platform.defs.sync import SyncReport
    from orders_platform.stack import StackStatus

P = ParamSpec("P")
R = TypeVar("R")

OK, WRONG, USAGE, INTERRUPTED = 0, 1, 2, 130
EXIT_CODES = (
    "Exit codes: 0 done, healthy, caught up, equal; 1 something is not; 2 wrong usage or settings; 130 interrupted.\n\n"
    "Settings are environment variables ORDERS_PLATFORM_… (or a .env file); `doctor` names what is wrong."
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]

out = Console()
err = Console(stderr=True)


def _group(help_text: str) -> typer.Typer:
    return typer.Typer(
        help=help_text, epilog=EXIT_CODES, no_args_is_help=True, rich_markup_mode="markdown", add_completion=False
    )


app = _group(
    "Carries a shop's changes from PostgreSQL to its dashboards, exactly once.\n\n"
    "First time? `orders-platform demo` shows all of it. For a stack to play with: `up`, then `shop --minutes 1`, "
    "`sync`, `reconcile`, and at the end `down`."
)
dead_letters = _group("Records that could not be decoded, with their reason and raw bytes.")
ledger = _group("What is loaded: the offsets that each bronze table holds.")
app.add_typer(dead_letters, name="dead-letters")
app.add_typer(ledger, name="ledger")


def main() -> None:
    """Entry point of the command."""
    app(prog_name="orders-platform")


def _known_errors() -> tuple[type[Exception], ...]:
    """Errors whose message is written for the person who typed the command: no traceback for them."""
    from orders_platform.contracts import ContractError
    from orders_platform.defs.assets.dbt_manifest import ManifestError
    from orders_platform.defs.demo import DemoError
    from orders_platform.defs.resources.passing_errors import may_pass
    from orders_platform.defs.sync import SyncError
    from orders_platform.ingest.errors import IngestError
    from orders_platform.quality.reconcile import ReconcileError
    from orders_platform.stack import StackError

    error = sys.exception()
    passing = (type(error),) if isinstance(error, Exception) and may_pass(error) else ()
    return (ContractError, ManifestError, SyncError, DemoError, IngestError, ReconcileError, StackError, *passing)


def _explained(command: Callable[P, R]) -> Callable[P, R]:
    """Turns errors into a sentence and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except SettingsError as error:
            err.print(f"[red]error:[/] {error}", highlight=False)
            raise typer.Exit(USAGE) from None
        except KeyboardInterrupt:
            err.print("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if not isinstance(error, _known_errors()):
                raise
            err.print("[red]error:[/]", end=" ")
            err.print(str(error), markup=False, highlight=False)
            raise typer.Exit(WRONG) from None

    return run


@contextmanager
def _steps(quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """A line that says what is going on and for how long; each step stays on the screen when the next one begins."""
    if quiet:
        yield lambda _: None
        return
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=err) as progress:
        tasks: list[Any] = []

        def step(text: str) -> None:
            if tasks:
                progress.update(tasks[-1], total=1, completed=1)
            tasks.append(progress.add_task(text.replace("[", r"\["), total=None))

        yield step
        if tasks:
            progress.update(tasks[-1], total=1, completed=1)


def _print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2, default=str))


@app.command()
@_explained
def up(
    new_slot: Annotated[
        bool, typer.Option("--new-slot", help="Accept that changes were lost with a replication slot; start a new one.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start PostgreSQL, Kafka, Connect with Debezium and ClickHouse on this machine; heal what is broken.

    Harmless when all is running. The first time it downloads the Kafka and Debezium jars.

    Example: `ORDERS_PLATFORM_PORT_KAFKA=29092 orders-platform up`
    """
    from orders_platform import stack

    with _steps(as_json) as step:
        found = stack.up(load(), step, new_slot=new_slot)
    _show_status(found, as_json)


@app.command()
@_explained
def down() -> None:
    """Stop all parts of the stack, in order. Data stay in `var/`."""
    from orders_platform import stack

    with _steps() as step:
        stack.down(load(), step)


@app.command()
@_explained
def status(as_json: Json = False) -> None:
    """Show each part: health, endpoint, pid, memory, version, log file. Exit 1 if one is not healthy.

    Example: `orders-platform status --json | jq -r .connection.postgres`
    """
    from orders_platform import stack

    found = stack.status(load())
    _show_status(found, as_json)
    if not all(part.healthy for part in found.parts):
        raise typer.Exit(WRONG)


def _show_status(found: StackStatus, as_json: bool) -> None:
    if as_json:
        _print_json({"parts": [vars(part) for part in found.parts], "connection": found.connection})
        return
    table = Table("part", "health", "endpoint", "pid", "memory", "version", "log file", box=None)
    for part in found.parts:
        health = "[green]healthy[/]" if part.healthy else f"[red]{part.detail or 'down'}[/]"
        memory = f"{part.memory_bytes / 2**20:.0f} MiB" if part.memory_bytes else ""
        table.add_row(part.name, health, part.endpoint, str(part.pid or ""), memory, part.version, str(part.log_file))
    out.print(table)


@app.command()
@_explained
def shop(
    rate: Annotated[float, typer.Option(help="Changed rows a second.", min=0.1)] = 50.0,
    minutes: Annotated[float | None, typer.Option(help="How long to write; without end if not given.", min=0.0)] = None,
    seed: Annotated[int, typer.Option(help="The same seed on the same rows writes the same changes.")] = 0,
    history: Annotated[int, typer.Option(help="Past days to fill with orders first.", min=0)] = 0,
) -> None:
    """Write to PostgreSQL as a real shop does: orders through their whole life, refunds, moves, price changes, deletes.

    Example: `orders-platform shop --rate 500 --minutes 5 --history 90 --seed 7`
    """
    from orders_platform.stack.shop import apply_schema, run_shop

    settings = load()
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


@app.command()
@_explained
def sync(
    topic_prefix: Annotated[str | None, typer.Option(help="Debezium's topic.prefix, where it is not `orders`.")] = None,
    as_json: Json = False,
) -> None:
    """Bring everything up to date once, without the daemon: from what Kafka holds now to ClickHouse.

    Runs the same assets as Dagster does. Exit 0 when caught up with what was there at the start.
    Works on topics that another Debezium fills: give its prefix and Kafka's address.

    Example: `ORDERS_PLATFORM_KAFKA__BOOTSTRAP_SERVERS=kafka:9092 orders-platform sync --topic-prefix erp`
    """
    from orders_platform.defs.sync import sync as run_sync

    settings = load(**({"topic_prefix": topic_prefix} if topic_prefix else {}))
    with _steps(as_json) as step:
        report = run_sync(settings, step)
    if as_json:
        _print_json({"caught_up": True, "runs": report.runs, "seconds": report.seconds, "hops": _hops(report)})
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


@app.command()
@_explained
def reconcile(
    limit: Annotated[int, typer.Option(help="How many differing rows to name for each table.", min=1)] = 20,
    as_json: Json = False,
) -> None:
    """Compare silver with PostgreSQL row by row, gold with silver, ClickHouse with gold. Exit 1 if anything differs.

    The shop may go on writing meanwhile. Example: `orders-platform reconcile --limit 3`
    """
    from orders_platform.lake.catalog import open_catalog
    from orders_platform.quality.reconcile import reconcile as run_reconcile

    settings = load()
    with _steps(as_json) as step:
        report = run_reconcile(settings, open_catalog(settings), limit=limit, progress=step)
    if as_json:
        _print_json(report.to_dict())
    else:
        for comparison in report.tables:
            out.print(str(comparison), style=None if comparison.equal else "red", markup=False, highlight=False)
    if not report.equal:
        raise typer.Exit(WRONG)


@app.command()
@_explained
def demo(
    rate: Annotated[float, typer.Option(help="Changed rows a second while it is live.", min=1)] = 100.0,
    seconds: Annotated[float, typer.Option(help="How long the shop writes live.", min=1)] = 20.0,
    history: Annotated[int, typer.Option(help="Past days to fill with orders first.", min=0)] = 7,
) -> None:
    """The main job, end to end, on live changes: starts the stack, runs a shop, carries its changes to ClickHouse,
    compares every row, and shows the daily revenue beside PostgreSQL's own. Leaves nothing running.
    """
    from orders_platform.defs.demo import run_demo

    with _steps() as step:
        report = run_demo(load(), rate=rate, seconds=seconds, history_days=history, progress=step)
    table = Table("order date", "region", "currency", "orders", "ClickHouse", "PostgreSQL", "", box=None)
    for row in report.revenue:
        equal = "[green]=[/]" if row.equal else "[red]≠[/]"
        table.add_row(*row.key, f"{row.orders:,}", f"{row.clickhouse:,}", f"{row.postgres:,}", equal)
    out.print(table)
    _show_hops(report.sync)
    for comparison in report.reconciled.tables:
        out.print(str(comparison), style=None if comparison.equal else "red", markup=False, highlight=False)
    out.print(f"{len(report.revenue)} rows of daily revenue, {'all equal' if report.equal else 'NOT EQUAL'}")
    if not report.equal:
        raise typer.Exit(WRONG)


@app.command()
@_explained
def doctor(as_json: Json = False) -> None:
    """Check settings, tools, ports, disk and connections; say what is wrong and what to do. Exit 1 if something is."""
    from orders_platform import stack

    findings = stack.doctor(load())
    if as_json:
        _print_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            out.print("[green]ok[/]   " if finding.ok else "[red]wrong[/]", finding.what)
            if not finding.ok:
                out.print(f"      {finding.remedy}", highlight=False)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(WRONG)


if __name__ == "__main__":
    main()
