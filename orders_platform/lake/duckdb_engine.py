"""DuckDB reads and writes the tables' Parquet files; PyIceberg says which files, and commits them.

Columns are matched by Iceberg's field ids: where columns were added, renamed or widened, all files read as the table's
present schema.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from importlib.metadata import distribution
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

import duckdb
import pyarrow.parquet as pq
from pyiceberg.expressions import BooleanExpression
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from pyiceberg.types import IcebergType, ListType, MapType, StructType

from orders_platform.lake.commits import ForeignDeletesError
from orders_platform.lake.schemas import column_list, duckdb_type, quoted
from orders_platform.settings import Settings

_SESSION_SETTINGS = "SET TimeZone = 'UTC'; SET enable_progress_bar = false"
FILE_SIZE_BYTES = 256 * 1024 * 1024
_EPOCH = date(1970, 1, 1)


_shared: dict[tuple[object, ...], duckdb.DuckDBPyConnection] = {}
_sharing = threading.Lock()


def connect(settings: Settings) -> duckdb.DuckDBPyConnection:
    """A session of a database in memory that the process keeps, for queries and temporary tables, views and macros.

    To make a database costs fifteen milliseconds, which the checks of a small run add up; a session costs nothing.
    Memory and threads are those of the database. It spills to a folder of its own below the home and never downloads
    anything.
    """
    key = (os.getpid(), settings.home, settings.memory_limit, settings.threads, *_remote_properties(settings).items())
    with _sharing:
        try:
            session = _shared[key].cursor()
            session.execute(_SESSION_SETTINGS)
        except (KeyError, duckdb.Error):  # none yet, or one that an error of DuckDB's has closed
            for other in [other for other in _shared if other[0] == os.getpid()]:  # what a fork brought stays untouched
                del _shared[other]
            _shared[key] = connect_alone(settings)
            # A file that is read a second time, by a check of what was written, is read again.
            _shared[key].execute("SET enable_external_file_cache = false")
            session = _shared[key].cursor()
            session.execute(_SESSION_SETTINGS)
    return session


def connect_alone(settings: Settings) -> duckdb.DuckDBPyConnection:
    """As `connect`, with a database of its own.

    For tables that several cursors read, and for Python functions, which belong to a whole database and die with a
    session of it.
    """
    connection = duckdb.connect(":memory:")
    configure(connection, settings)
    return connection


def configure(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Sets time zone, memory, threads and access to S3 on a connection that may be someone else's."""
    spill = settings.home / "tmp"
    spill.mkdir(parents=True, exist_ok=True)
    _sweep(spill)
    own = spill / f"duckdb-{os.getpid()}-{uuid4().hex[:8]}"
    for name, value in {
        "memory_limit": settings.memory_limit,
        "threads": settings.threads,
        "temp_directory": str(own),
        "autoinstall_known_extensions": False,
        "preserve_insertion_order": True,
    }.items():
        connection.execute(f"SET {name} = {_literal(value)}")
    connection.execute(_SESSION_SETTINGS)
    if properties := _remote_properties(settings):
        _use_s3(connection, properties)


def _remote_properties(settings: Settings) -> Mapping[str, Any]:
    """PyIceberg's settings for S3; none where staged files and tables are in folders."""
    properties = settings.catalog_properties
    places = (settings.staging, properties.get("warehouse", ""))
    return properties if any(str(place).startswith("s3") for place in places) else {}


def live_files(table: Table, snapshot_id: int | None = None) -> list[DataFile]:
    """Data files of a snapshot (main's head by default), in no particular order.

    Raises:
        ForeignDeletesError: if another engine left delete files, which reading the data files alone would miss.
    """
    snapshot = table.metadata.snapshot_by_id(snapshot_id) if snapshot_id is not None else table.current_snapshot()
    if snapshot is None:
        return []
    files: list[DataFile] = []
    for manifest in snapshot.manifests(table.io):
        if manifest.content == ManifestContent.DELETES:
            raise ForeignDeletesError(f"{'.'.join(table.name())}: {manifest.manifest_path}")
        if manifest.has_added_files() or manifest.has_existing_files():
            files += [entry.data_file for entry in manifest.fetch_manifest_entry(table.io)]
    return files


