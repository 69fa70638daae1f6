"""Which data files of a table matter, answered from Iceberg's metadata alone: no data file is opened."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from datetime import date, timedelta
from typing import Any

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry
from pyiceberg.table import Table
from pyiceberg.types import PrimitiveType

from orders_platform.lake.commits import ForeignDeletesError

_EPOCH = date(1970, 1, 1)


def live_entries(table: Table, snapshot_id: int | None) -> list[ManifestEntry]:
    """The data files of a snapshot with their sequence numbers; none for no snapshot.

    Raises:
        ForeignDeletesError: naming the table; compacting it with the engine that wrote them resolves it.
    """
    if snapshot_id is None:
        return []
    snapshot = table.metadata.snapshot_by_id(snapshot_id)
    if snapshot is None:
        raise KeyError(f"{'.'.join(table.name())} has no snapshot {snapshot_id}")
    entries: list[ManifestEntry] = []
    for manifest in snapshot.manifests(table.io):
        if manifest.content == ManifestContent.DELETES:
            raise ForeignDeletesError(
                f"{'.'.join(table.name())} has delete files ({manifest.manifest_path}): another engine changed rows by "
                "merge-on-read; let it rewrite its data files, and set write.*.mode to copy-on-write"
            )
        entries += manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    return entries


def live_files(table: Table, snapshot_id: int | None) -> list[DataFile]:
    """The data files of a snapshot; none for no snapshot. Raises `ForeignDeletesError`."""
    return [entry.data_file for entry in live_entries(table, snapshot_id)]


def partition_date(file: DataFile) -> date:
    """The date of a file of a table that is partitioned by one (identity)."""
    value: Any = file.partition[0]
    return value if isinstance(value, date) else _EPOCH + timedelta(days=int(value))


def date_sequences(table: Table, snapshot_id: int | None) -> dict[date, int]:
    """For each date that has rows, the sequence number of the commit that last wrote to it."""
    newest: dict[date, int] = {}
    for entry in live_entries(table, snapshot_id):
        day = partition_date(entry.data_file)
        newest[day] = max(newest.get(day, 0), entry.sequence_number or 0)
    return newest


def files_of_dates(files: Iterable[DataFile], dates: Collection[date]) -> list[DataFile]:
    """Those files of a table partitioned by date that belong to one of the dates."""
    wanted = frozenset(dates)
    return [file for file in files if partition_date(file) in wanted]


def bounds(table: Table, file: DataFile, column: str) -> tuple[Any, Any] | None:
    """The smallest and greatest value of a column in a file, or None if the file does not say."""
    field = table.schema().find_field(column)
    assert isinstance(field.field_type, PrimitiveType)
    lower = (file.lower_bounds or {}).get(field.field_id)
    upper = (file.upper_bounds or {}).get(field.field_id)
    if lower is None or upper is None:
        return None
    return from_bytes(field.field_type, lower), from_bytes(field.field_type, upper)


def files_hit(table: Table, files: Iterable[DataFile], column: str, keys: Sequence[Any]) -> list[DataFile]:
    """Those files whose range of `column` holds at least one of the keys (sorted); a file without bounds is kept."""
    return [file for file in files if _hits(bounds(table, file, column), keys)]


def _hits(limits: tuple[Any, Any] | None, keys: Sequence[Any]) -> bool:
    if limits is None:
        return True
    at = bisect_left(keys, limits[0])
    return at < len(keys) and keys[at] <= limits[1]


def files_between(
    table: Table, files: Iterable[DataFile], column: str, spans: Collection[tuple[Any, Any]]
) -> list[DataFile]:
    """Those files whose range of `column` overlaps one of the half-open spans; a file without bounds is kept."""
    return [file for file in files if _overlaps(bounds(table, file, column), spans)]


def _overlaps(limits: tuple[Any, Any] | None, spans: Collection[tuple[Any, Any]]) -> bool:
    return limits is None or any(start <= limits[1] and limits[0] < end for start, end in spans)
