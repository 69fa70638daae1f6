"""Which offsets a day has. The windows of a topic's days tile its log: none overlap, nothing is between.

A day's window goes, in each partition, from the first record at or after its 00:00 UTC to the first record of the next
day; while there is none yet, to the last stable offset, and the day is open. The end of the log is taken before days
are looked up: the other way round, records of the first seconds after midnight would fall into yesterday. The marks
that end transactions are records too, and carry the broker's time whatever the producers' timestamps say.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from orders_platform.contracts import Contract
from orders_platform.ingest.boundaries import TopicMemory
from orders_platform.ingest.kafka_admin import Found, KafkaAdmin, TopicLog
from orders_platform.ingest.offsets import OffsetRange
from orders_platform.ingest.staging_files import storage
from orders_platform.settings import Settings


@dataclass(frozen=True)
class DayWindow:
    """The offsets of a day, one range a partition. A closed day gets no more records in any partition."""

    day: date
    ranges: tuple[OffsetRange, ...]
    closed: bool

    def range(self, partition: int) -> OffsetRange:
        """The range of a partition; empty at 0 for one that the topic does not have."""
        return next((each for each in self.ranges if each.partition == partition), OffsetRange(partition, 0, 0))


def day_window(settings: Settings, contract: Contract, day: date) -> DayWindow:
    """The window of a day, as far as the log goes now. A day in the future is empty and open.

    Raises:
        TopicMissingError: if the topic does not exist.
        TopicRecreatedError: if it was first seen in another cluster.
        UnboundedTimestampsError: if its producers may write any timestamp.
        BrokerUnavailableError: if the broker does not answer in time.
    """
    admin = KafkaAdmin(settings)
    log = admin.topic(contract.topic(settings.topic_prefix))
    admin.refuse_unbounded_timestamps(log.name)
    return window_of(admin, log, TopicMemory(storage(settings), log.name, log.topic_id), day)


def window_of(admin: KafkaAdmin, log: TopicLog, memory: TopicMemory, day: date) -> DayWindow:
    """The window of a day in a log whose end was taken before. What is learned of its borders is remembered."""
    origins = memory.origins(log)
    after = day + timedelta(days=1)
    start, end = (_day_starts(admin, log, memory, origins, each) for each in (day, after))
    ranges = []
    for partition, bounds in log.partitions.items():
        first, following = start.get(partition), end.get(partition)
        if following is None:
            following = bounds.stable_end
        if first is None or first > following:
            # No record of the day, or none that was stable when the end was taken.
            first = following
        ranges.append(OffsetRange(partition, first, following))
    return DayWindow(day, tuple(ranges), closed=len(end) == len(log.partitions))


def _day_starts(
    admin: KafkaAdmin, log: TopicLog, memory: TopicMemory, origins: dict[int, int], day: date
) -> dict[int, int]:
    """The first offset of a day in each partition in which there is one at or after it."""
    known = memory.day_starts(day)
    moment = milliseconds(day)
    unknown = [(partition, moment) for partition in log.partitions if partition not in known]
    for (partition, _), found in admin.first_at(log.name, unknown).items():
        if found is None:
            continue
        known[partition] = found.offset
        start = log.partitions[partition].start
        # At the start of a log that has lost records nobody knows where the day began: it is asked again next time.
        if found.offset > start or start == origins.get(partition):
            known[partition] = memory.keep_day_start(day, partition, found.offset)
    return known


def milliseconds(day: date) -> int:
    """The day's 00:00 UTC in milliseconds since 1970."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def day_of(found: Found) -> date:
    """The UTC day of a record."""
    return datetime.fromtimestamp(found.timestamp / 1000, UTC).date()
