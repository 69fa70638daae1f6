"""One commit: files added and removed, their summary and a tag, all or nothing, and only on the snapshot that was read.

PyIceberg's own commit loop is not used. It answers `CommitFailedException` by trying again on the new head, which
would load a batch twice, or, without retries, by deleting the manifests that it wrote, although the commit may have
landed and only its answer been lost. Here such a refusal becomes `ConflictError`, nothing is tried again, and nothing
is ever deleted: whoever planned the commit reloads the table and plans again from what is in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry, ManifestEntryStatus, ManifestFile
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update import (
    AssertRefSnapshotId,
    AssertTableUUID,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)
from pyiceberg.table.update.snapshot import _ManifestMergeManager, _MergeAppendFiles

from orders_platform.errors import PlatformError
from orders_platform.fault_points import Point, reach

PROPERTY_PREFIX = "orders-platform."
"""Summary properties with this prefix are carried from snapshot to snapshot, but for those that end in `-commit`."""


class ConflictError(PlatformError):
    """Someone else committed first; nothing of ours is in the table. Reload it and plan again."""


class CommitUnknownError(PlatformError):
    """The catalog did not answer: the commit may or may not be in the table. Reload it and plan again from its head."""


class ForeignDeletesError(PlatformError):
    """The table has delete files of another engine, which readers here would miss."""


@dataclass(frozen=True)
class CommitFaults:
    """The named points around a commit at which tests end the process."""

    before: Point | None = None
    unanswered: Point | None = None
    after: Point | None = None


NO_FAULTS = CommitFaults()


def head(table: Table, branch: str = MAIN_BRANCH) -> int | None:
    """Snapshot id of a branch's head; null where the branch has none."""
    snapshot = table.metadata.snapshot_by_name(branch)
    return snapshot.snapshot_id if snapshot else None


def next_sequence_number(table: Table) -> int:
    """The sequence number that a commit planned on this state of the table will have."""
    return table.metadata.next_sequence_number()


def ref_is(ref: str, snapshot_id: int | None) -> TableRequirement:
    """The condition that a branch or tag points to a snapshot; null: that it does not exist."""
    return AssertRefSnapshotId.model_validate({"ref": ref, "snapshot-id": snapshot_id})


def set_ref(ref: str, snapshot_id: int, kind: str) -> TableUpdate:
    """The change that lets a branch or tag (`SnapshotRefType`) point to a snapshot."""
    return SetSnapshotRefUpdate.model_validate({"ref-name": ref, "snapshot-id": snapshot_id, "type": kind})


def own_properties(table: Table, snapshot_id: int | None) -> dict[str, str]:
    """The platform's summary properties of a snapshot."""
    snapshot = table.metadata.snapshot_by_id(snapshot_id) if snapshot_id is not None else None
    if snapshot is None or snapshot.summary is None:
        return {}
    return {k: v for k, v in snapshot.summary.additional_properties.items() if k.startswith(PROPERTY_PREFIX)}


def total_rows(table: Table) -> int:
    """Rows of a table's head, as its summary says."""
    snapshot = table.current_snapshot()
    if snapshot is None or snapshot.summary is None:
        return 0
    return int(snapshot.summary.additional_properties.get("total-records", 0))


def commit(
    table: Table,
    *,
    expected: int | None,
    add: Sequence[DataFile],
    remove: Sequence[DataFile] = (),
    summary: Mapping[str, str],
    branch: str = MAIN_BRANCH,
    tag: str | None = None,
    faults: CommitFaults = NO_FAULTS,
) -> int:
    """Commits files that are already written, on condition that `expected` is still the branch's head.

    Args:
        table: as it was when the commit was planned; afterwards it is the table with the commit.
        expected: snapshot id on which the plan was made; null for a branch without snapshots. A branch other than main
            that does not exist is created on that snapshot.
        remove: files of that snapshot that the added ones replace (copy on write).
        summary: properties of the snapshot; those of the parent with `PROPERTY_PREFIX` are carried forward.
        tag: name of a tag that moves to the new snapshot in the same commit.

    Returns:
        The id of the new snapshot.

    Raises:
        ConflictError: the head is another one by now. Nothing was committed.
        CommitUnknownError: no answer. Reload, and plan again from the head.
        ForeignDeletesError: the table has delete files of another engine.
    """
    refs = table.metadata.refs
    if (branch in refs or branch == MAIN_BRANCH) and head(table, branch) != expected:
        raise ConflictError(f"{_name(table)}: {branch} is at {head(table, branch)}, planned on {expected}")
    producer = _ConditionalCommit(table, expected, branch, add, remove, summary)
    updates, requirements = producer._commit()
    if tag is not None:
        requirements += (ref_is(tag, _ref(table, tag)),)
        updates += (set_ref(tag, producer.snapshot_id, SnapshotRefType.TAG),)
    if not table.metadata.snapshots:
        # PyIceberg refuses conditions on any ref but main while a table has no snapshot; main's guards the tag.
        requirements = (ref_is(MAIN_BRANCH, None),) if branch == MAIN_BRANCH else ()
    send(table, updates, requirements, faults)
    return producer.snapshot_id


def move_ref(
    table: Table,
    ref: str,
    snapshot_id: int,
    *,
    kind: SnapshotRefType = SnapshotRefType.TAG,
    also: Sequence[TableUpdate] = (),
    requirements: Sequence[TableRequirement] = (),
    faults: CommitFaults = NO_FAULTS,
) -> None:
    """Lets a branch or tag point to a snapshot, on condition that it still points to where `table` says it does.

    Raises `ConflictError` and `CommitUnknownError` as `commit` does.
    """
    conditions = (ref_is(ref, _ref(table, ref)), *requirements)
    send(table, (set_ref(ref, snapshot_id, kind), *also), conditions, faults)


