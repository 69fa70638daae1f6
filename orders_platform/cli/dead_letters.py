"""Commands about records that could not be decoded: `dead-letters list`, `dead-letters show`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from rich.table import Table

from orders_platform.cli.app import WRONG, Json, dead_letters, err, explained, out, print_json
from orders_platform.cli.tables import contracts_of
from orders_platform.settings import load


@dead_letters.command("list")
@explained
def list_(
    table: Annotated[str | None, typer.Option(help="Only this table, such as `orders`.")] = None,
    day: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only this ingest day.")] = None,
    error: Annotated[str | None, typer.Option(help="Only this class of error.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many of each table.", min=1)] = 100,
    as_json: Json = False,
) -> None:
    """List dead letters, newest first: where they are in Kafka, and why they are no rows.

    Example: `orders-platform dead-letters list --table orders --day 2026-05-20`
    """
    from orders_platform.ingest.dead_letters import list_dead_letters
    from orders_platform.lake.catalog import open_catalog

    settings = load()
    catalog = open_catalog(settings)
    found = [
        letter
        for contract in contracts_of(table)
        for letter in list_dead_letters(
            settings, catalog, contract, day=day.date() if day else None, error_class=error, limit=limit
        )
    ]
    if as_json:
        print_json([letter.to_dict() for letter in found])
        return
    shown = Table("table", "day", "partition", "offset", "error", "message", box=None)
    for letter in found:
        place = (str(letter.ingest_day), str(letter.partition), str(letter.offset))
        shown.add_row(letter.table, *place, letter.error_class, letter.message)
    out.print(shown if found else "no dead letters")


@dead_letters.command("show")
@explained
def show(
    table: Annotated[str, typer.Argument(help="The table, such as `orders`.")],
    partition: Annotated[int, typer.Argument(help="Kafka's partition.", min=0)],
    offset: Annotated[int, typer.Argument(help="Kafka's offset.", min=0)],
    as_json: Json = False,
) -> None:
    """Show one dead letter whole: reason, key, value and headers as they came. Exit 1 if there is none.

    Example: `orders-platform dead-letters show orders 2 4711 --json | jq -r .value | base64 -d`
    """
    from orders_platform.ingest.dead_letters import show_dead_letter
    from orders_platform.lake.catalog import open_catalog

    settings = load()
    (contract,) = contracts_of(table)
    letter = show_dead_letter(settings, open_catalog(settings), contract, partition, offset)
    if letter is None:
        err.print(f"{table} has no dead letter at offset {offset} of partition {partition}")
        raise typer.Exit(WRONG)
    if as_json:
        print_json(letter.to_dict())
        return
    for name, value in vars(letter).items():
        text = value.decode("utf-8", errors="backslashreplace") if isinstance(value, bytes) else value
        out.print(f"{name:>16}  {text}", markup=False, highlight=False)
