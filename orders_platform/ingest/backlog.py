"""What Kafka has and bronze has not, by day: admin calls and one look at the table's head, no record is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from pyiceberg.catalog import Catalog

from orders_platform.contracts import Contract
from orders_platform.ingest.boundaries import TopicMemory
from orders_platform.ingest.cover import staged_of, staged_of_all_days
from orders_platform.ingest.kafka_admin import KafkaAdmin, TopicLog
from orders_platform.ingest.ledger import Ledger
from orders_platform.ingest.log_guard import gone_from_log, refuse_another_log, refuse_lost
from orders_platform.ingest.offsets import Intervals, OffsetRange, subtract
from orders_platform.ingest.staging_files import storage
from orders_platform.ingest.windows import milliseconds
from orders_platform.settings import Settings

PROBES = 16
"""Lookups a round: each round narrows a moment to a sixteenth."""


@dataclass(frozen=True)
class UnreadRanges:
    """Offsets of one day that are not in bronze. Records may be fewer: aborted and control records count too.

    `oldest` is the time of the first of them, UTC; None if nothing but such records is there.
    """

    ranges: tuple[OffsetRange, ...]
    oldest: datetime | None

    @property
    def records(self) -> int:
        return sum(each.offsets for each in self.ranges)


@dataclass(frozen=True)
class Backlog:
    """A topic's unread offsets. `open_records` lie behind an open transaction and cannot be read yet."""

    topic: str
    topic_id: str
    days: Mapping[date, UnreadRanges] = field(default_factory=dict)
    open_records: int = 0

    @property
    def records(self) -> int:
        return sum(each.records for each in self.days.values())

    @property
    def oldest_timestamp(self) -> datetime | None:
        """The time of the oldest unread record, UTC."""
        return min((each.oldest for each in self.days.values() if each.oldest), default=None)


def unread(settings: Settings, catalog: Catalog, contract: Contract, seconds: float | None = None) -> Backlog:
    """Every day that has unread offsets, oldest first.

    Raises:
        BrokerUnavailableError: when the broker takes more than `seconds` (`ANSWER_SECONDS`) for its answers.
        TopicMissingError, LostRecordsError, LedgerError: what stops the topic.
    """
    admin = KafkaAdmin(settings, seconds)
    ledger = Ledger.of_table(catalog, contract.bronze_table)
    log = ledger.known(admin.topic(contract.topic(settings.topic_prefix)))
    admin.refuse_unbounded_timestamps(log.name)
    place = storage(settings)
    refuse_another_log(log, ledger, place)
    origins = TopicMemory(place, log.name, log.topic_id).origins(log)
    only_staged: dict[date, tuple[OffsetRange, ...]] = {}
    if gone := gone_from_log(log, ledger, origins):
        refuse_lost(log, subtract(gone, staged_of_all_days(place, log)))
        only_staged = staged_of(place, log, gone)
    there = {p: Intervals(((bounds.start, bounds.stable_end),)) for p, bounds in log.partitions.items()}
    missing = ledger.missing(log.topic_id, there)
    open_records = sum(bounds.open_records for bounds in log.partitions.values())
    days = _by_day(admin, log, missing)
    for day, ranges in only_staged.items():
        found = days.get(day)
        oldest = found.oldest if found else datetime(day.year, day.month, day.day, tzinfo=UTC)
        days[day] = UnreadRanges(tuple(sorted((*ranges, *(found.ranges if found else ())))), oldest)
    return Backlog(log.name, log.topic_id, dict(sorted(days.items())), open_records)


def _by_day(admin: KafkaAdmin, log: TopicLog, missing: Mapping[int, Intervals]) -> dict[date, UnreadRanges]:
    """Unread offsets by the day whose window they lie in, partitions side by side."""
    moments = _moments(admin, log, {p: found.first for p, found in missing.items()})
    ranges: dict[date, list[OffsetRange]] = {}
    oldest: dict[date, int] = {}
    left = dict(missing)
    at = dict(moments)
    while left:
        days = {p: _day(at[p]) for p in left}
        following = admin.first_at(log.name, [(p, milliseconds(days[p] + timedelta(days=1))) for p in left])
        for (partition, _), found in following.items():
            day, unread_left = days[partition], left.pop(partition)
            end = found.offset if found else unread_left.next
            part = unread_left.intersect(Intervals(((0, end),)))
            ranges.setdefault(day, []).extend(part.ranges(partition))
            if part:
                oldest[day] = min(oldest.get(day, at[partition]), at[partition])
            rest = unread_left.subtract(part)
            if rest and found:
                left[partition], at[partition] = rest, found.timestamp
    return {
        day: UnreadRanges(tuple(sorted(ranges[day])), datetime.fromtimestamp(oldest[day] / 1000, UTC))
        for day in sorted(ranges)
        if ranges[day]
    }


def _moments(admin: KafkaAdmin, log: TopicLog, firsts: Mapping[int, int]) -> dict[int, int]:
    """For each partition: the time, in milliseconds since 1970, of the record at an offset (or the one before it).

    The broker finds offsets by time, not times by offset: the latest moment whose first record is not behind the offset
    is searched for, all partitions in the same rounds.
    """
    horizon = milliseconds(datetime.now(UTC).date() + timedelta(days=3))
    low = dict.fromkeys(firsts, 0)
    high = dict.fromkeys(firsts, horizon)
    open_ = set(firsts)
    while open_:
        probes = {p: _between(low[p], high[p]) for p in open_}
        asked = [(p, moment) for p, moments in probes.items() for moment in moments]
        for (partition, moment), found in admin.first_at(log.name, asked).items():
            if found is None or found.offset > firsts[partition]:
                high[partition] = min(high[partition], moment)
            else:
                low[partition] = max(low[partition], found.timestamp, moment)
        open_ = {p for p in open_ if high[p] - low[p] > 1}
    return low


def _between(low: int, high: int) -> list[int]:
    step = max(1, (high - low) // PROBES)
    return list(range(low + step, high, step)) or [low + 1]


def _day(moment: int) -> date:
    return datetime.fromtimestamp(moment / 1000, UTC).date()
