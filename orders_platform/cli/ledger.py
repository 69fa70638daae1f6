"""Commands about what is loaded: `ledger show`, `ledger rebuild`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from orders_platform.cli.app import WRONG, Json, err, explained, ledger, out, print_json
from orders_platform.cli.tables import contracts_of
from orders_platform.settings import load

if TYPE_CHECKING:
    from orders_platform.ingest.ledger_view import LedgerView, PartitionView


@ledger.command("show")
@explained
def ledger_show(
    table: Annotated[str | None, typer.Option(help="Only this table, such as `orders`.")] = None,
    rows: Annotated[bool, typer.Option("--rows", help="Count rows and dead letters, too: reads the tables.")] = False,
    as_json: Json = False,
) -> None:
    """Show which offsets each bronze table holds, by topic and partition, and which were accepted as lost.

    Exit 1 if a table's ledger is missing or cannot be believed; the others' are shown all the same.

    Example: `orders-platform ledger show --table orders --rows`
    """
    from orders_platform.ingest.errors import LedgerError
    from orders_platform.ingest.ledger_view import view
    from orders_platform.lake.catalog import open_catalog

    settings = load()
    catalog = open_catalog(settings)
    found: list[LedgerView] = []
    problems: dict[str, str] = {}
    for contract in contracts_of(table):
        try:
            found.append(view(settings, catalog, contract, count_rows=rows))
        except LedgerError as error:
            problems[contract.table] = str(error)
    if as_json:
        broken = {name: {"problem": problem} for name, problem in problems.items()}
        print_json({each.table: each.to_dict() for each in found} | broken)
    else:
        _show(found)
    for name, problem in problems.items():
        err.print(f"{name}: {problem}", markup=False, highlight=False)
    if problems:
        raise typer.Exit(WRONG)


def _show(found: list[LedgerView]) -> None:
    shown = Table("table", "rows", "log", "partition", "offsets", "loaded", "accepted as lost", "position", box=None)
    for each in found:
        for number, place in enumerate(each.partitions or (None,)):
            first = (each.table, f"{each.rows:,}") if number == 0 else ("", "")
            shown.add_row(*first, *(_cells(place) if place else ("", "", "", "nothing", "", "")))
    out.print(shown)


def _cells(place: PartitionView) -> tuple[str, ...]:
    from orders_platform.ingest.gaps import END

    def text(pairs: tuple[tuple[int, int], ...]) -> str:
        return ", ".join(f"from {first} on" if end == END else f"{first}–{end - 1}" for first, end in pairs)

    counted = f" ({place.rows:,} rows, {place.dead_letters} dead)" if place.rows is not None else ""
    position = "" if place.commit_position is None else str(place.commit_position)
    log = f"{place.log_id} (closed)" if place.closed else place.log_id
    epoch = f" in epoch {place.epoch}" if place.epoch else ""
    offsets = f"{place.offsets:,}{counted}"
    return log, str(place.partition), offsets, text(place.loaded), text(place.lost), position + epoch


@ledger.command("rebuild")
@explained
def ledger_rebuild(
    table: Annotated[str, typer.Argument(help="The table, such as `orders`.")],
    although_believed: Annotated[
        bool, typer.Option("--although-believed", help="Replace a ledger that agrees with the rows, which knows more.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Derive a table's ledger from its rows, where another engine's commits have left it without one.

    Loads refuse to run without a ledger; afterwards they go on. It says what the rows do not tell, and refuses where
    there is a ledger that agrees with them. Example: `orders-platform ledger rebuild orders`
    """
    from orders_platform.ingest.ledger_rebuild import NotNeededError, rebuild
    from orders_platform.lake.catalog import open_catalog

    settings = load()
    (contract,) = contracts_of(table)
    try:
        rebuilt = rebuild(settings, open_catalog(settings), contract, although_believed=although_believed)
    except NotNeededError as error:
        err.print(f"{error}; --although-believed does it all the same", highlight=False)
        raise typer.Exit(WRONG) from None
    if as_json:
        print_json({"snapshot_id": rebuilt.ledger.snapshot_id, "rows": rebuilt.ledger.rows, "unknown": rebuilt.unknown})
        return
    found = rebuilt.ledger
    out.print(f"the ledger of {contract.bronze_table} says {found.rows:,} rows, at snapshot {found.snapshot_id}")
    out.print("What the rows do not tell:")
    for each in rebuilt.unknown:
        out.print(f"  - {each}", highlight=False)
