"""Commands about records that could not be decoded: `dead-letters list`, `show`, `replay`, `discard`."""

from __future__ import annotations

import getpass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from orders_platform.cli.app import WRONG, Json, dead_letters, err, explained, out, print_json
from orders_platform.cli.tables import contracts_of
from orders_platform.settings import load

if TYPE_CHECKING:
    from orders_platform.ingest.dead_letters import Selection

TableName = Annotated[str, typer.Argument(help="The table, such as `orders`.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only this ingest day.")]
ErrorClass = Annotated[str | None, typer.Option("--class", help="Only this class of error, such as `WrongType`.")]
Stage = Annotated[str | None, typer.Option(help="Only what failed at this stage, such as `decode`.")]
Partition = Annotated[int | None, typer.Option(help="Only this partition of Kafka.", min=0)]
Offset = Annotated[int | None, typer.Option(help="Only this offset of Kafka.", min=0)]


def _selection(
    day: datetime | None,
    error_class: str | None,
    stage: str | None,
    partition: int | None,
    offset: int | None,
    discarded: bool | None,
) -> Selection:
    from orders_platform.ingest.dead_letters import Selection

    return Selection(day.date() if day else None, error_class, stage, partition, offset, discarded)


@dead_letters.command("list")
@explained
def list_(
    table: Annotated[str | None, typer.Option(help="Only this table, such as `orders`.")] = None,
    day: Day = None,
    error_class: ErrorClass = None,
    stage: Stage = None,
    partition: Partition = None,
    offset: Offset = None,
    discarded: Annotated[
        bool | None, typer.Option("--discarded/--open", help="Only those that are discarded, or only the others.")
    ] = None,
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
    selection = _selection(day, error_class, stage, partition, offset, discarded)
    found = [
        letter
        for contract in contracts_of(table)
        for letter in list_dead_letters(settings, catalog, contract, selection, limit)
    ]
    if as_json:
        print_json([letter.to_dict() for letter in found])
        return
    shown = Table("table", "day", "partition", "offset", "error", "message", "discarded", box=None)
    for letter in found:
        place = (str(letter.ingest_day), str(letter.partition), str(letter.offset))
        given_up = f"{letter.discarded.by}: {letter.discarded.reason}" if letter.discarded else ""
        shown.add_row(letter.table, *place, letter.error_class, letter.message, given_up)
    out.print(shown if found else "no dead letters")


@dead_letters.command("show")
@explained
def show(
    table: TableName,
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


@dead_letters.command("replay")
@explained
def replay_(
    table: TableName,
    day: Day = None,
    error_class: ErrorClass = None,
    stage: Stage = None,
    partition: Partition = None,
    offset: Offset = None,
    discarded: Annotated[bool, typer.Option("--discarded", help="Those that were discarded, too.")] = False,
    as_json: Json = False,
) -> None:
    """Decode dead letters again, after a fix, with the contract of now; `sync` then carries them on.

    They take their places as if they had never failed. Those that fail again stay, with the reason of now: exit 1.

    Example: `orders-platform dead-letters replay orders --class WrongType`
    """
    from orders_platform.ingest.dead_letter_fate import replay
    from orders_platform.lake.catalog import open_catalog

    settings = load()
    (contract,) = contracts_of(table)
    selection = _selection(day, error_class, stage, partition, offset, None if discarded else False)
    fate = replay(settings, open_catalog(settings), contract, selection)
    if as_json:
        print_json(vars(fate))
    else:
        out.print(f"{fate.chosen} dead letters decoded again: {fate.rows} are rows now, {fate.skipped} make no row")
        reasons = ", ".join(f"{count} {name}" for name, count in fate.reasons.items())
        if fate.left:
            out.print(f"{fate.left} fail as before or otherwise ({reasons}): `orders-platform dead-letters list`")
        if fate.snapshot_id:
            out.print("`orders-platform sync` carries them on")
    if fate.left:
        raise typer.Exit(WRONG)


@dead_letters.command("discard")
@explained
def discard_(
    table: TableName,
    reason: Annotated[str, typer.Option(help="Why they are of no use; kept with each of them.")],
    day: Day = None,
    error_class: ErrorClass = None,
    stage: Stage = None,
    partition: Partition = None,
    offset: Offset = None,
    by: Annotated[str | None, typer.Option(help="Who decides; by default, the user of this machine.")] = None,
    as_json: Json = False,
) -> None:
    """Mark dead letters as of no use: they no longer count as a problem, but stay, with reason, name and time.

    Example: `orders-platform dead-letters discard orders --class NotJson --reason "test records of the new producer"`
    """
    from orders_platform.ingest.dead_letter_fate import discard
    from orders_platform.lake.catalog import open_catalog

    settings = load()
    (contract,) = contracts_of(table)
    if not reason.strip():
        raise typer.BadParameter("say why", param_hint="--reason")
    selection = _selection(day, error_class, stage, partition, offset, False)
    fate = discard(settings, open_catalog(settings), contract, selection, reason, by or getpass.getuser())
    if as_json:
        print_json(vars(fate))
    else:
        out.print(
            f"{fate.discarded} dead letters discarded; `orders-platform dead-letters list --discarded` shows them"
        )
