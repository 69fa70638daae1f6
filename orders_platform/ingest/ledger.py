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

from pyiceberg.catalog import Catalog
from pyiceberg.conversions import from_bytes
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import LongType

from orders_platform.ingest.decoding import Epochs
from orders_platform.ingest.drift import Drift, from_json, to_json
from orders_platform.ingest.errors import LedgerError, LedgerMissingError
from orders_platform.ingest.gaps import END, AcceptedGap, GapKind
from orders_platform.ingest.kafka_admin import TopicLog
from orders_platform.ingest.offsets import Intervals, OffsetRange, subtract
from orders_platform.ingest.positions import Place
from orders_platform.lake.duckdb_engine import live_files

LEDGER = "orders-platform.ledger"
"""JSON: `{topic id: {partition: [[first, next], …]}}`."""
COMMIT = "orders-platform.ledger-commit"
"""JSON: the commit's own day, ranges and counts; records = rows + dead + tombstones + skipped."""
POSITIONS = "orders-platform.ledger-positions"
"""JSON: `{topic id: {partition: [next offset, highest commit position before it, its epoch]}}`."""
ROWS = "orders-platform.ledger-rows"
"""Rows and dead letters that the commits which built this ledger put into the table."""
CLUSTERS = "orders-platform.ledger-clusters"
"""JSON: `{topic id: id of the cluster from which it was loaded}`."""
ACCEPTED = "orders-platform.ledger-accepted"
"""JSON: every gap that was accepted, in order, with reason, name and time."""
DRIFT = "orders-platform.drift"
"""JSON: how the last rows that were loaded differ from the contract."""
REPAIR_LOG = "repair-"
"""How the ids of logs begin that no topic has: rows that a repair has put into the table."""
TAG = "ledger"
"""Points to the newest snapshot that carries a ledger, and keeps it from expiring."""


