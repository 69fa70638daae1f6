"""A table compared with PostgreSQL slice by slice: every key once a round, and a round within a day of hourly looks.

Slices follow one another by key: each begins where the one before ended, so that none is left out and none compared
twice, however many keys come and go meanwhile. Where differences were found, the slice is compared again at the next
looks until it is equal: what has been found does not disappear because the next slice is fine. A slice of an earlier
round is forgotten when a round is complete, which has compared each of its keys again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from math import ceil
from typing import Any

import psycopg
from pyiceberg.catalog import Catalog

from orders_platform.contracts import Contract
from orders_platform.quality.comparison import Patience
from orders_platform.quality.key_range import EVERYTHING, KeyRange, has_one_order
from orders_platform.quality.lake_sides import load
from orders_platform.quality.reconcile import LIMIT, reconcile_range
from orders_platform.quality.report import TableComparison
from orders_platform.quality.shop_snapshot import key_after, row_estimate, shop_snapshot
from orders_platform.quality.shop_types import altered_columns
from orders_platform.quality.sides import Key
from orders_platform.settings import Settings

LOOKS_A_DAY = 24
SLICES = 20
"""Of a round. The day's other looks are for rows that were added meanwhile, and for looks that did not take place."""

LEAST_ROWS = 50_000
"""A table that is no larger than this is compared whole at every look."""


AGAIN_SECONDS = 300.0
"""How long a look goes on with slices that differed before, while it finds them equal: a repair shows within a look."""


