"""Tables by the names that a person types."""

from __future__ import annotations

from collections.abc import Callable

import typer

from orders_platform.contracts import Contract, load_contracts
from orders_platform.ingest.errors import BrokerUnavailableError, IngestError


def contracts_of(table: str | None) -> list[Contract]:
    """The contract of a table, or all of them. Raises `typer.BadParameter` naming the tables that there are."""
    contracts = [contract for contract in load_contracts() if table in (None, contract.table)]
    if not contracts:
        known = ", ".join(contract.table for contract in load_contracts())
        raise typer.BadParameter(f"no contract describes a table {table!r}; there are: {known}")
    return contracts


def stop_of(look: Callable[[], IngestError | None]) -> IngestError | None:
    """What stops one table, whether it is found or met on the way: a list says so of each table, and hides no other.

    Raises:
        BrokerUnavailableError: that is no table's own.
    """
    try:
        return look()
    except BrokerUnavailableError:
        raise
    except IngestError as error:
        return error
