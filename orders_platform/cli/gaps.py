"""Commands about what is missing: `gaps list`, `gaps accept`, `gaps repair`."""

from __future__ import annotations

import functools
import getpass
from typing import Annotated, Any

import typer

from orders_platform.cli.app import WRONG, Json, explained, gaps, out, print_json, steps
from orders_platform.cli.tables import contracts_of, stop_of
from orders_platform.settings import load


@gaps.command("list")
@explained
def list_(
    table: Annotated[str | None, typer.Option(help="Only this table, such as `orders`.")] = None, as_json: Json = False
) -> None:
    """List what stops the loading of tables now, and every gap that was accepted so far. Exit 1 if something stops one.

    Looks at the topics, and decodes what is staged and not loaded. Example: `orders-platform gaps list --table orders`
    """
    from orders_platform.ingest.errors import GapError
    from orders_platform.ingest.gap_acceptance import open_gap
    from orders_platform.ingest.ledger import Ledger
    from orders_platform.lake.catalog import open_catalog

    settings = load()
    catalog = open_catalog(settings)
    found: dict[str, dict[str, Any]] = {}
    for contract in contracts_of(table):
        stops = stop_of(functools.partial(open_gap, settings, catalog, contract))
        gap = stops.gap if isinstance(stops, GapError) else None
        accepted = Ledger.of_table(catalog, contract.bronze_table).accepted
        found[contract.table] = {
            "open": stops and {"name": gap and gap.name, "message": str(stops)},
            "accepted": [{"name": each.gap.name, **each.to_dict()} for each in accepted],
        }
    if as_json:
        print_json(found)
    else:
        _show(found)
    if any(each["open"] for each in found.values()):
        raise typer.Exit(WRONG)


def _show(found: dict[str, dict[str, Any]]) -> None:
    for table, each in found.items():
        for gap in each["accepted"]:
            out.print(
                f"{table}: accepted {gap['at'][:19]} by {gap['by']}: {gap['name']} ({gap['reason']})",
                markup=False,
                highlight=False,
            )
        if each["open"]:
            out.print(f"{table}: STOPPED. {each['open']['message']}", markup=False, highlight=False)
        if each["open"] and each["open"]["name"]:
            out.print(
                f"  orders-platform gaps accept {table} {each['open']['name']} --reason '…'",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
    if not any(each["open"] for each in found.values()):
        out.print("nothing stops the loading of any of these tables")


@gaps.command("accept")
@explained
def accept_(
    table: Annotated[str, typer.Argument(help="The table, such as `orders`.")],
    name: Annotated[str, typer.Argument(help="The gap, exactly as `gaps list` names it.")],
    reason: Annotated[str, typer.Option(help="Why loading may go on; kept in the ledger for ever.")],
    by: Annotated[str | None, typer.Option(help="Who decides; by default, the user of this machine.")] = None,
    as_json: Json = False,
) -> None:
    """Let loading go on although records are lost, or a new log or a new history of PostgreSQL begins.

    Accepts exactly the gap that is named, if it is what stops the table now. `gaps repair` afterwards asks PostgreSQL
    for what was lost. Example: `orders-platform gaps accept orders expired:nT3…:0:3-6 --reason "retention of 20 May"`
    """
    from orders_platform.ingest.gap_acceptance import accept
    from orders_platform.lake.catalog import open_catalog

    settings = load()
    (contract,) = contracts_of(table)
    if not reason.strip():
        raise typer.BadParameter("say why", param_hint="--reason")
    accepted = accept(settings, open_catalog(settings), contract, name, reason=reason, by=by or getpass.getuser())
    if as_json:
        print_json({"name": accepted.gap.name, **accepted.to_dict()})
        return
    out.print(
        f"{table}: {accepted.gap.kind} {accepted.gap} is accepted; loading goes on", highlight=False, markup=False
    )
    out.print(f"`orders-platform sync` loads what there is, `gaps repair {table}` asks PostgreSQL for what was lost")


@gaps.command("repair")
@explained
def repair_(
    table: Annotated[str, typer.Argument(help="The table, such as `orders`.")],
    seconds: Annotated[float, typer.Option(help="The longest wait for a sign of progress.", min=1)] = 600.0,
    by: Annotated[str | None, typer.Option(help="Who repairs; by default, the user of this machine.")] = None,
    as_json: Json = False,
) -> None:
    """Make silver equal to PostgreSQL again, after a gap was accepted: it sends all rows of the table once more.

    Debezium reads the table while changes go on; the rows are loaded like all others. Rows that PostgreSQL no longer
    has are removed by changes of their own in bronze, each just behind the one that it undoes. May be repeated.

    Example: `orders-platform gaps repair orders`
    """
    from orders_platform.defs.repair import repair

    settings = load()
    (contract,) = contracts_of(table)
    with steps(as_json) as step:
        found = repair(settings, contract, by or getpass.getuser(), step, seconds)
    if as_json:
        print_json(vars(found))
    else:
        out.print(
            f"{table}: PostgreSQL sent {found.rows_sent:,} rows; {found.rows_unseen:,} rows of silver were not among "
            f"them, and {found.rows_removed:,} of those are gone from PostgreSQL and removed"
        )
        if found.left:
            out.print(f"{found.left} rows were changed at that very moment: repeat the repair")
        out.print("`orders-platform sync` carries it on, `reconcile` proves it")
    if found.left:
        raise typer.Exit(WRONG)
