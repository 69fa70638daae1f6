"""What of Kafka is in a bronze table: offset intervals by topic id and partition, in the snapshot with the data.

The ledger that is reachable from main's head is the only truth; a rollback rolls it back with the rows. Every commit of
the platform carries it forward. Where a foreign commit did not, the nearest older one is believed only if rows and
offsets of the table agree with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pyiceberg.conversions import from_bytes
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import LongType

from orders_platform.ingest.errors import LedgerError, LedgerMissingError
from orders_platform.ingest.offsets import Intervals, OffsetRange, subtract
from orders_platform.lake.duckdb_engine import live_files

LEDGER = "orders-platform.ledger"
"""JSON: `{topic id: {partition: [[first, next], …]}}`."""
COMMIT = "orders-platform.ledger-commit"
"""JSON: the commit's own day, ranges and counts; records = rows + dead + tombstones + skipped."""
POSITIONS = "orders-platform.ledger-positions"
"""JSON: `{topic id: {partition: [next offset, highest commit position before it]}}`."""
ROWS = "orders-platform.ledger-rows"
"""Rows and dead letters that the commits which built this ledger put into the table."""
TAG = "ledger"
"""Points to the newest snapshot that carries a ledger, and keeps it from expiring."""


@dataclass(frozen=True)
class Ledger:
    """What has been loaded, and the snapshot on which it was read: a commit is conditional on that one."""

    snapshot_id: int | None = None
    intervals: Mapping[str, Mapping[int, Intervals]] = field(default_factory=dict)
    positions: Mapping[str, Mapping[int, tuple[int, int]]] = field(default_factory=dict)
    rows: int = 0

    @classmethod
    def read(cls, table: Table) -> Ledger:
        """The ledger of a table's head; the empty one only for a table without any snapshot.

        Raises:
            LedgerMissingError: if the table has snapshots but no ledger is reachable.
            LedgerError: if the only ledger is older than the head and contradicts it, or cannot be read.
        """
        head = table.current_snapshot()
        if head is None:
            if table.metadata.snapshots:
                raise LedgerMissingError(f"{_name(table)} has snapshots but main has none: {_REPAIR}")
            return cls()
        snapshot = _holder(table, head)
        ledger = replace(_parsed(table, snapshot), snapshot_id=head.snapshot_id)
        if snapshot.snapshot_id != head.snapshot_id:
            _compare(table, snapshot, head)
        return ledger

    def of(self, topic_id: str, partition: int) -> Intervals:
        """What is loaded of one partition."""
        return self.intervals.get(topic_id, {}).get(partition, Intervals())

    def missing(self, topic_id: str, wanted: Mapping[int, Intervals]) -> dict[int, Intervals]:
        """What of the wanted offsets is not loaded, without the partitions of which nothing is missing."""
        return subtract(wanted, self.intervals.get(topic_id, {}))

    def including(
        self, topic_id: str, ranges: Iterable[OffsetRange], rows: int, positions: Mapping[int, tuple[int, int]]
    ) -> Ledger:
        """The ledger after a commit of these ranges.

        Raises:
            LedgerError: if some of them are loaded already; loading them again would double rows.
        """
        known = dict(self.intervals.get(topic_id, {}))
        for each in ranges:
            before = known.get(each.partition, Intervals())
            new = Intervals(((each.first, each.next),))
            if twice := before.intersect(new):
                raise LedgerError(f"offsets {twice.pairs} of partition {each.partition} are in the table already")
            known[each.partition] = before.union(new)
        places = {**self.positions.get(topic_id, {}), **positions}
        return replace(
            self,
            intervals={**self.intervals, topic_id: known},
            positions={**self.positions, topic_id: places},
            rows=self.rows + rows,
        )

    def summary(self) -> dict[str, str]:
        """Snapshot properties that hold the ledger."""
        intervals = {
            topic_id: {str(p): [list(pair) for pair in found.pairs] for p, found in sorted(partitions.items())}
            for topic_id, partitions in self.intervals.items()
        }
        positions = {
            topic_id: {str(p): list(place) for p, place in sorted(places.items())}
            for topic_id, places in self.positions.items()
        }
        return {LEDGER: _json(intervals), POSITIONS: _json(positions), ROWS: str(self.rows)}


_REPAIR = "run `orders-platform ledger rebuild`, which derives the ledger from the rows; nothing was loaded"


def _holder(table: Table, head: Snapshot) -> Snapshot:
    """The nearest snapshot from the head backwards that carries a ledger, else the tagged one."""
    snapshot: Snapshot | None = head
    while snapshot is not None:
        if snapshot.summary is not None and LEDGER in snapshot.summary.additional_properties:
            return snapshot
        parent = snapshot.parent_snapshot_id
        snapshot = table.metadata.snapshot_by_id(parent) if parent is not None else None
    if tagged := table.metadata.snapshot_by_name(TAG):
        return tagged
    raise LedgerMissingError(f"no ledger is reachable from snapshot {head.snapshot_id} of {_name(table)}: {_REPAIR}")


def _parsed(table: Table, snapshot: Snapshot) -> Ledger:
    properties = snapshot.summary.additional_properties if snapshot.summary else {}
    try:
        stored: dict[str, dict[str, list[list[int]]]] = json.loads(properties[LEDGER])
        places: dict[str, dict[str, list[int]]] = json.loads(properties.get(POSITIONS, "{}"))
        intervals = {
            topic_id: {int(p): Intervals(tuple((first, end) for first, end in pairs)) for p, pairs in found.items()}
            for topic_id, found in stored.items()
        }
        positions = {
            topic_id: {int(p): (place[0], place[1]) for p, place in found.items()} for topic_id, found in places.items()
        }
        return Ledger(snapshot.snapshot_id, intervals, positions, int(properties[ROWS]))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise LedgerError(
            f"the ledger in snapshot {snapshot.snapshot_id} of {_name(table)} cannot be read ({error!r}): {_REPAIR}"
        ) from error


def _compare(table: Table, holder: Snapshot, head: Snapshot) -> None:
    """Raises `LedgerError` unless the head has as many rows, with the same offsets, as the ledger's snapshot."""
    said, found = (_extent(table, each) for each in (holder, head))
    if said != found:
        raise LedgerError(
            f"{_name(table)}: snapshot {head.snapshot_id} carries no ledger, and that of snapshot {holder.snapshot_id} "
            f"does not fit it (rows, lowest and highest offset: {said} then, {found} now): {_REPAIR}"
        )


def _extent(table: Table, snapshot: Snapshot) -> tuple[int, int | None, int | None]:
    files = live_files(table, snapshot.snapshot_id)
    offset = table.schema().find_field("_kafka_offset").field_id
    lowest = [_long(file.lower_bounds[offset]) for file in files if offset in (file.lower_bounds or {})]
    highest = [_long(file.upper_bounds[offset]) for file in files if offset in (file.upper_bounds or {})]
    rows = sum(file.record_count for file in files)
    return rows, min(lowest, default=None), max(highest, default=None)


def _long(bound: bytes) -> int:
    return int(from_bytes(LongType(), bound))


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _name(table: Table) -> str:
    return ".".join(table.name())
