"""How old the data are, by their own watermark: a run that loads an old day, or nothing, makes nothing fresher."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError

from orders_platform.contracts import Contract, load_contracts
from orders_platform.lake.commits import head, own_properties
from orders_platform.lake.outcome import CheckOutcome
from orders_platform.lake.silver import BRONZE_SNAPSHOT, WATERMARK


@dataclass(frozen=True)
class Freshness:
    """A silver table's age at a moment.

    `watermark` is when the newest change in it was committed in the shop. A table of which nothing waits is as fresh as
    the newest table: products do not change every minute, and need not, as long as orders keep coming.
    """

    table: str
    watermark: datetime | None
    age: timedelta | None
    """None while the platform has loaded nothing at all."""
    limit: timedelta

    @property
    def is_fresh(self) -> bool:
        return self.age is not None and self.age <= self.limit

    def outcome(self) -> CheckOutcome:
        """As a check of the table."""
        limit = f"the contract allows {_minutes(self.limit)}"
        if self.age is None:
            return CheckOutcome(False, f"nothing has been loaded yet; {limit}")
        metadata: dict[str, int | float | str] = {"age_seconds": self.age.total_seconds()}
        if self.watermark is not None:
            metadata["watermark"] = self.watermark.isoformat()
        return CheckOutcome(self.is_fresh, f"data are {_minutes(self.age)} old; {limit}", metadata)


def freshness(
    catalog: Catalog, now: datetime, unread: Collection[str] = (), contracts: Collection[Contract] | None = None
) -> tuple[Freshness, ...]:
    """The age of every silver table.

    Args:
        now: with a time zone.
        unread: names of the source tables whose topics hold records that are not in bronze.
    """
    known = tuple(contracts) if contracts is not None else load_contracts()
    watermarks = {contract.table: _watermark(catalog, contract) for contract in known}
    newest = max((watermark for watermark in watermarks.values() if watermark), default=None)
    found = []
    for contract in known:
        own = watermarks[contract.table]
        waits = contract.table in unread or _is_behind_bronze(catalog, contract)
        reached = own if waits else newest
        age = now - reached if reached else None
        found.append(Freshness(contract.silver_table, own, age, timedelta(minutes=contract.latency_minutes)))
    return tuple(found)


def _watermark(catalog: Catalog, contract: Contract) -> datetime | None:
    text = _properties(catalog, contract).get(WATERMARK)
    return datetime.fromisoformat(text) if text else None


def _is_behind_bronze(catalog: Catalog, contract: Contract) -> bool:
    try:
        bronze = head(catalog.load_table(contract.bronze_table))
    except NoSuchTableError:
        return False
    return bronze is not None and _properties(catalog, contract).get(BRONZE_SNAPSHOT) != str(bronze)


def _properties(catalog: Catalog, contract: Contract) -> dict[str, str]:
    try:
        silver = catalog.load_table(contract.silver_table)
    except NoSuchTableError:
        return {}
    return own_properties(silver, head(silver))


def _minutes(duration: timedelta) -> str:
    return f"{duration.total_seconds() / 60:.1f} minutes"
