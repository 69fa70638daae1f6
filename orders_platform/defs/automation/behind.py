"""What is behind now: unread records by table and day, and tables whose silver has not taken all of bronze."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from orders_platform.contracts import Contract
from orders_platform.defs.automation.ingest_plan import UnreadDay
from orders_platform.defs.partitions import FIRST_DAY
from orders_platform.defs.resources.passing_errors import may_pass
from orders_platform.defs.resources.platform import Platform

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from orders_platform.ingest.errors import IngestError


@dataclass(frozen=True)
class Behind:
    """`merge_only` are tables with rows in bronze that silver has not merged or that no check has passed yet.

    `stopped` are tables that cannot be loaded (their topic is missing, or does not go on as it was loaded, or bronze's
    ledger is gone), with what the error says; the others go on. Silver merges what they have, but not without a ledger.
    `heads`: each table's newest snapshots of bronze and silver, and the one of silver that passed its checks.
    `positions`: how far each table has come, and what was decided about it. A run that leaves it there has failed it.
    """

    unread: tuple[UnreadDay, ...]
    merge_only: tuple[str, ...]
    stopped: Mapping[str, str] = field(default_factory=dict)
    heads: Mapping[str, str] = field(default_factory=dict)
    positions: Mapping[str, str] = field(default_factory=dict)

    @property
    def tables(self) -> list[str]:
        """Tables for which something is to be done, or would be if they could be loaded."""
        return sorted({*(each.table for each in self.unread if each.records), *self.merge_only, *self.stopped})

    @property
    def records(self) -> int:
        return sum(each.records for each in self.unread)

    def age_seconds(self, now: datetime) -> float:
        """Age of the oldest unread record, 0 if there is none."""
        oldest = [each.oldest for each in self.unread if each.oldest is not None and each.records]
        return max(0.0, (now - min(oldest)).total_seconds()) if oldest else 0.0

    def of(self, *tables: str) -> Behind:
        """What can be loaded and merged of some tables."""
        return Behind(
            tuple(each for each in self.unread if each.table in tables),
            tuple(each for each in self.merge_only if each in tables),
            heads=self.heads,
            positions=self.positions,
        )


def find_behind(platform: Platform, tables: Collection[str] = (), seconds: float | None = None) -> Behind:
    """Asks Kafka (admin calls, bounded in time) and the catalog, for all tables (or those named) at once.

    Raises:
        BrokerUnavailableError: when the broker takes more than `seconds` (`kafka_admin.ANSWER_SECONDS`) for its answers
            about a table.
        TopicMissingError: if none of the topics is there. If only some are not, those tables are `stopped`.
    """
    from orders_platform.ingest.errors import IngestError, LedgerError, TopicMissingError

    platform.catalog  # noqa: B018 opened here, once, and not by five threads at the same time
    contracts = [contract for contract in platform.contracts if not tables or contract.table in tables]
    with ThreadPoolExecutor(max_workers=len(contracts)) as pool:
        found = list(pool.map(lambda contract: _unread(platform, contract, seconds), contracts))
    missing = [each for each in found if isinstance(each, TopicMissingError)]
    if missing and len(missing) == len(found):
        raise missing[0]
    stopped = {c.table: each for c, each in zip(contracts, found, strict=True) if isinstance(each, IngestError)}
    lake = {contract.table: LakeState.of(platform, contract) for contract in contracts}
    return Behind(
        tuple(each for days in found if not isinstance(days, IngestError) for each in days),
        tuple(
            table
            for table, state in lake.items()
            if state.silver_is_behind and not isinstance(stopped.get(table), LedgerError)
        ),
        {table: f"{type(error).__name__}: {error}" for table, error in stopped.items()},
        {table: state.heads for table, state in lake.items()},
        {table: state.position for table, state in lake.items()},
    )


def _unread(platform: Platform, contract: Contract, seconds: float | None) -> tuple[UnreadDay, ...] | IngestError:
    """A table's unread days, or why it cannot be loaded."""
    from orders_platform.ingest.backlog import unread
    from orders_platform.ingest.errors import BeforeFirstDayError, IngestError

    try:
        days = unread(platform.settings, platform.catalog, contract, seconds).days
    except IngestError as error:
        if may_pass(error):
            raise
        return error
    if days and (oldest := min(days)) < FIRST_DAY:
        return BeforeFirstDayError(
            f"records of {oldest} are older than the first ingest day that there is, {FIRST_DAY}, and are not loaded; "
            "set FIRST_DAY in orders_platform/defs/partitions.py to their day"
        )
    return tuple(UnreadDay(contract.table, day, each.ranges, each.records, each.oldest) for day, each in days.items())


@dataclass(frozen=True)
class LakeState:
    """Snapshots of one table's bronze and silver: `applied` is the one of bronze that silver's head was merged from.

    `decided` names what operators have decided about bronze, as snapshots and properties.
    """

    bronze: int | None
    silver: int | None = None
    audited: int | None = None
    applied: str | None = None
    decided: str = ""

    @classmethod
    def of(cls, platform: Platform, contract: Contract) -> LakeState:
        from orders_platform.ingest.drift import decisions
        from orders_platform.ingest.ledger import Ledger
        from orders_platform.lake.audit import audited_snapshot
        from orders_platform.lake.commits import head, own_properties
        from orders_platform.lake.silver import BRONZE_SNAPSHOT

        bronze, silver = (_table(platform, name) for name in (contract.bronze_table, contract.silver_table))
        loaded, merged = (head(table) if table else None for table in (bronze, silver))
        accepted = [each["change"] for each in decisions(bronze)] if bronze else []
        decided = f"{(Ledger.last_decision(bronze) if bronze else None) or ''}{accepted or ''}"
        if silver is None or merged is None:
            return cls(loaded, decided=decided)
        applied = own_properties(silver, merged).get(BRONZE_SNAPSHOT)
        return cls(loaded, merged, audited_snapshot(silver), applied, decided)

    @property
    def silver_is_behind(self) -> bool:
        """Whether a run has ended between bronze's commit and silver's audit, as the tables themselves tell it."""
        if self.bronze is None:
            return False
        return self.silver is None or self.applied != str(self.bronze) or self.audited != self.silver

    @property
    def heads(self) -> str:
        """For run keys: another text as soon as anything was committed, audited or rolled back."""
        return f"{self.bronze}/{self.silver}/{self.audited}"

    @property
    def position(self) -> str:
        """Another text as soon as silver was published or somebody decided something; not when bronze grew alone."""
        return hashlib.sha256(f"{self.audited}/{self.decided}".encode()).hexdigest()[:20]


def _table(platform: Platform, identifier: str) -> Table | None:
    from pyiceberg.exceptions import NoSuchTableError

    try:
        return platform.catalog.load_table(identifier)
    except NoSuchTableError:
        return None