@dataclass(frozen=True)
class Ledger:
    """What has been loaded, and the snapshot on which it was read: a commit is conditional on that one."""

    snapshot_id: int | None = None
    intervals: Mapping[str, Mapping[int, Intervals]] = field(default_factory=dict)
    positions: Mapping[str, Mapping[int, Place]] = field(default_factory=dict)
    rows: int = 0
    clusters: Mapping[str, str] = field(default_factory=dict)
    accepted: tuple[AcceptedGap, ...] = ()
    drift: Drift = field(default_factory=Drift)

    @classmethod
    def of_table(cls, catalog: Catalog, identifier: str) -> Ledger:
        """The ledger of a table by name; the empty one if there is no such table. Raises as `read` does."""
        try:
            return cls.read(catalog.load_table(identifier))
        except NoSuchTableError:
            return cls()

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
        ledger = replace(cls.said_by(table, snapshot), snapshot_id=head.snapshot_id)
        if snapshot.snapshot_id != head.snapshot_id:
            _compare(table, snapshot, head)
        return ledger

    @staticmethod
    def last_decision(table: Table) -> int | None:
        """The newest snapshot that no load has made: a gap was accepted, dead letters settled, or a foreigner wrote.

        Null where loads are all that is known.
        """
        by_id = {snapshot.snapshot_id: snapshot for snapshot in table.metadata.snapshots}
        snapshot = table.current_snapshot()
        while snapshot is not None:
            if snapshot.summary is None or '"ranges"' not in snapshot.summary.additional_properties.get(COMMIT, ""):
                return snapshot.snapshot_id
            snapshot = by_id.get(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id is not None else None
        return None

    @classmethod
    def said_by(cls, table: Table, snapshot: Snapshot) -> Ledger:
        """What the summary of a snapshot says. Raises `LedgerError` if it cannot be read."""
        properties = snapshot.summary.additional_properties if snapshot.summary else {}
        try:
            stored: dict[str, dict[str, list[list[int]]]] = json.loads(properties[LEDGER])
            places: dict[str, dict[str, list[int]]] = json.loads(properties.get(POSITIONS, "{}"))
            intervals = {
                topic_id: {int(p): Intervals(tuple((first, end) for first, end in pairs)) for p, pairs in found.items()}
                for topic_id, found in stored.items()
            }
            positions = {
                topic_id: {int(p): Place(end, epoch, position) for p, (end, position, epoch) in found.items()}
                for topic_id, found in places.items()
            }
            clusters: dict[str, str] = json.loads(properties.get(CLUSTERS, "{}"))
            accepted = tuple(AcceptedGap.from_dict(each) for each in json.loads(properties.get(ACCEPTED, "[]")))
            drift = from_json(properties.get(DRIFT, "{}"))
            return cls(snapshot.snapshot_id, intervals, positions, int(properties[ROWS]), clusters, accepted, drift)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise LedgerError(
                f"the ledger in snapshot {snapshot.snapshot_id} of {_name(table)} cannot be read ({error!r}): {_REPAIR}"
            ) from error

    def of(self, topic_id: str, partition: int) -> Intervals:
        """What is loaded of one partition."""
        return self.intervals.get(topic_id, {}).get(partition, Intervals())

    def missing(self, topic_id: str, wanted: Mapping[int, Intervals]) -> dict[int, Intervals]:
        """What of the wanted offsets is not loaded and not accepted as lost, without partitions that miss nothing."""
        return subtract(wanted, {partition: self.done(topic_id, partition) for partition in wanted})

    def done(self, topic_id: str, partition: int) -> Intervals:
        """Offsets that will not be loaded any more: loaded already, lost for good, or held under another id."""
        done = self.of(topic_id, partition)
        for each in self.accepted:
            gap = each.gap
            if gap.log_id == topic_id and gap.kind in (GapKind.EXPIRED, GapKind.REPLACED):
                done = done.union(gap.of(partition))
            if each.continues_as == topic_id and gap.kind is GapKind.TRUNCATED:
                # The part of the log that was not cut off is still the same.
                cut = gap.of(partition)
                kept = Intervals(((0, cut.first if cut else END),))
                done = done.union(self.done(gap.log_id, partition).intersect(kept))
        return done

    def places(self, topic_id: str) -> dict[int, Place]:
        """Where the partitions of a log stand; one that continues another goes on where that one stood."""
        found = dict(self.positions.get(topic_id, {}))
        for each in self.accepted:
            if each.continues_as == topic_id:
                for partition, at in self.places(each.gap.log_id).items():
                    begins = 0 if each.gap.kind is GapKind.REPLACED else at.next
                    if cut := each.gap.kind is GapKind.TRUNCATED and each.gap.of(partition):
                        begins = cut.first
                    found.setdefault(partition, replace(at, next=begins))
        return found

    @property
    def closed(self) -> frozenset[str]:
        """Ids of logs of which nothing will be read any more."""
        return frozenset(each.gap.log_id for each in self.accepted if each.gap.kind.closes)

    def known(self, log: TopicLog) -> TopicLog:
        """The topic as it is now, with the id under which the ledger knows its records."""
        names = [
            each.continues_as
            for each in self.accepted
            if each.continues_as
            and each.gap.topic_id == log.topic_id
            # A rebuilt ledger does not know the cluster.
            and each.gap.cluster_id in (log.cluster_id, "")
        ]
        return replace(log, topic_id=names[-1]) if names else log

    def epochs(self, topic_id: str) -> Epochs:
        """Which `_epoch` the records of a log have, and from which offsets on, the highest epoch first.

        It holds from offset 0 on in partitions that are not named (they were added later), and in a log opened later.
        """
        found: list[tuple[int, dict[int, int]]] = []
        later: set[str] = set()
        for each in reversed(self.accepted):
            if each.continues_as:
                later.add(each.continues_as)
            if each.epoch is None:
                continue
            if each.gap.log_id == topic_id and topic_id not in later:
                found.append((each.epoch, {p: first for p, first, _ in each.gap.ranges}))
            elif topic_id in later:
                found.append((each.epoch, {}))
        return tuple(found)

    def epoch_at(self, topic_id: str, partition: int, offset: int) -> int:
        """The `_epoch` of a record."""
        return next((e for e, starts in self.epochs(topic_id) if offset >= starts.get(partition, 0)), 0)

    def accepting(self, accepted: AcceptedGap) -> Ledger:
        """The ledger with one more decision."""
        return replace(self, accepted=(*self.accepted, accepted))

    def including(
        self,
        topic_id: str,
        ranges: Iterable[OffsetRange],
        rows: int,
        positions: Mapping[int, Place],
        cluster_id: str | None = None,
    ) -> Ledger:
        """The ledger after a commit of these ranges of a log, which lies in that cluster.

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
            clusters={**self.clusters, **({topic_id: cluster_id} if cluster_id else {})},
        )

    def summary(self) -> dict[str, str]:
        """Snapshot properties that hold the ledger."""
        intervals = {
            topic_id: {str(p): [list(pair) for pair in found.pairs] for p, found in sorted(partitions.items())}
            for topic_id, partitions in self.intervals.items()
        }
        positions = {
            topic_id: {str(p): [at.next, at.position, at.epoch] for p, at in sorted(places.items())}
            for topic_id, places in self.positions.items()
        }
        accepted = [each.to_dict() for each in self.accepted]
        return {
            LEDGER: _json(intervals),
            POSITIONS: _json(positions),
            ROWS: str(self.rows),
            CLUSTERS: _json(dict(self.clusters)),
            ACCEPTED: _json(accepted),
            DRIFT: to_json(self.drift),
        }


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