def send(
    table: Table,
    updates: Sequence[TableUpdate],
    requirements: Sequence[TableRequirement],
    faults: CommitFaults = NO_FAULTS,
) -> None:
    """Sends one change of metadata to the catalog and lets `table` be what came of it. Raises as `commit` does."""
    if faults.before:
        reach(faults.before)
    conditions = (AssertTableUUID(uuid=table.metadata.table_uuid), *requirements)
    try:
        response = table.catalog.commit_table(table, conditions, tuple(updates))
    except CommitFailedException as error:
        raise ConflictError(f"{_name(table)}: {error}") from error
    except Exception as error:
        raise CommitUnknownError(f"{_name(table)}: no answer from the catalog: {error!r}") from error
    if faults.unanswered:
        reach(faults.unanswered)
    before = table.metadata
    table.metadata, table.metadata_location = response.metadata, response.metadata_location
    table.catalog._delete_old_metadata(table.io, before, table.metadata)
    if faults.after:
        reach(faults.after)


class _Unchanged(Transaction):
    """A transaction without changes of its own: its metadata are the table's.

    PyIceberg copies all metadata whenever it is asked for them, some 17 times a commit, longer with every snapshot.
    """

    @property
    def table_metadata(self) -> TableMetadata:
        return self._table.metadata


class _ConditionalCommit(_MergeAppendFiles):
    """Writes the manifests of one commit. Adds and removes files, and merges manifests in both cases.

    PyIceberg's overwrite keeps a manifest for every commit that removed files, its merging append removes nothing.
    """

    def __init__(
        self,
        table: Table,
        parent: int | None,
        branch: str,
        add: Sequence[DataFile],
        remove: Sequence[DataFile],
        summary: Mapping[str, str],
    ) -> None:
        carried = {k: v for k, v in own_properties(table, parent).items() if not k.endswith("-commit")}
        super().__init__(
            operation=Operation.OVERWRITE if remove else Operation.APPEND,
            transaction=_Unchanged(table),
            io=table.io,
            branch=branch,
            snapshot_properties={**carried, **summary},
        )
        self._parent_snapshot_id = parent
        self._added_data_files = list(add)
        self._deleted_data_files = set(remove)
        self._kept: list[ManifestFile] = []

    def _deleted_entries(self) -> list[ManifestEntry]:
        """Entries of the removed files. Sorts out on the way which manifests stay, and which are written again."""
        parent = self._parent_snapshot_id
        snapshot = self._transaction.table_metadata.snapshot_by_id(parent) if parent is not None else None
        gone: list[ManifestEntry] = []
        for manifest in snapshot.manifests(self._io) if snapshot else ():
            if manifest.content == ManifestContent.DELETES:
                raise ForeignDeletesError(f"{_name(self._transaction._table)}: {manifest.manifest_path}")
            if not (manifest.has_added_files() or manifest.has_existing_files()):
                continue
            entries = self.fetch_manifest_entry(manifest) if self._deleted_data_files else []
            removed = [entry for entry in entries if entry.data_file in self._deleted_data_files]
            if not removed:
                self._kept.append(manifest)
                continue
            gone += [self._marked(entry, ManifestEntryStatus.DELETED, self._snapshot_id) for entry in removed]
            kept = [entry for entry in entries if entry.data_file not in self._deleted_data_files]
            if kept:
                self._kept.append(self._rewritten(manifest, kept))
        if missing := self._deleted_data_files - {entry.data_file for entry in gone}:
            paths = ", ".join(sorted(file.file_path for file in missing))
            raise ConflictError(f"{_name(self._transaction._table)}: files to replace are not in the table: {paths}")
        return gone

    def _existing_manifests(self) -> list[ManifestFile]:
        return self._kept

    def _process_manifests(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        """Merges manifests when there are enough of about the same size: an entry is copied two or three times in all.

        PyIceberg fills manifests up to a size, and copies one that is nearly full again and again, at every commit.
        """
        tiers: dict[tuple[int, int], list[ManifestFile]] = defaultdict(list)
        kept: list[ManifestFile] = []
        for manifest in manifests:
            live = (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)
            if live:
                tiers[manifest.partition_spec_id, int(log(live, self._min_count_to_merge))].append(manifest)
            else:
                kept.append(manifest)
        merging = _ManifestMergeManager(self._target_size_bytes, self._min_count_to_merge, self._merge_enabled, self)
        for (spec_id, _), tier in tiers.items():
            full = self._merge_enabled and len(tier) >= self._min_count_to_merge
            kept += [merging._create_manifest(spec_id, tier)] if full else tier
        return kept

    def _rewritten(self, manifest: ManifestFile, entries: Sequence[ManifestEntry]) -> ManifestFile:
        with self.new_manifest_writer(self.spec(manifest.partition_spec_id)) as writer:
            for entry in entries:
                writer.add_entry(self._marked(entry, ManifestEntryStatus.EXISTING, entry.snapshot_id))
        return writer.to_manifest_file()

    @staticmethod
    def _marked(entry: ManifestEntry, status: ManifestEntryStatus, snapshot_id: int | None) -> ManifestEntry:
        return ManifestEntry.from_args(
            status=status,
            snapshot_id=snapshot_id,
            sequence_number=entry.sequence_number,
            file_sequence_number=entry.file_sequence_number,
            data_file=entry.data_file,
        )


def _ref(table: Table, name: str) -> int | None:
    ref = table.metadata.refs.get(name)
    return ref.snapshot_id if ref else None


def _name(table: Table) -> str:
    return ".".join(table.name())
