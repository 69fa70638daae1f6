"""Tables by the names that a person types."""

from __future__ import annotations

import typer

from orders_platform.contracts import Contract, load_contracts


def contracts_of(table: str | None) -> list[Contract]:
    """The contract of a table, or all of them. Raises `typer.BadParameter` naming the tables that there are."""
    contracts = [contract for contract in load_contracts() if table in (None, contract.table)]
    if not contracts:
        known = ", ".join(contract.table for contract in load_contracts())
        raise typer.BadParameter(f"no contract describes a table {table!r}; there are: {known}")
    return contracts