def scan_sql(table: Table, snapshot_id: int | None = None, row_filter: BooleanExpression | None = None) -> str:
    """A FROM item of all rows of a snapshot (main's head by default), with the columns of the table's present schema.

    `row_filter` leaves out files that cannot hold such rows; it filters no rows.
    """
    if row_filter is None:
        return scan_files_sql(table, live_files(table, snapshot_id))
    tasks = list(table.scan(row_filter, snapshot_id=snapshot_id).plan_files())
    if foreign := [task.file.file_path for task in tasks if task.delete_files]:
        raise ForeignDeletesError(f"{'.'.join(table.name())}: {foreign[0]}")
    return scan_files_sql(table, [task.file for task in tasks])


def scan_files_sql(table: Table, files: Iterable[DataFile]) -> str:
    """A FROM item of the rows of these files of the table; of no row where there are no files."""
    schema = table.schema()
    paths = [local_path(file.file_path) for file in files]
    if not paths:
        columns = ", ".join(f"NULL::{duckdb_type(f.field_type)} AS {quoted(f.name)}" for f in schema.fields)
        return f"(SELECT {columns} WHERE false)"
    listed = ", ".join(_literal(path) for path in paths)
    fields = ", ".join(
        f"{f.field_id}: {{name: {_literal(f.name)}, type: {_literal(duckdb_type(f.field_type))}, default_value: NULL}}"
        for f in schema.fields
    )
    return f"read_parquet([{listed}], schema = MAP {{{fields}}})"


def write_files(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    sql: str,
    *,
    order_by: Sequence[str] = (),
    partition: date | str | int | None = None,
    file_size_bytes: int = FILE_SIZE_BYTES,
) -> list[DataFile]:
    """Writes a query's rows as data files of the table, which become visible when they are committed.

    Args:
        sql: a SELECT with the table's columns in any order; each is cast to the column's type.
        order_by: columns by which the rows of a file are sorted.
        partition: the value of the table's one identity partition, which all rows must have.
        file_size_bytes: a new file is begun at about this size.

    Returns:
        The files; none for a query without rows.

    Raises:
        ValueError: if rows belong to another partition than `partition`.
        duckdb.Error: if a value does not fit its column, or the disk is full.
    """
    target = f"{_folder(table, partition)}/{uuid4().hex}"
    split = f", FILE_SIZE_BYTES {file_size_bytes}, FILENAME_PATTERN '{target.rpartition('/')[2]}-{{i}}'"
    return _copy(connection, table, _ordered(_cast(table, sql), order_by), target, partition, split)


def write_sorted_parts(
    connection: duckdb.DuckDBPyConnection, table: Table, sql: str, order_by: Sequence[str], parts: int
) -> list[DataFile]:
    """Writes a query's rows into so many files of an unpartitioned table, whose ranges follow one another.

    DuckDB's own cutting of a sorted COPY was tried: files may be twice as long as asked for, and their ranges overlap.

    Raises:
        duckdb.Error: if a value does not fit its column, or the disk is full.
    """
    query = _ordered(_cast(table, sql), order_by)
    if parts == 1:
        return _copy(connection, table, query, f"{_folder(table, None)}/{uuid4().hex}.parquet", None)
    name = f"sorted_{uuid4().hex}"
    connection.execute(f"CREATE TABLE {name} AS {query}")
    (rows,) = connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0]
    files: list[DataFile] = []
    for part in range(parts):
        own = f"SELECT * FROM {name} WHERE rowid >= {rows * part // parts} AND rowid < {rows * (part + 1) // parts}"
        files += _copy(connection, table, own, f"{_folder(table, None)}/{uuid4().hex}.parquet", None)
    connection.execute(f"DROP TABLE {name}")
    return files


def _cast(table: Table, sql: str) -> str:
    """The query's rows with exactly the table's columns."""
    columns = (
        f"CAST({quoted(f.name)} AS {duckdb_type(f.field_type)}) AS {quoted(f.name)}" for f in table.schema().fields
    )
    return f"SELECT {', '.join(columns)} FROM ({sql})"


def _ordered(sql: str, order_by: Sequence[str]) -> str:
    return f"{sql} ORDER BY {column_list(order_by)}" if order_by else sql


def _copy(
    connection: duckdb.DuckDBPyConnection, table: Table, sql: str, target: str, partition: Any, options: str = ""
) -> list[DataFile]:
    """Writes rows to a file, or to several in a folder where `options` say how to cut them."""
    path = local_path(target)
    remote = target.startswith("s3://")
    if not remote:
        (Path(path) if options else Path(path).parent).mkdir(parents=True, exist_ok=True)
    written = connection.execute(
        f"COPY ({sql}) TO {_literal(path)} "
        f"(FORMAT parquet, COMPRESSION zstd, FIELD_IDS {_field_ids(table.schema())}, RETURN_STATS true{options})"
    ).fetchall()
    start = "" if remote else "file://"
    return [
        data_file(table, f"{start}{name}", size_bytes=int(size), partition=partition)
        for name, rows, size, *_ in written
        if rows
    ]


