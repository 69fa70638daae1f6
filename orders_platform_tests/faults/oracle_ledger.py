"""What a bronze table says that it has loaded, beside what the topics had and what it holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyiceberg.table import Table

from orders_platform.contracts import Contract
from orders_platform_tests.faults.differing import named
from orders_platform_tests.faults.recording import Kept

LEDGER = "orders-platform.ledger"
ROWS = "orders-platform.ledger-rows"
COMMIT = "orders-platform.ledger-commit"
TAG = "ledger"


def ledger_differences(
    contract: Contract,
    table: Table,
    records: Sequence[Kept],
    rows: Sequence[Mapping[str, Any]],
    ends: Mapping[tuple[str, int], int],
) -> list[str]:
    """The ledger holds each record's offset, none behind the end of a log, and counts the rows; so does each commit.

    `ends`: the offset behind the last of each partition, by log and partition; of logs that are gone nothing is known.
    """
    layer = f"{contract.bronze_table}'s ledger"
    newest = _newest(table)
    if newest is None:
        return [f"{layer}: there is none"]
    ledger, counted = newest
    loaded = _by_place(
        (log, int(partition), first, end)
        for log, partitions in ledger.items()
        for partition, pairs in partitions.items()
        for first, end in pairs
    )
    outside = [kept.place for kept in records if not _holds(loaded.get(kept.place[:2], ()), kept.place[2])]
    beyond = [
        f"{log}[{partition}] up to {last} of {ends[log, partition]}"
        for (log, partition), pairs in loaded.items()
        if (log, partition) in ends and (last := max(end for _, end in pairs)) > ends[log, partition]
    ]
    return (
        named(layer, "records are not in its intervals", outside)
        + named(layer, "intervals go on behind the end of the log", beyond)
        + named(layer, "count of rows is wrong", [f"{counted} of {len(rows)}"] if counted != len(rows) else [])
        + named(layer, "commits have counted otherwise", _miscounted(table, records, rows))
    )


def _newest(table: Table) -> tuple[dict[str, dict[str, list[list[int]]]], int] | None:
    """Of the nearest snapshot from main's head backwards that has one, else of the tagged one."""
    snapshot = table.current_snapshot()
    while snapshot is not None and LEDGER not in _said(snapshot):
        parent = snapshot.parent_snapshot_id
        snapshot = table.snapshot_by_id(parent) if parent is not None else None
    snapshot = snapshot or table.snapshot_by_name(TAG)
    if snapshot is None:
        return None
    said = _said(snapshot)
    return json.loads(said[LEDGER]), int(said[ROWS])


def _said(snapshot: Any) -> Mapping[str, str]:
    return snapshot.summary.additional_properties if snapshot.summary else {}


def _miscounted(table: Table, records: Sequence[Kept], rows: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Commits of loads, also of such as were rolled back, whose counts are not those of the records in their ranges."""
    for snapshot in table.snapshots():
        own = json.loads(_said(snapshot).get(COMMIT, "{}"))
        if "ranges" not in own:
            continue
        ranges = _by_place((own["topic_id"], *each) for each in own["ranges"])
        there = [kept for kept in records if _holds(ranges.get(kept.place[:2], ()), kept.place[2])]
        loaded = [row for row in rows if _holds(ranges.get(_log(row), ()), row["_kafka_offset"])]
        dead = sum(row["_error"] is not None for row in loaded)
        found = {
            "records": len(there),
            "tombstones": sum(kept.record.value is None for kept in there),
            "rows": len(loaded) - dead,
            "dead": dead,
        }
        if found != {name: own[name] for name in found}:
            yield f"snapshot {snapshot.snapshot_id} says {own} where {found} are"


def _by_place(ranges: Iterable[Sequence[Any]]) -> dict[tuple[str, int], list[tuple[int, int]]]:
    """Offsets by log and partition. A log that was cut back goes on under the topic's id with a number."""
    found: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for log, partition, first, end in ranges:
        found.setdefault((log.partition("~")[0], partition), []).append((first, end))
    return found


def _log(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["_topic_id"].partition("~")[0], row["_kafka_partition"]


def _holds(pairs: Iterable[tuple[int, int]], offset: int) -> bool:
    return any(first <= offset < end for first, end in pairs)
