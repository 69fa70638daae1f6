"""Whether the log that is there now continues the one that was loaded: a gap is never passed over in silence."""

from __future__ import annotations

from collections.abc import Mapping

from orders_platform.ingest.errors import (
    OffsetsResetError,
    RecordsExpiredError,
    TopicRecreatedError,
)
from orders_platform.ingest.gaps import END, Gap, GapKind, describe
from orders_platform.ingest.kafka_admin import TopicLog
from orders_platform.ingest.ledger import Ledger
from orders_platform.ingest.offsets import Intervals, flatten
from orders_platform.ingest.staging_files import Storage


def refuse_another_log(log: TopicLog, ledger: Ledger, place: Storage) -> None:
    """Stops a load from a log that is not the one whose offsets the ledger holds, or that was seen before it.

    Args:
        log: with the id under which the ledger knows it.
        place: where staged files lie, with what is remembered of each log that was seen.

    Raises:
        TopicRecreatedError: if bronze holds records of the topic under another id, or of another cluster, or if it was
            seen under another id and nothing of this one is loaded yet.
        OffsetsResetError: if the log ends before offsets that bronze holds.
    """
    seen = {*ledger.intervals, *(each.continues_as for each in ledger.accepted if each.continues_as)}
    if log.topic_id not in ledger.intervals:
        seen.update(name for name in place.folders(log.name) if _was_seen(place, f"{log.name}/{name}"))
    others = sorted(seen - ledger.closed - {log.topic_id})
    if others:
        former = others[0]
        loaded = f"loaded up to {_ends(ledger, former)}" if former in ledger.intervals else "never loaded"
        raise TopicRecreatedError(
            f"topic {log.name} has id {log.topic_id}, but so far it had id {former} ({loaded}): it was deleted and "
            f"made again, or belongs to another cluster. Records of the former topic behind what is loaded or staged "
            f"may be lost; nothing of the new one was loaded",
            _replaced(log, ledger, former),
        )
    cluster = ledger.clusters.get(log.topic_id, log.cluster_id)
    if cluster != log.cluster_id:
        raise TopicRecreatedError(
            f"topic {log.name} was loaded from cluster {cluster} and is now in {log.cluster_id} under the same id (up "
            f"to {_ends(ledger, log.topic_id)}): offsets of both do not belong together. Nothing was loaded; if "
            f"Kafka's settings name the wrong cluster, mend them",
            _replaced(log, ledger, log.topic_id),
        )
    refuse_truncated(log, ledger.intervals.get(log.topic_id, {}), "bronze holds")


def _was_seen(place: Storage, folder: str) -> bool:
    """Whether a folder is what staging keeps of a log, and not somebody else's."""
    return "origin.json" in place.names(folder) or any(name.startswith("dt=") for name in place.folders(folder))


def refuse_truncated(log: TopicLog, held: Mapping[int, Intervals], who: str) -> None:
    """Raises `OffsetsResetError` if the log ends before offsets that were read from it."""
    cut = []
    for partition, found in held.items():
        bounds = log.partitions.get(partition)
        end = bounds.high_watermark if bounds else 0
        if found.next > end:
            cut.append((partition, end, found.next))
    if cut:
        ends = ", ".join(f"[{p}] at offset {end}, but {who} it up to {following - 1}" for p, end, following in cut)
        raise OffsetsResetError(
            f"topic {log.name} ends {ends}: offsets {describe(tuple(cut))} belong to other records now, or to none "
            f"(a truncated log). Nothing was loaded",
            Gap(GapKind.TRUNCATED, log.topic_id, tuple(cut), log.topic_id.partition("~")[0], log.cluster_id),
        )


def refuse_lost(log: TopicLog, lost: Mapping[int, Intervals]) -> None:
    """Raises `RecordsExpiredError` naming offsets that were never loaded, are not staged and are gone."""
    if lost:
        ranges = tuple((each.partition, each.first, each.next) for each in flatten(lost))
        starts = ", ".join(f"[{partition}] {log.partitions[partition].start}" for partition in lost)
        raise RecordsExpiredError(
            f"topic {log.name} lost offsets {describe(ranges)} before they were loaded (the log now starts at "
            f"{starts}): retention is shorter than the time without a load, or records were deleted. Nothing behind "
            f"the gap was loaded; raise retention.ms, and put staged files back if there were any",
            Gap(GapKind.EXPIRED, log.topic_id, ranges, log.topic_id.partition("~")[0], log.cluster_id),
        )


def gone_from_log(log: TopicLog, ledger: Ledger, origins: Mapping[int, int]) -> dict[int, Intervals]:
    """Offsets from the first sight of the topic to the start of its log that were never loaded; they may be staged.

    The origins stand beside the staged files and may be lost with them; then the topic looks as if it were seen for the
    first time. Where the ledger holds earlier offsets, it was not.
    """
    gone = {}
    for partition, bounds in log.partitions.items():
        done = ledger.done(log.topic_id, partition)
        begun = min(origins[partition], done.first) if done else origins[partition]
        gone[partition] = Intervals(((begun, max(begun, bounds.start)),))
    return ledger.missing(log.topic_id, gone)


def _replaced(log: TopicLog, ledger: Ledger, former: str) -> Gap:
    """All that was not loaded of a log that is gone. What is staged of it is loaded before it is closed."""
    ranges = []
    for partition in sorted(ledger.intervals.get(former) or log.partitions):
        held = ledger.of(former, partition)
        rest = Intervals(((held.first if held else 0, END),)).subtract(ledger.done(former, partition))
        ranges += [(partition, each.first, each.next) for each in rest.ranges(partition)]
    return Gap(GapKind.REPLACED, former, tuple(ranges), log.topic_id.partition("~")[0], log.cluster_id)


def _ends(ledger: Ledger, log_id: str) -> str:
    held = ledger.intervals.get(log_id, {})
    return ", ".join(f"[{partition}] {found.next - 1}" for partition, found in sorted(held.items()))
