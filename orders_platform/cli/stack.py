"""Commands about the stack on this machine: `up`, `down`, `status`, `doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from orders_platform.cli.app import WRONG, Json, app, err, explained, out, print_json, steps
from orders_platform.settings import load

if TYPE_CHECKING:
    from orders_platform.stack import StackStatus


@app.command(rich_help_panel="The stack on this machine")
@explained
def up(
    new_slot: Annotated[
        bool, typer.Option("--new-slot", help="Accept that changes were lost with a replication slot; start a new one.")
    ] = False,
    for_ui: Annotated[
        bool, typer.Option("--for-ui", help="Start nothing unless the Dagster UI could have its port.")
    ] = False,
    for_shop: Annotated[
        bool, typer.Option("--for-shop", help="Start nothing unless PostgreSQL is one that `shop` may write to.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start PostgreSQL, Kafka, Connect with Debezium and ClickHouse on this machine; heal what is broken.

    Harmless when all is running. The first time it downloads the Kafka and Debezium jars.

    Example: `ORDERS_PLATFORM_PORT_KAFKA=29092 orders-platform up`
    """
    from orders_platform import stack
    from orders_platform.stack.ports import require_free_ui_port
    from orders_platform.stack.shop import require_own_postgres

    settings = load()
    if for_ui:
        require_free_ui_port(settings)
    if for_shop:
        require_own_postgres(settings)
    with steps(as_json) as step:
        found = stack.up(settings, step, new_slot=new_slot)
    _show_status(found, as_json)


@app.command(rich_help_panel="The stack on this machine")
@explained
def down() -> None:
    """Stop all parts of the stack, in order. Data stay in `var/`."""
    from orders_platform import stack
    from orders_platform.stack.debezium import what_stays

    settings = load()
    with steps() as step:
        stack.down(settings, step)
    if stays := what_stays(settings):
        err.print(stays, markup=False, highlight=False, soft_wrap=True)


@app.command(rich_help_panel="The stack on this machine")
@explained
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
        print_json({"parts": [vars(part) for part in found.parts], "connection": found.connection})
        return
    table = Table("part", "health", "endpoint", "pid", "memory", "version", "log file", box=None)
    for part in found.parts:
        health = "[green]healthy[/]" if part.healthy else f"[red]{part.detail or 'down'}[/]"
        memory = f"{part.memory_bytes / 2**20:.0f} MiB" if part.memory_bytes else ""
        table.add_row(part.name, health, part.endpoint, str(part.pid or ""), memory, part.version, str(part.log_file))
    out.print(table)


@app.command(rich_help_panel="The stack on this machine")
@explained
def doctor(as_json: Json = False) -> None:
    """Check settings, tools, ports, disk and connections; say what is wrong and what to do. Exit 1 if something is."""
    from orders_platform import stack

    findings = stack.doctor(load())
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            out.print("[green]ok[/]   " if finding.ok else "[red]wrong[/]", finding.what)
            if not finding.ok:
                out.print(f"      {finding.remedy}", highlight=False)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(WRONG)
