"""Whether the log that is there now continues the one that was loaded: a gap is never passed over in silence."""

from __future__ import annotations

from collections.abc import Mapping

from orders_platform.ingest.errors import OffsetsResetError, RecordsExpiredError, TopicRecreatedError
from orders_platform.ingest.kafka_admin import TopicLog
from orders_platform.ingest.ledger import Ledger
from orders_platform.ingest.offsets import Intervals


def refuse_another_log(log: TopicLog, ledger: Ledger) -> None:
    """Stops a load from a log that is not the one whose offsets the ledger holds.

    Raises:
        TopicRecreatedError: if bronze holds records of the topic under another id.
        OffsetsResetError: if the log ends before offsets that bronze holds.
    """
    others = sorted(set(ledger.intervals) - {log.topic_id})
    if others:
        held = {other: {p: found.next for p, found in ledger.intervals[other].items()} for other in others}
        raise TopicRecreatedError(
            f"topic {log.name} has id {log.topic_id}, but what was loaded so far came from id {', '.join(others)} "
            f"(next offsets by partition: {held}): it was deleted and made again, or belongs to another cluster. "
            f"Records of the former topic behind those offsets may be lost; nothing of the new one was loaded"
        )
    for partition, loaded in ledger.intervals.get(log.topic_id, {}).items():
        bounds = log.partitions.get(partition)
        end = bounds.high_watermark if bounds else 0
        if loaded.next > end:
            raise OffsetsResetError(
                f"topic {log.name}[{partition}] ends at offset {end}, but bronze holds it up to {loaded.next - 1}: "
                f"offsets {end}–{loaded.next - 1} belong to other records now, or to none (a truncated log). "
                f"Nothing was loaded"
            )


def refuse_lost(log: TopicLog, lost: Mapping[int, Intervals]) -> None:
    """Raises `RecordsExpiredError` naming offsets that were never loaded, are not staged and are gone."""
    if lost:
        ranges = "; ".join(
            f"[{partition}] {first}–{end - 1}" for partition, found in lost.items() for first, end in found.pairs
        )
        starts = ", ".join(f"[{partition}] {log.partitions[partition].start}" for partition in lost)
        raise RecordsExpiredError(
            f"topic {log.name} lost offsets {ranges} before they were loaded (the log now starts at {starts}): "
            f"retention is shorter than the time without a load, or records were deleted. Nothing behind the gap was "
            f"loaded; raise retention.ms, and accept the gap or restore the table from its source"
        )


def gone_from_log(log: TopicLog, ledger: Ledger, origins: Mapping[int, int]) -> dict[int, Intervals]:
    """Offsets from the first sight of the topic to the start of its log that were never loaded; they may be staged."""
    gone = {
        partition: Intervals(((origins[partition], max(origins[partition], bounds.start)),))
        for partition, bounds in log.partitions.items()
    }
    return ledger.missing(log.topic_id, gone)