def data_file(table: Table, location: str, *, size_bytes: int, partition: Any = None) -> DataFile:
    """A Parquet file that was written for the table, with counts and bounds from its footer.

    Raises:
        ValueError: if its rows belong to another partition than `partition`.
    """
    schema, metadata = table.schema(), table.metadata
    with table.io.new_input(location).open() as stream:
        footer = pq.read_metadata(cast(IO[bytes], stream))
    statistics = data_file_statistics_from_parquet_metadata(
        parquet_metadata=footer,
        stats_columns=compute_statistics_plan(schema, metadata.properties),
        parquet_column_mapping=parquet_path_to_id_mapping(schema),
    )
    record = Record()
    if fields := table.spec().fields:
        record = Record(_stored(partition))
        if statistics.partition(table.spec(), schema) != record:
            raise ValueError(f"{location}: rows of another {fields[0].name} than {partition}")
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=location,
        file_format=FileFormat.PARQUET,
        partition=record,
        file_size_in_bytes=size_bytes,
        sort_order_id=None,
        spec_id=metadata.default_spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )


def local_path(location: str) -> str:
    """What DuckDB calls a file: a plain path for `file://`, the URL for S3."""
    return location.removeprefix("file://")


def _stored(value: Any) -> Any:
    """A partition value as manifests hold it: dates are days since 1970."""
    return (value - _EPOCH).days if isinstance(value, date) else value


def _folder(table: Table, partition: Any) -> str:
    base = table.metadata.properties.get("write.data.path", f"{table.location()}/data")
    fields = table.spec().fields
    if not fields:
        return base
    if len(fields) != 1 or partition is None:
        raise ValueError(f"{'.'.join(table.name())}: a value for the partition {fields[0].name} is needed")
    return f"{base}/{fields[0].name}={partition}"


def _field_ids(schema: Schema) -> str:
    """DuckDB's `FIELD_IDS` of a schema."""
    parts = (f"{quoted(f.name)}: {_ids(f.field_id, f.field_type)}" for f in schema.fields)
    return f"{{{', '.join(parts)}}}"


def _ids(own: int, kind: IcebergType) -> str:
    children: list[tuple[str, int, IcebergType]]
    match kind:
        case StructType():
            children = [(f.name, f.field_id, f.field_type) for f in kind.fields]
        case ListType():
            children = [("element", kind.element_id, kind.element_type)]
        case MapType():
            children = [("key", kind.key_id, kind.key_type), ("value", kind.value_id, kind.value_type)]
        case _:
            return str(own)
    nested = ", ".join(f"{quoted(name)}: {_ids(field_id, child)}" for name, field_id, child in children)
    return f"{{__duckdb_field_id: {own}, {nested}}}"


def _use_s3(connection: duckdb.DuckDBPyConnection, properties: Any) -> None:
    """Loads the S3 reader from its wheel and gives it PyIceberg's settings for S3."""
    extension = next(
        file.locate()
        for file in distribution("duckdb-extension-httpfs").files or ()
        if file.suffix == ".duckdb_extension"
    )
    connection.execute(f"LOAD {_literal(str(extension))}")
    given = {
        "KEY_ID": properties.get("s3.access-key-id"),
        "SECRET": properties.get("s3.secret-access-key"),
        "SESSION_TOKEN": properties.get("s3.session-token"),
        "REGION": properties.get("s3.region", "us-east-1"),
    }
    if endpoint := properties.get("s3.endpoint"):
        url = urlsplit(endpoint)
        given |= {"ENDPOINT": url.netloc, "URL_STYLE": "path", "USE_SSL": str(url.scheme == "https").lower()}
    options = ", ".join(f"{name} {_literal(value)}" for name, value in given.items() if value)
    connection.execute(f"CREATE OR REPLACE SECRET orders_platform (TYPE s3, {options})")


def _sweep(spill: Path) -> None:
    """Removes what processes that no longer live have spilled."""
    for folder in spill.glob("duckdb-*-*"):
        pid = int(folder.name.split("-")[1])
        if not _alive(pid):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _literal(value: object) -> str:
    if isinstance(value, bool | int):
        return str(value).lower()
    return "'" + str(value).replace("'", "''") + "'"
