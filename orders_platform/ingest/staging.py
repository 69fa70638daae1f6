"""`staging_*`: the records of a day as Parquet files, raw, each staged once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from pyiceberg.catalog import Catalog

from orders_platform.contracts import Contract
from orders_platform.ingest.boundaries import TopicMemory
from orders_platform.ingest.consumer import RangeReader
from orders_platform.ingest.errors import TopicRecreatedError
from orders_platform.ingest.kafka_admin import KafkaAdmin, TopicLog
from orders_platform.ingest.ledger import Ledger
from orders_platform.ingest.log_guard import refuse_another_log, refuse_truncated
from orders_platform.ingest.offsets import Intervals, OffsetRange, by_partition, flatten
from orders_platform.ingest.staged_file import StagedFile, staged_files, write
from orders_platform.ingest.staging_files import Storage, storage
from orders_platform.ingest.windows import window_of
from orders_platform.lake.catalog import open_catalog
from orders_platform.settings import Settings


@dataclass(frozen=True)
class StagingResult:
    """What one call staged. `ranges` are the offsets, `files` the names below the place of staging."""

    day: date
    topic_id: str
    ranges: tuple[OffsetRange, ...] = ()
    records: int = 0
    bytes: int = 0
    files: tuple[str, ...] = ()


def stage_day(
    settings: Settings,
    contract: Contract,
    day: date,
    until: Mapping[int, int] | None = None,
    place: Storage | None = None,
    catalog: Catalog | None = None,
) -> StagingResult:
    """Stages what the day has and staging has not, as far as Kafka still has it.

    Args:
        until: for each partition the offset to stop before; partitions that are not in it are left alone. None: all.
        place, catalog: where to stage, and where bronze's ledger is, if not to be opened from the settings.

    Raises:
        IngestError: the topic is missing, open to any timestamp, or not the one that was loaded so far; bronze's ledger
            cannot be believed; the broker does not answer.
    """
    ledger = Ledger.of_table(catalog or open_catalog(settings), contract.bronze_table)
    admin = KafkaAdmin(settings)
    log = ledger.known(admin.topic(contract.topic(settings.topic_prefix)))
    place = place or storage(settings)
    refuse_another_log(log, ledger, place)
    admin.refuse_unbounded_timestamps(log.name)
    window = window_of(admin, log, TopicMemory(place, log.name, log.topic_id), day)
    staged = by_partition(file.range for file in staged_files(place, log.name, log.topic_id, day))
    refuse_truncated(log, staged, "staging holds")
    missing = {}
    for each in window.ranges:
        end = each.next if until is None else min(each.next, until.get(each.partition, each.first))
        # What the log has lost is for the load to judge: bronze may have it.
        first = max(each.first, log.partitions[each.partition].start)
        if first < end:
            missing[each.partition] = Intervals(((first, end),)).subtract(staged.get(each.partition, Intervals()))
    return stage_ranges(settings, place, log, day, flatten(missing))


def stage_ranges(
    settings: Settings, place: Storage, log: TopicLog, day: date, ranges: Iterable[OffsetRange]
) -> StagingResult:
    """Reads ranges from Kafka into files of a day, chunk by chunk.

    Raises:
        RecordsExpiredError: if the log has lost the start of a range.
        TopicRecreatedError: if the topic was made anew meanwhile (this process may have stood still for long).
        BrokerUnavailableError: if the broker does not answer; files staged before that stay.
    """
    wanted = [each for each in ranges if each.offsets]
    result = StagingResult(day, log.topic_id)
    if not wanted:
        return result
    records = size = 0
    files = []
    with RangeReader(settings, log.name) as reader:
        for each in wanted:
            for chunk in reader.read(each):
                _refuse_replaced(settings, log)
                file = StagedFile(log.name, log.topic_id, day, chunk.range)
                size += write(place, file, chunk.records)
                records += chunk.records.num_rows
                files.append(file.name)
    return StagingResult(day, log.topic_id, tuple(wanted), records, size, tuple(files))


def _refuse_replaced(settings: Settings, log: TopicLog) -> None:
    """What was read belongs to the log if the topic still is the one that was described before: ids never come back."""
    now = KafkaAdmin(settings).topic(log.name)
    if (now.topic_id, now.cluster_id) != (log.topic_id.partition("~")[0], log.cluster_id):
        raise TopicRecreatedError(
            f"topic {log.name} was made anew while it was read (id {log.topic_id} then, {now.topic_id} now): what was "
            f"read last was not staged, as it may be of either. Run it again"
        )
