"""Which staged files, and which part of each, hold what bronze lacks of a day; gaps between them are staged again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date

from orders_platform.ingest.boundaries import TopicMemory
from orders_platform.ingest.kafka_admin import KafkaAdmin, TopicLog
from orders_platform.ingest.ledger import Ledger
from orders_platform.ingest.log_guard import gone_from_log, refuse_lost, refuse_truncated
from orders_platform.ingest.offsets import Intervals, OffsetRange, by_partition, flatten, subtract
from orders_platform.ingest.staged_file import StagedFile, staged_days, staged_files
from orders_platform.ingest.staging import stage_ranges
from orders_platform.ingest.staging_files import Storage
from orders_platform.ingest.windows import window_of
from orders_platform.settings import Settings


@dataclass(frozen=True)
class Slice:
    """Offsets of a staged file that are to be loaded."""

    file: StagedFile
    range: OffsetRange


def cover_day(
    settings: Settings,
    place: Storage,
    memory: TopicMemory,
    log: TopicLog,
    admin: KafkaAdmin,
    ledger: Ledger,
    day: date,
) -> tuple[Slice, ...]:
    """Slices that together hold, once each, the staged offsets of the day that the ledger lacks: no gap between them.

    Raises:
        RecordsExpiredError: if offsets that were never loaded can be had neither from staging nor from Kafka.
    """
    window = window_of(admin, log, memory, day)
    lost = gone_from_log(log, ledger, memory.origins(log))
    if lost:
        refuse_lost(log, subtract(lost, staged_of_all_days(place, log)))
    files = staged_files(place, log.name, log.topic_id, day)
    staged = by_partition(file.range for file in files)
    refuse_truncated(log, staged, "staging holds")
    wanted = {}
    for each in window.ranges:
        end = min(each.next, staged.get(each.partition, Intervals()).next)
        if each.first < end:
            wanted[each.partition] = Intervals(((each.first, end),))
    todo = ledger.missing(log.topic_id, wanted)
    if gaps := subtract(todo, staged):
        stage_ranges(settings, place, log, day, flatten(gaps))
        files = staged_files(place, log.name, log.topic_id, day)
    return tuple(_slices(files, todo))


def cover_of_former(place: Storage, log: TopicLog, ledger: Ledger, day: date) -> tuple[Slice, ...]:
    """Slices of what is staged of a day and not loaded, of a log that cannot be read any more."""
    files = staged_files(place, log.name, log.topic_id, day)
    return tuple(_slices(files, ledger.missing(log.topic_id, by_partition(file.range for file in files))))


def staged_of_all_days(place: Storage, log: TopicLog) -> dict[int, Intervals]:
    """Everything that is staged of a topic."""
    days = staged_days(place, log.name, log.topic_id)
    return by_partition(file.range for day in days for file in staged_files(place, log.name, log.topic_id, day))


def staged_of(place: Storage, log: TopicLog, wanted: Mapping[int, Intervals]) -> dict[date, tuple[OffsetRange, ...]]:
    """Which of these offsets are staged, by day."""
    found = {}
    for day in staged_days(place, log.name, log.topic_id):
        staged = by_partition(file.range for file in staged_files(place, log.name, log.topic_id, day))
        there = {p: held.intersect(wanted.get(p, Intervals())) for p, held in staged.items()}
        if ranges := flatten(there):
            found[day] = ranges
    return found


def _slices(files: Iterable[StagedFile], todo: Mapping[int, Intervals]) -> Iterator[Slice]:
    """Files that overlap say the same, so that each offset is taken from the first file that has it.

    A day has thousands of files, nearly all of them loaded: those cost a comparison each.
    """
    left = dict(todo)
    for file in files:
        partition = file.range.partition
        waiting = left.get(partition)
        if not waiting or file.range.next <= waiting.first or file.range.first >= waiting.next:
            continue
        own = Intervals(((file.range.first, file.range.next),))
        left[partition] = waiting.subtract(own)
        for each in waiting.intersect(own).ranges(partition):
            yield Slice(file, each)
