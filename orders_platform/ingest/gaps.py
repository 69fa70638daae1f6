"""Where a topic's log does not go on as it was loaded, and what somebody has decided about it.

A gap is found in the log (expired records, another log under the topic's name, a log cut back) or in its records
(PostgreSQL went back in time). Loading stops until it is accepted; what was accepted stands in the ledger for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from orders_platform.ingest.offsets import Intervals

END = 2**63 - 1
"""Kafka's highest offset: the end of a range of which nobody knows the end."""


class GapKind(StrEnum):
    """What has happened, and so what accepting it means."""

    EXPIRED = "expired"
    """Offsets are gone that were never loaded: they are recorded as lost, and loading goes on behind them."""
    REPLACED = "replaced"
    """The topic has another id or another cluster: the former log is closed, the new one read from its start."""
    TRUNCATED = "truncated"
    """The log ends before offsets that were loaded: from there on it holds other records, known by another id."""
    REWOUND = "rewound"
    """PostgreSQL is at an earlier position: changes from these offsets on are newer than all before (`_epoch`)."""
    REPAIR = "repair"
    """No gap, but rows that a repair has put into the table: a log of their own, complete from the start."""

    @property
    def closes(self) -> bool:
        """Whether nothing will be read any more of the log that it concerns."""
        return self in (GapKind.REPLACED, GapKind.TRUNCATED, GapKind.REPAIR)


@dataclass(frozen=True)
class Gap:
    """Offset ranges (partition, first, next) of one log: lost, or those from which on something else holds.

    `log_id` is the topic's id under which the ledger knows the log, `topic_id` and `cluster_id` are those that the
    topic has now. A range without a known end goes to `END`.
    """

    kind: GapKind
    log_id: str
    ranges: tuple[tuple[int, int, int], ...]
    topic_id: str
    cluster_id: str

    @property
    def name(self) -> str:
        """What a person types to accept exactly this gap: `expired:<log>:0:3-6,1:0-`; a range's end is not in it."""
        ranges = ",".join(f"{p}:{first}-{'' if end == END else end}" for p, first, end in self.ranges)
        return f"{self.kind}:{self.log_id}:{ranges}"

    def of(self, partition: int) -> Intervals:
        """Its offsets of one partition."""
        return Intervals(tuple((first, end) for p, first, end in self.ranges if p == partition))

    def is_named_by(self, name: str) -> bool:
        """Whether a name means this gap.

        Where a log is closed, what was staged of it may have been loaded since it was named, and the new one grown.
        """
        said = parse_name(name)
        if name == self.name or said is None or not self.kind.closes:
            return name == self.name
        pairs = list(zip(said[2], self.ranges, strict=False))
        return (
            said[:2] == (self.kind, self.log_id)
            and len(said[2]) == len(self.ranges)
            and all(p == own[0] and first <= own[1] and end <= own[2] for (p, first, end), own in pairs)
        )

    def __str__(self) -> str:
        return describe(self.ranges)


@dataclass(frozen=True)
class AcceptedGap:
    """A gap, and the decision to go on: why, by whom, when (UTC).

    Args:
        continues_as: id under which the topic's records are known from then on, where the former log is closed.
        epoch: `_epoch` of the records from the gap's offsets on.
    """

    gap: Gap
    reason: str
    by: str
    at: datetime
    continues_as: str | None = None
    epoch: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        own = {**vars(self.gap), "ranges": [list(each) for each in self.gap.ranges]}
        decision = {"reason": self.reason, "by": self.by, "at": self.at.isoformat()}
        return {**own, **decision, "continues_as": self.continues_as, "epoch": self.epoch}

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> AcceptedGap:
        """What `to_dict` has made. Raises `KeyError`, `ValueError`."""
        ranges = tuple((int(p), int(first), int(end)) for p, first, end in said["ranges"])
        gap = Gap(GapKind(said["kind"]), said["log_id"], ranges, said["topic_id"], said["cluster_id"])
        at = datetime.fromisoformat(said["at"])
        return cls(gap, said["reason"], said["by"], at, said["continues_as"], said["epoch"])


def parse_name(name: str) -> tuple[str, str, list[tuple[int, int, int]]] | None:
    """Kind, log and ranges of a gap's name; None for what is no name."""
    try:
        kind, log_id, places = name.split(":", 2)
        ranges = []
        for place in places.split(","):
            partition, _, offsets = place.partition(":")
            first, _, end = offsets.partition("-")
            ranges.append((int(partition), int(first), int(end) if end else END))
    except ValueError:
        return None
    return kind, log_id, ranges


def describe(ranges: tuple[tuple[int, int, int], ...]) -> str:
    """Ranges for a reader: `[0] 3–5; [1] from 7 on`."""
    return "; ".join(f"[{p}] from {first} on" if end == END else f"[{p}] {first}–{end - 1}" for p, first, end in ranges)
