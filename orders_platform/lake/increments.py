"""Which files of bronze a table above it has not applied yet: an optimisation, since applying twice changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyiceberg.manifest import DataFile, ManifestEntry, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

from orders_platform.lake.duckdb_engine import live_files


@dataclass(frozen=True)
class Increment:
    """Files to apply, to reach bronze's `snapshot_id`.

    `kind` says how they were found: only what was `appended`; whole `days` where rows were replaced; `everything`
    where bronze's history says nothing of what was applied.
    """

    snapshot_id: int | None
    files: tuple[DataFile, ...]
    kind: Literal["appended", "days", "everything"]


def increment(bronze: Table, applied: int | None, until: int | None = None) -> Increment:
    """What lies between the snapshot `applied` and `until`, by default bronze's head."""
    current = bronze.metadata.snapshot_by_id(until) if until is not None else bronze.current_snapshot()
    if current is None:
        return Increment(None, (), "appended")
    since = _between(bronze, current, applied)
    if since is None:
        return Increment(current.snapshot_id, tuple(live_files(bronze, current.snapshot_id)), "everything")
    entries = _entries_of(bronze, since)
    added = {e.data_file for e in entries if e.status != ManifestEntryStatus.DELETED}
    if all(snapshot.summary and snapshot.summary.operation == Operation.APPEND for snapshot in since):
        return Increment(current.snapshot_id, tuple(added), "appended")
    days = {str(entry.data_file.partition) for entry in entries}
    live = live_files(bronze, current.snapshot_id)
    return Increment(current.snapshot_id, tuple(f for f in live if str(f.partition) in days), "days")


def _between(bronze: Table, current: Snapshot, applied: int | None) -> list[Snapshot] | None:
    """Snapshots after `applied` up to `current`; null if `applied` is not among the ancestors that are still known."""
    found: list[Snapshot] = []
    snapshot: Snapshot | None = current
    while snapshot is not None:
        if snapshot.snapshot_id == applied:
            return found
        found.append(snapshot)
        parent = snapshot.parent_snapshot_id
        snapshot = bronze.metadata.snapshot_by_id(parent) if parent is not None else None
    return None


def _entries_of(bronze: Table, snapshots: list[Snapshot]) -> list[ManifestEntry]:
    """Files that these snapshots added or removed, as far as their manifests still say so."""
    wanted = {snapshot.snapshot_id for snapshot in snapshots}
    manifests = {
        manifest.manifest_path: manifest
        for snapshot in snapshots
        for manifest in snapshot.manifests(bronze.io)
        if manifest.added_snapshot_id in wanted
    }
    entries = {
        (entry.data_file.file_path, entry.status == ManifestEntryStatus.DELETED): entry
        for manifest in manifests.values()
        for entry in manifest.fetch_manifest_entry(bronze.io, discard_deleted=False)
        if entry.snapshot_id in wanted
    }
    return list(entries.values())