@dataclass(frozen=True)
class Round:
    """How far the round has come: `began` is the time of its first slice, `next` where the next slice begins.

    `rows` and `slices` were compared so far. `unequal` are slices of this round, `earlier` slices of the one before, in
    which something differed when they were last compared.
    """

    began: datetime
    next: Key | None = None
    rows: int = 0
    slices: int = 0
    is_complete: bool = False
    unequal: tuple[KeyRange, ...] = ()
    earlier: tuple[KeyRange, ...] = ()

    @property
    def waiting(self) -> tuple[KeyRange, ...]:
        """The slices to compare again, those first that were not looked at for the longest time."""
        return (*self.earlier, *self.unequal)

    def following(self, now: datetime) -> Round:
        """The round to which the next slice belongs: this one, or after its last slice another one."""
        return Round(now, earlier=self.unequal) if self.is_complete else self

    def to_json(self) -> dict[str, Any]:
        """JSON's form."""
        return {
            "began": self.began.isoformat(),
            "next": list(self.next) if self.next is not None else None,
            "rows": self.rows,
            "slices": self.slices,
            "is_complete": self.is_complete,
            "unequal": [each.to_json() for each in self.unequal],
            "earlier": [each.to_json() for each in self.earlier],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Round:
        """What `to_json` made."""
        return cls(
            began=datetime.fromisoformat(document["began"]),
            next=tuple(document["next"]) if document["next"] is not None else None,
            rows=document["rows"],
            slices=document["slices"],
            is_complete=document["is_complete"],
            unequal=tuple(KeyRange.from_json(each) for each in document["unequal"]),
            earlier=tuple(KeyRange.from_json(each) for each in document["earlier"]),
        )


@dataclass(frozen=True)
class Look:
    """What one look found: the round after it, the slice that it compared, and all comparisons, the slice's first.

    `altered` are columns of which PostgreSQL's catalogue says something else than the contract.
    """

    round: Round
    within: KeyRange
    comparisons: tuple[TableComparison, ...]
    table_rows: int
    altered: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return all(each.equal for each in self.comparisons) and not self.round.waiting and not self.altered

    @property
    def is_certain(self) -> bool:
        """Whether something is wrong for certain, and not only late."""
        return any(not each.equal and each.is_certain for each in self.comparisons)

    @property
    def description(self) -> str:
        """In sentences, the differing rows by name."""
        found = [f"{self.within}: {self.comparisons[0]}", *map(str, self.comparisons[1:])]
        waiting = len(self.round.waiting) - sum(each.differing > 0 for each in self.comparisons)
        if waiting > 0:
            found.append(f"{waiting} more slices differed when they were last compared")
        if self.altered:
            found.append(
                f"The shop has altered the table: {'; '.join(self.altered)}. See deploy/runbooks/schema-drift.md"
            )
        if self.round.waiting:
            found.append(
                "Compare all of it now: orders-platform reconcile. What is only late becomes equal by itself; see"
                " deploy/runbooks/reconciliation.md"
            )
        return "\n".join(found)

    @property
    def metadata(self) -> dict[str, int | float | str]:
        """Numbers for the UI; coverage in percent of the rows that PostgreSQL has by its own estimate."""
        done = self.round
        share = 100.0 if done.is_complete else min(99.9, 100 * done.rows / max(1, self.table_rows))
        return {
            "compared": str(self.within),
            "rows": sum(each.rows for each in self.comparisons),
            "differing": sum(each.differing for each in self.comparisons),
            "undecided": sum(each.undecided for each in self.comparisons),
            "covered_percent": round(share, 1),
            "covered_rows": done.rows,
            "round_began": done.began.isoformat(timespec="seconds"),
            "slices_of_round": done.slices,
            "unequal_slices": len(done.waiting),
            "altered_columns": "; ".join(self.altered),
            "seconds": round(sum(each.seconds for each in self.comparisons), 3),
        }


def look(
    settings: Settings,
    catalog: Catalog,
    contract: Contract,
    before: Round | None,
    now: datetime,
    patience: Patience | None = None,
) -> Look:
    """Compares the next slice, then those that differed before, until one of them still does: the shop is spared.

    A table that PostgreSQL refuses is unequal, and the next look does the same slice.

    Args:
        before: the round as the last look left it; None begins one.
        now: with a time zone; it only says when a round began.

    Raises:
        ShopUnreadableError, NotLoadedError: nothing was compared; the next look does the same slice.
    """
    current = before.following(now) if before else Round(now)
    within, table_rows, altered = _next_slice(settings, catalog, contract, current)
    found = [reconcile_range(settings, catalog, contract, within, LIMIT, patience)]
    if found[0].problem:
        return Look(current, within, tuple(found), table_rows, altered)
    is_complete = within.until is None
    unequal = [each for each in current.unequal if each != within]
    earlier = [] if is_complete else [each for each in current.earlier if each != within]
    again = (*earlier, *unequal)
    if not found[0].equal:
        unequal.append(within)
    deadline = time.monotonic() + AGAIN_SECONDS
    for each in again:
        found.append(reconcile_range(settings, catalog, contract, each, LIMIT, patience))
        of_round = earlier if each in earlier else unequal
        of_round.remove(each)
        if not found[-1].equal:
            of_round.append(each)
        if not found[-1].equal or time.monotonic() >= deadline:
            break
    after = replace(
        current,
        next=within.until,
        rows=current.rows + found[0].source_rows,
        slices=current.slices + 1,
        is_complete=is_complete,
        unequal=tuple(unequal),
        earlier=tuple(earlier),
    )
    return Look(after, within, tuple(found), table_rows, altered)


def _next_slice(
    settings: Settings, catalog: Catalog, contract: Contract, current: Round
) -> tuple[KeyRange, int, tuple[str, ...]]:
    """The slice, an estimate of the table's rows, and the columns that were altered."""
    recorded = load(catalog, contract.silver_table).current_snapshot()
    in_silver = int(recorded.summary["total-records"] or 0) if recorded and recorded.summary else 0
    with shop_snapshot(settings.postgres) as snapshot:
        rows = max(in_silver, row_estimate(snapshot, contract))
        altered = altered_columns(snapshot, contract)
        if not has_one_order(contract):
            return EVERYTHING, rows, altered
        try:
            until = key_after(snapshot, contract, current.next, max(LEAST_ROWS, ceil(rows / SLICES)))
        except psycopg.ProgrammingError:  # of which the comparison will say the same
            snapshot.connection.rollback()
            return EVERYTHING, rows, altered
    return KeyRange(current.next, until), rows, altered
