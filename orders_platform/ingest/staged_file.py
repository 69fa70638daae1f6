"""One staged file: the records of an offset range of one partition, as Parquet. Its name is the range.

Name: `<topic>/<topic id>/dt=<day>/<partition>-<first>-<next>.parquet`, numbers zero-padded, so that names sort as
offsets do; the footer repeats the range, and the number of records.
Columns: those of `decoding.RECORDS` but the partition. A range without records is a file without rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from orders_platform.ingest.decoding import RECORDS
from orders_platform.ingest.errors import StagedFileError
from orders_platform.ingest.offsets import OffsetRange
from orders_platform.ingest.staging_files import Storage

STAGED = pa.schema([field for field in RECORDS if field.name != "partition"])
_NAME = re.compile(r"(\d{5})-(\d{20})-(\d{20})\.parquet")
_FOOTER = b"orders-platform."


@dataclass(frozen=True)
class StagedFile:
    """A staged file by its name."""

    topic: str
    topic_id: str
    day: date
    range: OffsetRange

    @property
    def name(self) -> str:
        each, folder = self.range, day_folder(self.topic, self.topic_id, self.day)
        return f"{folder}/{each.partition:05d}-{each.first:020d}-{each.next:020d}.parquet"


def day_folder(topic: str, topic_id: str, day: date) -> str:
    """Where the files of a day lie."""
    return f"{topic}/{topic_id}/dt={day.isoformat()}"


def staged_days(storage: Storage, topic: str, topic_id: str) -> list[date]:
    """The days of which files are staged, in order."""
    folders = storage.folders(f"{topic}/{topic_id}")
    return [date.fromisoformat(name.removeprefix("dt=")) for name in folders if name.startswith("dt=")]


def staged_files(storage: Storage, topic: str, topic_id: str, day: date) -> list[StagedFile]:
    """The files of a day, by partition and first offset. Files that others put there are no concern."""
    found = (_NAME.fullmatch(name) for name in storage.names(day_folder(topic, topic_id, day)))
    return [
        StagedFile(topic, topic_id, day, OffsetRange(int(match[1]), int(match[2]), int(match[3])))
        for match in found
        if match
    ]


def write(storage: Storage, file: StagedFile, records: pa.Table) -> int:
    """Puts the file unless there is one already (it says the same: the log does not change). Returns its bytes."""
    footer = {
        b"topic": file.topic,
        b"topic-id": file.topic_id,
        b"partition": str(file.range.partition),
        b"first": str(file.range.first),
        b"next": str(file.range.next),
        b"records": str(records.num_rows),
    }
    schema = STAGED.with_metadata({_FOOTER + name: value.encode() for name, value in footer.items()})
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        write_statistics=["offset"],
        write_page_checksum=True,
        column_encoding={"offset": "DELTA_BINARY_PACKED", "timestamp": "DELTA_BINARY_PACKED"},
    ) as writer:
        writer.write_table(records.cast(schema))
    content = sink.getvalue()
    storage.put(file.name, content)
    return int(content.size)


def read(storage: Storage, file: StagedFile) -> pa.Table:
    """The records, schema `RECORDS`, after footer, checksums and offsets have been compared with the name.

    Raises:
        StagedFileError: naming the file and what is wrong with it.
        FileNotFoundError: if it is gone.
    """
    content = storage.read(file.name)
    try:
        with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as parquet:
            footer = parquet.schema_arrow.metadata or {}
            table = parquet.read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StagedFileError(file.name, f"cannot be read: {error}") from error
    for problem in _contradictions(file, footer, table):
        raise StagedFileError(file.name, problem)
    partition = pa.repeat(pa.scalar(file.range.partition, pa.int32()), table.num_rows)
    return table.cast(STAGED).add_column(0, RECORDS.field("partition"), partition)


def sliced(records: pa.Table, first: int, end: int) -> pa.Table:
    """The records with offsets from `first` up to but not including `end`."""
    return records.filter((pc.field("offset") >= first) & (pc.field("offset") < end))


def _contradictions(file: StagedFile, footer: dict[bytes, bytes], table: pa.Table) -> Iterable[str]:
    said: dict[str, Any] = {
        key.removeprefix(_FOOTER).decode(): value.decode() for key, value in footer.items() if key.startswith(_FOOTER)
    }
    each = file.range
    expected = {
        "topic": file.topic, "topic-id": file.topic_id, "partition": str(each.partition),
        "first": str(each.first), "next": str(each.next), "records": str(table.num_rows),
    }  # fmt: skip
    if said != expected:
        yield f"the footer says {said}, the name and rows {expected}"
    if table.num_rows:
        offsets = table["offset"].to_numpy()
        if offsets.min() < each.first or offsets.max() >= each.next:
            yield f"it holds offsets {offsets.min()} to {offsets.max()}"
