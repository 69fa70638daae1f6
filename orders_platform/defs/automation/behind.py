"""What is behind now: unread records by table and day, and tables whose silver has not taken all of bronze."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from orders_platform.contracts import Contract
from orders_platform.defs.automation.ingest_plan import UnreadDay
from orders_platform.defs.resources.platform import Platform

if TYPE_CHECKING:
    from pyiceberg.table import Table


@dataclass(frozen=True)
class Behind:
    """`merge_only` are tables with rows in bronze that silver has not merged or that no check has passed yet."""

    unread: tuple[UnreadDay, ...]
    merge_only: tuple[str, ...]

    @property
    def records(self) -> int:
        return sum(each.records for each in self.unread)

    def age_seconds(self, now: datetime) -> float:
        """Age of the oldest unread record, 0 if there is none."""
        oldest = [each.oldest for each in self.unread if each.oldest is not None and each.records]
        return max(0.0, (now - min(oldest)).total_seconds()) if oldest else 0.0

    def of(self, table: str) -> Behind:
        """The part of one table."""
        return Behind(
            tuple(each for each in self.unread if each.table == table),
            tuple(each for each in self.merge_only if each == table),
        )


def find_behind(platform: Platform) -> Behind:
    """Asks Kafka (admin calls, bounded in time) and the catalog, for all tables at once.

    Raises:
        BrokerUnavailableError: within 8 seconds, when the broker does not answer.
        IngestError: a topic is missing, or has lost records that were never loaded.
    """
    platform.catalog  # noqa: B018 opened here, once, and not by five threads at the same time
    with ThreadPoolExecutor(max_workers=len(platform.contracts)) as pool:
        found = list(pool.map(lambda contract: tuple(_unread(platform, contract)), platform.contracts))
    return Behind(
        tuple(each for days in found for each in days),
        tuple(contract.table for contract in platform.contracts if _silver_is_behind(platform, contract)),
    )


def _unread(platform: Platform, contract: Contract) -> Iterator[UnreadDay]:
    from orders_platform.ingest.backlog import unread

    backlog = unread(platform.settings, platform.catalog, contract)
    for day, waiting in backlog.days.items():
        yield UnreadDay(contract.table, day, waiting.ranges, waiting.records, waiting.oldest)


def _silver_is_behind(platform: Platform, contract: Contract) -> bool:
    """Whether a run has ended between bronze's commit and silver's audit, as the tables themselves tell it."""
    from orders_platform.lake.audit import audited_snapshot
    from orders_platform.lake.commits import head, own_properties
    from orders_platform.lake.silver import BRONZE_SNAPSHOT

    bronze, silver = (_table(platform, name) for name in (contract.bronze_table, contract.silver_table))
    loaded = head(bronze) if bronze else None
    if loaded is None:
        return False
    merged = head(silver) if silver else None
    if silver is None or merged is None:
        return True
    applied = own_properties(silver, merged).get(BRONZE_SNAPSHOT)
    return applied != str(loaded) or audited_snapshot(silver) != merged


def _table(platform: Platform, identifier: str) -> Table | None:
    from pyiceberg.exceptions import NoSuchTableError

    try:
        return platform.catalog.load_table(identifier)
    except NoSuchTableError:
        return None
