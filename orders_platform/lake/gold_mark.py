"""What a gold table has taken from its inputs, and which order dates it still owes: kept in its own commits.

The mark stands in the summary of the snapshot that holds the data, so the two can never disagree: a rollback of the
table rolls its mark back, and a commit that never landed never moved it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from pyiceberg.table import Table
from pyiceberg.table.snapshots import ancestors_of

from orders_platform.errors import PlatformError

PROPERTY = "orders-platform.gold"


class GoldMarkError(PlatformError):
    """A gold table has snapshots, and none of them says what it was built from."""


@dataclass(frozen=True)
class GoldMark:
    """`inputs`: the snapshot read of each input table (by identifier). `pending`: order dates that were stale then and
    were not rebuilt. `time_zone`: whose calendar the order dates follow; empty where the table has none of its own.
    """

    inputs: Mapping[str, int] = field(default_factory=dict)
    pending: frozenset[date] = frozenset()
    time_zone: str = ""

    def advanced(self, inputs: Mapping[str, int], stale: Iterable[date], rebuilt: Iterable[date]) -> GoldMark:
        """The mark after `rebuilt` was built from `inputs`, of which `stale` was known: the rest stays owed."""
        return GoldMark(dict(inputs), frozenset(stale) - frozenset(rebuilt), self.time_zone)

    def held(self, stale: Iterable[date], rebuilt: Iterable[date]) -> GoldMark:
        """The mark after dates were rebuilt by hand: the inputs stay where they were.

        Those of the dates that were stale stay owed: they now hold changes that are newer than the mark, which a
        later comparison with the mark's snapshots would not find if they were taken back in the meantime.
        """
        return GoldMark(self.inputs, self.pending | (frozenset(stale) & frozenset(rebuilt)), self.time_zone)

    def to_json(self) -> str:
        """As it stands in a snapshot's summary."""
        return json.dumps(
            {
                "inputs": dict(sorted(self.inputs.items())),
                "pending": [day.isoformat() for day in sorted(self.pending)],
                "time_zone": self.time_zone,
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> GoldMark:
        """The mark of a snapshot's summary."""
        document = json.loads(text)
        return cls(
            {table: int(snapshot) for table, snapshot in document["inputs"].items()},
            frozenset(date.fromisoformat(day) for day in document["pending"]),
            document["time_zone"],
        )

    @property
    def summary(self) -> dict[str, str]:
        """The snapshot property that carries the mark."""
        return {PROPERTY: self.to_json()}


def read_mark(table: Table) -> GoldMark | None:
    """The mark of main's newest snapshot that has one; None if the table has no snapshot.

    A compaction by another engine copies no mark, and changes no row either: the mark below it still holds.

    Raises:
        GoldMarkError: if there are snapshots and no mark can be reached.
    """
    head = table.metadata.snapshot_by_name("main")
    if head is None:
        return None
    for snapshot in ancestors_of(head, table.metadata):
        if snapshot.summary is not None and (text := snapshot.summary.additional_properties.get(PROPERTY)):
            return GoldMark.from_json(text)
    raise GoldMarkError(
        f"{'.'.join(table.name())}: no snapshot reachable from main ({head.snapshot_id}) says what it was built from "
        f"(summary property {PROPERTY}); drop the table, and everything is rebuilt from silver"
    )
