"""Commands about what is loaded: `ledger show`, `ledger rebuild`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from orders_platform.cli.app import Json, explained, ledger, out, print_json
from orders_platform.cli.tables import contracts_of
from orders_platform.settings import load

if TYPE_CHECKING:
    from orders_platform.ingest.ledger import Ledger


@ledger.command("show")
@explained
def ledger_show(
    table: Annotated[str | None, typer.Option(help="Only this table, such as `orders`.")] = None, as_json: Json = False
) -> None:
    """Show which offsets each bronze table holds, by topic and partition: what has been loaded, once and for good.

    Example: `orders-platform ledger show --table orders`
    """
    from pyiceberg.exceptions import NoSuchTableError

    from orders_platform.ingest.ledger import Ledger
    from orders_platform.lake.catalog import open_catalog

    settings = load()
    catalog = open_catalog(settings)
    found = {}
    for contract in contracts_of(table):
        try:
            found[contract.table] = Ledger.read(catalog.load_table(contract.bronze_table))
        except NoSuchTableError:
            found[contract.table] = Ledger()
    if as_json:
        print_json({name: {"snapshot_id": each.snapshot_id, "rows": each.rows, "offsets": _offsets(each)}
                     for name, each in found.items()})  # fmt: skip
        return
    shown = Table("table", "rows", "topic id", "partition", "offsets loaded", box=None)
    for name, each in found.items():
        places = [(topic, p, pairs) for topic, partitions in _offsets(each).items() for p, pairs in partitions.items()]
        for number, (topic, partition, pairs) in enumerate(places or [("", "", [])]):
            text = ", ".join(f"{first}–{end - 1}" for first, end in pairs) or "none"
            shown.add_row(*((name, f"{each.rows:,}") if number == 0 else ("", "")), topic, partition, text)
    out.print(shown)


def _offsets(found: Ledger) -> dict[str, dict[str, list[list[int]]]]:
    return {
        topic: {str(partition): [list(pair) for pair in held.pairs] for partition, held in sorted(partitions.items())}
        for topic, partitions in found.intervals.items()
    }


@ledger.command("rebuild")
@explained
def ledger_rebuild(table: Annotated[str, typer.Argument(help="The table, such as `orders`.")]) -> None:
    """Derive a table's ledger from its rows, where another engine's commits have left it without one.

    Loads refuse to run without a ledger; afterwards they go on. Example: `orders-platform ledger rebuild orders`
    """
    from orders_platform.ingest.ledger_check import rebuild
    from orders_platform.lake.catalog import open_catalog

    settings = load()
    (contract,) = contracts_of(table)
    rebuilt = rebuild(settings, open_catalog(settings), contract)
    out.print(f"the ledger of {contract.bronze_table} says {rebuilt.rows:,} rows, at snapshot {rebuilt.snapshot_id}")
