"""Which runs the tables that are behind need: pure planning, the same for the sensor and for `sync`."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from orders_platform.defs.partitions import contiguous
from orders_platform.ingest.offsets import OffsetRange


@dataclass(frozen=True)
class UnreadDay:
    """Records of one table and day that bronze does not have. `oldest` is the first one's time, UTC, if known."""

    table: str
    day: date
    ranges: tuple[OffsetRange, ...]
    records: int
    oldest: datetime | None = None


@dataclass(frozen=True)
class IngestRun:
    """One run: tables, a contiguous range of days, and for each table up to where to read each partition.

    `stopped` are tables that cannot be loaded: their steps fail with the reason, which is what alerts tell of.
    `heads` says for each table where bronze and silver stood when it was planned, `positions` how far it had come.
    """

    first_day: date
    last_day: date
    ranges: Mapping[str, tuple[OffsetRange, ...]]
    merge_only: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    heads: Mapping[str, str] = field(default_factory=dict)
    positions: Mapping[str, str] = field(default_factory=dict)

    @property
    def records(self) -> int:
        return sum(each.offsets for ranges in self.ranges.values() for each in ranges)

    @property
    def assets(self) -> list[str]:
        """The assets to materialize: the whole chain of a table, or its last step where only that is behind."""
        chains = [f"{layer}_{table}" for table in sorted(self.ranges) for layer in ("staging", "bronze", "silver")]
        chains += [f"{layer}_{table}" for table in self.stopped for layer in ("staging", "bronze")]
        return chains + [f"silver_{table}" for table in sorted(set(self.merge_only) - set(self.ranges))]

    @property
    def config(self) -> dict[str, object]:
        """Dagster's run config: offset ranges, never messages."""
        return {
            "ops": {
                f"staging_{table}": {
                    "config": {"ranges": {str(each.partition): [each.first, each.next] for each in ranges}}
                }
                for table, ranges in self.ranges.items()
            }
        }

    @property
    def key(self) -> str:
        """Fingerprint of positions, ends and heads: the same for a repeated tick, another as soon as anything moved."""
        what = [
            f"{self.first_day}/{self.last_day}",
            *(f"{table}{each}" for table, ranges in sorted(self.ranges.items()) for each in ranges),
            *(f"merge {table}" for table in sorted(self.merge_only)),
            *(f"stopped {table}" for table in self.stopped),
            *(f"{table} at {head}" for table, head in sorted(self.heads.items())),
            *(f"{table} come to {position}" for table, position in sorted(self.positions.items())),
        ]
        return hashlib.sha256("\n".join(what).encode()).hexdigest()[:20]


def plan_ingest(
    unread: Iterable[UnreadDay],
    merge_only: Sequence[str],
    today: date,
    max_records: int,
    heads: Mapping[str, str] | None = None,
    positions: Mapping[str, str] | None = None,
) -> list[IngestRun]:
    """The runs that carry everything unread, oldest days first; each has one contiguous range of days.

    A run reads at most about `max_records`, the same share for every table: what is beyond waits for the next plan.
    Tables whose bronze is complete but whose silver is not (a run died in between) are merged by the last run.
    `heads`: where each table's bronze and silver stand. `positions`: how far each has come.
    """
    waiting = [each for each in unread if each.records]
    runs = []
    for first, last in contiguous(each.day for each in waiting):
        days = [each for each in waiting if first <= each.day <= last]
        runs.append(_run(days, max_records))
    if merge_only:
        newest = runs.pop() if runs else IngestRun(today, today, {})
        runs.append(replace(newest, merge_only=tuple(sorted(merge_only))))
    return [
        replace(run, heads=_of_tables(heads or {}, tables), positions=_of_tables(positions or {}, tables))
        for run in runs
        for tables in [{*run.ranges, *run.merge_only}]
    ]


def _of_tables(texts: Mapping[str, str], tables: Collection[str]) -> Mapping[str, str]:
    return {table: text for table, text in texts.items() if table in tables}


def _run(days: Sequence[UnreadDay], max_records: int) -> IngestRun:
    """One run for days that follow each other, cut at the first day at which every table has had its share."""
    tables = sorted({each.table for each in days})
    share = max(1, max_records // len(tables))
    ranges: dict[str, tuple[OffsetRange, ...]] = {}
    touched: set[date] = set()
    for table in tables:
        left = share
        taken: dict[int, OffsetRange] = {}
        for each in sorted((d for d in days if d.table == table), key=lambda d: d.day):
            if left <= 0:
                break
            part = _cut(each.ranges, left)
            left -= sum(p.offsets for p in part)
            touched.add(each.day)
            for p in part:
                before = taken.get(p.partition)
                taken[p.partition] = OffsetRange(p.partition, before.first if before else p.first, p.next)
        ranges[table] = tuple(taken[partition] for partition in sorted(taken))
    return IngestRun(min(touched), max(touched), ranges)


def _cut(ranges: Sequence[OffsetRange], records: int) -> list[OffsetRange]:
    """At most so many offsets, the same share of every partition, from the start of each."""
    total = sum(each.offsets for each in ranges)
    if total <= records:
        return list(ranges)
    kept = []
    for each in ranges:
        take = max(1, each.offsets * records // total)
        kept.append(OffsetRange(each.partition, each.first, each.first + min(take, each.offsets)))
    return kept
