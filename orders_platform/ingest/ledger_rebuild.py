"""A ledger made from the rows, where there is none that can be believed: what follows from them, and what does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from orders_platform.contracts import Contract
from orders_platform.fault_points import SituationPoint
from orders_platform.ingest.bronze import bronze_table, load_former
from orders_platform.ingest.drift import Drift
from orders_platform.ingest.errors import CommitRefusedError, IngestError, LedgerError
from orders_platform.ingest.gaps import END, AcceptedGap, Gap, GapKind
from orders_platform.ingest.kafka_admin import TopicLog
from orders_platform.ingest.ledger import ACCEPTED, REPAIR_LOG, TAG, Ledger
from orders_platform.ingest.offsets import Intervals
from orders_platform.ingest.positions import STREAMED, Place
from orders_platform.ingest.staged_file import staged_days
from orders_platform.ingest.staging_files import storage
from orders_platform.lake.commits import CommitFaults, commit, total_rows
from orders_platform.lake.duckdb_engine import connect, scan_sql
from orders_platform.settings import Settings

DERIVED_BY = "ledger rebuild"
_FAULTS = CommitFaults(
    SituationPoint.REBUILD_BEFORE_COMMIT, SituationPoint.REBUILD_COMMIT_UNANSWERED, SituationPoint.REBUILD_AFTER_COMMIT
)


class NotNeededError(LedgerError):
    """The table has a ledger that agrees with its rows; another one could only be worse."""


@dataclass(frozen=True)
class Rebuilt:
    """The ledger, and in words what the rows do not tell."""

    ledger: Ledger
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class _DayOfLog:
    """What the rows of one log, partition, day and epoch say; `newest` is the time of the last of them."""

    log_id: str
    partition: int
    day: date
    epoch: int
    first: int
    next: int
    position: int | None
    newest: datetime


def rebuild(settings: Settings, catalog: Catalog, contract: Contract, *, although_believed: bool = False) -> Rebuilt:
    """Derives the ledger from the rows' topic ids, partitions, offsets and epochs, and commits it to the table's head.

    Within a day, everything from the first to the last row of a partition counts as loaded: loads have no gaps, and
    what has no row there was a tombstone or a record that makes none. Such records at the edges of a day are read
    again, which makes no row either. Gaps that were accepted, and how the last rows differed from the contract, are
    taken from the newest snapshot that still says so. What the table has no more of a topic that was accepted as
    replaced is loaded from staging, as far as the decisions are known: no load looks there again.

    Raises:
        NotNeededError: if there is a ledger that agrees with the rows and nothing of a replaced topic is to be loaded,
            unless `although_believed`.
        ConflictError: if the table changed meanwhile; nothing was committed.
        CommitRefusedError: others kept committing first; the ledger is made, run it again for the replaced topics.
    """
    table = bronze_table(catalog, contract)
    head = table.current_snapshot()
    if head is None:
        raise NotNeededError(f"{contract.bronze_table} is empty, and so is its ledger")
    if not although_believed:
        try:
            _refuse_without_need(table)
        except NotNeededError:
            believed = Ledger.read(table)
            ledger, stopped = _with_replaced(settings, catalog, contract, believed)
            if ledger.intervals == believed.intervals and not stopped:
                raise
            return Rebuilt(ledger, tuple(stopped))
    days = _days(settings, table)
    intervals: dict[str, dict[int, Intervals]] = {}
    positions: dict[str, dict[int, Place]] = {}
    for each in days:
        held = intervals.setdefault(each.log_id, {})
        held[each.partition] = held.get(each.partition, Intervals()).union(Intervals(((each.first, each.next),)))
    for each in days:
        places, held = positions.setdefault(each.log_id, {}), intervals[each.log_id]
        known = places.get(each.partition)
        if each.position is not None and (known is None or each.epoch >= known.epoch):
            before = known.position if known and known.epoch == each.epoch else each.position
            places[each.partition] = Place(held[each.partition].next, each.epoch, max(before, each.position))
    said = _said_before(table)
    accepted = said.accepted if said is not None else _derived(days)
    drift = said.drift if said is not None else Drift()
    ledger = Ledger(head.snapshot_id, intervals, positions, total_rows(table), {}, accepted, drift)
    commit(table, expected=head.snapshot_id, add=(), summary=ledger.summary(), tag=TAG, faults=_FAULTS)
    ledger, stopped = _with_replaced(settings, catalog, contract, ledger)
    return Rebuilt(ledger, (*_unknown(intervals, ledger, derived=said is None), *stopped))


def _with_replaced(
    settings: Settings, catalog: Catalog, contract: Contract, ledger: Ledger
) -> tuple[Ledger, list[str]]:
    """The ledger once all is loaded that is staged of replaced topics, and in words what of it could not be.

    A log that was cut back is none of them: what lies before the cut, its successor reads again.
    """
    place = storage(settings)
    stopped = []
    for each in ledger.accepted:
        if each.gap.kind is GapKind.REPLACED:
            log = TopicLog(contract.topic(settings.topic_prefix), each.gap.log_id, cluster_id="", partitions={})
            for day in staged_days(place, log.name, log.topic_id):
                try:
                    load_former(settings, catalog, contract, day, log, place)
                except CommitRefusedError:
                    raise
                except IngestError as error:
                    stopped.append(f"what is staged of {log.topic_id} on {day} was not loaded: {error}")
    return Ledger.read(catalog.load_table(contract.bronze_table)), stopped


def _refuse_without_need(table: Table) -> None:
    try:
        ledger = Ledger.read(table)
    except LedgerError:
        return
    if ledger.rows == total_rows(table):
        raise NotNeededError(
            f"{'.'.join(table.name())} has a ledger that agrees with its {ledger.rows} rows: it knows more than "
            f"they do (ranges without rows, accepted gaps). Nothing was changed"
        )


def _days(settings: Settings, table: Table) -> list[_DayOfLog]:
    with connect(settings) as con:
        rows = con.execute(
            f"""SELECT _topic_id, _kafka_partition, _ingest_day, _epoch, min(_kafka_offset), max(_kafka_offset) + 1,
                       max(_commit_pos) FILTER ({STREAMED}), max(_kafka_ts)
            FROM {scan_sql(table)} GROUP BY ALL ORDER BY 1, 2, 3, 4"""
        ).fetchall()
    found = [_DayOfLog(*row) for row in rows]
    # An epoch begins in the middle of a day: its first row follows the last one of the epoch before without a gap.
    joined: list[_DayOfLog] = []
    for each in found:
        last = joined[-1] if joined else None
        same = last and (last.log_id, last.partition, last.day) == (each.log_id, each.partition, each.day)
        joined.append(replace(each, first=min(each.first, last.next)) if same and last else each)
    return joined


def _said_before(table: Table) -> Ledger | None:
    """The newest ledger that a snapshot has, whatever became of its rows; None if there is none."""
    for snapshot in sorted(table.metadata.snapshots, key=lambda s: s.sequence_number or 0, reverse=True):
        if snapshot.summary is not None and ACCEPTED in snapshot.summary.additional_properties:
            try:
                return Ledger.said_by(table, snapshot)
            except LedgerError:
                continue
    return None


def _derived(days: Sequence[_DayOfLog]) -> tuple[AcceptedGap, ...]:
    """The decisions without which these rows would not be there: logs that were closed, epochs that began."""
    newest: dict[str, datetime] = {}
    for each in days:
        newest[each.log_id] = max(each.newest, newest.get(each.log_id, each.newest))
    logs = sorted((log for log in newest if not log.startswith(REPAIR_LOG)), key=lambda log: newest[log])
    found = [
        _decision(Gap(GapKind.REPAIR, log, ((0, 0, END),), log, "")) for log in newest if log.startswith(REPAIR_LOG)
    ]
    known_epochs = {0}
    for number, log in enumerate(logs):
        if number:
            found.append(_closing(days, logs[number - 1], log))
        for epoch in sorted({each.epoch for each in days if each.log_id == log} - known_epochs):
            found.append(replace(_decision(_beginning(days, log, epoch)), epoch=epoch))
            known_epochs.add(epoch)
    return tuple(found)


def _closing(days: Sequence[_DayOfLog], former: str, log: str) -> AcceptedGap:
    """How the log came after the former one: under an id of its own, or cut back under the same one."""
    topic_id = log.partition("~")[0]
    ends = {each.partition: max(e.next for e in _of(days, former, each.partition)) for each in _of(days, former)}
    if topic_id != former.partition("~")[0]:
        gap = Gap(GapKind.REPLACED, former, tuple((p, end, END) for p, end in sorted(ends.items())), topic_id, "")
        return replace(_decision(gap), continues_as=log)
    starts = {each.partition: min(e.first for e in _of(days, log, each.partition)) for each in _of(days, log)}
    cut = tuple((p, first, max(first, ends.get(p, first))) for p, first in sorted(starts.items()))
    return replace(_decision(Gap(GapKind.TRUNCATED, former, cut, topic_id, "")), continues_as=log)


def _beginning(days: Sequence[_DayOfLog], log: str, epoch: int) -> Gap:
    """Where an epoch begins in a log; behind the last row, in a partition that has none of it."""
    starts = {}
    for partition in {each.partition for each in _of(days, log)}:
        own = _of(days, log, partition)
        starts[partition] = min((e.first for e in own if e.epoch >= epoch), default=max(e.next for e in own))
    ranges = tuple((p, first, END) for p, first in sorted(starts.items()))
    return Gap(GapKind.REWOUND, log, ranges, log.partition("~")[0], "")


def _of(days: Sequence[_DayOfLog], log: str, partition: int | None = None) -> list[_DayOfLog]:
    return [each for each in days if each.log_id == log and partition in (None, each.partition)]


def _decision(gap: Gap) -> AcceptedGap:
    return AcceptedGap(gap, "not known: it follows from the rows", DERIVED_BY, datetime.now(UTC))


def _loaded_up_to(intervals: Mapping[str, Mapping[int, Intervals]], log_id: str, partition: int) -> int:
    held = intervals.get(log_id, {}).get(partition)
    return held.next if held else 0


def _unknown(derived_intervals: Mapping[str, Mapping[int, Intervals]], ledger: Ledger, *, derived: bool) -> list[str]:
    """What may differ from the ledger that was lost."""
    said = [
        "offsets without a row inside a day count as loaded: tombstones, aborted and control records, and whatever "
        "expired there, cannot be told apart",
        "offsets without a row at the edges of a day are read again; if Kafka and staging no longer have them, they "
        "show as a gap to be accepted",
        "from which cluster each log was loaded, and how many tombstones and skipped records",
    ]
    holes = [
        f"{log}[{p}] {first}–{end - 1}"
        for log, partitions in derived_intervals.items()
        for p, held in partitions.items()
        for (_, first), (end, _) in zip(held.pairs, held.pairs[1:], strict=False)
    ]
    if holes:
        said.append(f"offsets that will be asked for again: {', '.join(holes)}")
    given_up = [
        f"{each.gap.log_id}[{p}] {end}–{first - 1}"
        for each in ledger.accepted
        if each.gap.kind in (GapKind.REPLACED, GapKind.TRUNCATED)
        for p, first, _ in each.gap.ranges
        if first > (end := _loaded_up_to(ledger.intervals, each.gap.log_id, p))
    ]
    if given_up:
        said.append(
            f"rows that the table has no more and that no load brings, of a log that was accepted as ended: "
            f"{', '.join(given_up)}; `orders-platform gaps repair` brings what PostgreSQL still has"
        )
    if derived:
        logs = ", ".join(each.gap.name for each in ledger.accepted)
        said.append(
            "which gaps were accepted, why and by whom: no snapshot names them any more"
            + (f"; derived from the rows: {logs}" if logs else "")
        )
    return said
