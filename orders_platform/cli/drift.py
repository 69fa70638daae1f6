"""Commands about tables that the shop has altered: `drift list`, `drift accept`."""

from __future__ import annotations

import functools
import getpass
from typing import Annotated, Any

import typer

from orders_platform.cli.app import WRONG, Json, drift, explained, out, print_json
from orders_platform.cli.tables import contracts_of, stop_of
from orders_platform.settings import load


@drift.command("list")
@explained
def list_(
    table: Annotated[str | None, typer.Option(help="Only this table, such as `orders`.")] = None, as_json: Json = False
) -> None:
    """List how the shop's tables differ from their contracts, as the last rows said, and what was accepted.

    Decodes what is staged and not loaded, and names the change that stops a table now. Exit 1 if something stops one.

    Example: `orders-platform drift list`
    """
    from orders_platform.ingest.bronze import bronze_table
    from orders_platform.ingest.drift import decisions
    from orders_platform.ingest.drift_acceptance import open_drift
    from orders_platform.ingest.errors import LedgerError, SchemaDriftError
    from orders_platform.ingest.ledger import Ledger
    from orders_platform.lake.catalog import open_catalog
    from orders_platform.lake.evolved import evolved_fields, widened_columns

    settings = load()
    catalog = open_catalog(settings)
    found: dict[str, dict[str, Any]] = {}
    for contract in contracts_of(table):
        stops = stop_of(functools.partial(open_drift, settings, catalog, contract))
        change = stops.change if isinstance(stops, SchemaDriftError) else None
        bronze = bronze_table(catalog, contract)
        found[contract.table] = {
            "open": stops and {"change": change, "message": str(stops)},
            "differs": None if isinstance(stops, LedgerError) else str(Ledger.read(bronze).drift),
            "evolved": {field.name: str(field.field_type) for field in evolved_fields(bronze.schema())},
            "widened": widened_columns(contract, bronze.schema()),
            "accepted": decisions(bronze),
        }
    if as_json:
        print_json(found)
    else:
        _show(found)
    if any(each["open"] for each in found.values()):
        raise typer.Exit(WRONG)


def _show(found: dict[str, dict[str, Any]]) -> None:
    for name, each in found.items():
        evolved = [f"bronze has {column} ({kind}) beside the contract" for column, kind in each["evolved"].items()]
        evolved += [f"bronze has {column} as {kind}" for column, kind in each["widened"].items()]
        accepted = [f"accepted {d['change']} ({d['reason']})" for d in each["accepted"]]
        seen = "what was seen is not known" if each["differs"] is None else each["differs"] or "as its contract"
        said = [seen, *evolved, *accepted]
        out.print(f"{name}: {'; '.join(said)}", markup=False)
        if each["open"]:
            out.print(f"{name}: STOPPED. {each['open']['message']}", markup=False, highlight=False)


@drift.command("accept")
@explained
def accept_(
    table: Annotated[str, typer.Argument(help="The table, such as `orders`.")],
    change: Annotated[str, typer.Argument(help="The change, exactly as the error names it.")],
    reason: Annotated[str, typer.Option(help="Why loading may go on; kept with the table.")],
    by: Annotated[str | None, typer.Option(help="Who decides; by default, the user of this machine.")] = None,
    as_json: Json = False,
) -> None:
    """Go on with a table that stopped because the shop has altered it.

    Accepts exactly the change that is named, if it is what stops the table now.

    Example: `orders-platform drift accept orders 'columns:-fax+email' --reason 'fax dropped, email is new'`
    """
    from orders_platform.ingest.drift_acceptance import accept
    from orders_platform.lake.catalog import open_catalog

    settings = load()
    (contract,) = contracts_of(table)
    if not reason.strip():
        raise typer.BadParameter("say why", param_hint="--reason")
    decision = accept(settings, open_catalog(settings), contract, change, reason=reason, by=by or getpass.getuser())
    if as_json:
        print_json(decision)
        return
    out.print(f"{table}: {change} is accepted", highlight=False, markup=False)
    out.print("`orders-platform sync` goes on with it")
