"""Rows into a table of files sorted by key: the files that hold their keys are written anew, the others stay.

The table's files cover ranges of the key. A new key goes to the file whose range it falls into or follows; a file that
has grown beyond half as much again as a file should hold is cut. So files stay bounded, sorted, and hardly overlap,
whatever the order in which keys arrive; a merge is right also where they do overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import duckdb
import pyarrow as pa
from pyiceberg.conversions import from_bytes
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.types import PrimitiveType

from orders_platform.lake.duckdb_engine import scan_files_sql, write_sorted_parts
from orders_platform.lake.positions import position_sql
from orders_platform.lake.schemas import ORDER_COLUMNS, column_list, names, quoted

ROWS_PER_FILE = 100_000


@dataclass(frozen=True)
class MergeSpec:
    """How rows meet those of the same key.

    Args:
        keys: columns that identify a row; files are sorted by them, nulls first.
        newest: the row with the highest position stays (last writer wins); else the lowest (the first one seen).
        rows_per_file: rows that a file should hold.
    """

    keys: tuple[str, ...]
    newest: bool = True
    rows_per_file: int = ROWS_PER_FILE

    def replaces(self, new: str, old: str) -> str:
        """SQL: whether the row with alias `new` takes the place of the row with alias `old`."""
        return f"{position_sql(new)} {'>' if self.newest else '<'} {position_sql(old)}"

    def same_key(self, left: str, right: str) -> str:
        """SQL: whether two rows have the same key."""
        return " AND ".join(f"{left}.{quoted(key)} = {right}.{quoted(key)}" for key in self.keys)


@dataclass(frozen=True)
class Rewrite:
    """Files to commit: `removed` are replaced by `added`, whose bytes were written."""

    added: tuple[DataFile, ...]
    removed: tuple[DataFile, ...]

    @property
    def bytes_written(self) -> int:
        return sum(file.file_size_in_bytes for file in self.added)


def files_hit(
    connection: duckdb.DuckDBPyConnection, table: Table, files: Sequence[DataFile], keys: Sequence[str], relation: str
) -> list[DataFile]:
    """Those files whose bounds hold at least one key of `relation`. A file without bounds holds any."""
    bounds = _bounds(table, files, keys)
    connection.register("file_bounds", bounds)
    within = " AND ".join(
        f"(b._lo{i} IS NULL OR r.{quoted(key)} BETWEEN b._lo{i} AND b._hi{i})" for i, key in enumerate(keys)
    )
    hit = connection.execute(
        f"SELECT b._file FROM file_bounds b WHERE EXISTS (SELECT 1 FROM {relation} r WHERE {within})"
    ).fetchall()
    connection.unregister("file_bounds")
    return [files[number] for (number,) in sorted(hit)]


def meet(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    files: Sequence[DataFile],
    relation: str,
    spec: MergeSpec,
    columns: Sequence[str] = (),
) -> None:
    """Makes the table `met`: rows of the target with a key of `relation`, and `_file`, the number of their file.

    Args:
        files: all files of the target.
        columns: which columns `met` has beside the keys and the position.
    """
    hit = files_hit(connection, table, files, spec.keys, relation)
    number = {file.file_path: i for i, file in enumerate(files)}
    connection.register("hit_files", pa.table({"_i": range(len(hit)), "_file": [number[f.file_path] for f in hit]}))
    wanted = column_list(dict.fromkeys((*spec.keys, *ORDER_COLUMNS, *columns)))
    index = "file_index" if hit else "NULL::BIGINT"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE met AS SELECT o.* EXCLUDE (file_index), h._file FROM "
        f"(SELECT {wanted}, {index} AS file_index FROM {scan_files_sql(table, hit)}) o "
        f"JOIN hit_files h ON h._i = o.file_index "
        f"WHERE EXISTS (SELECT 1 FROM {relation} r WHERE {spec.same_key('r', 'o')})"
    )
    connection.unregister("hit_files")


def rewrite(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    files: Sequence[DataFile],
    relation: str,
    spec: MergeSpec,
    threads: int,
) -> Rewrite:
    """Writes the files with which the target holds the rows of `relation`, one a key, instead of its own of that key.

    Args:
        files: all files of the target.
        relation: name of a table with all columns of the target, whose keys `meet` has looked up.
    """
    _place(connection, table, files, relation, spec)
    arriving = dict(connection.execute("SELECT _file, count(*) FROM placed GROUP BY _file").fetchall())
    leaving = dict(
        connection.execute(
            f"SELECT _file, count(*) FROM met m "
            f"WHERE EXISTS (SELECT 1 FROM {relation} r WHERE {spec.same_key('r', 'm')}) GROUP BY _file"
        ).fetchall()
    )
    touched = sorted({*arriving, *leaving})
    columns = column_list(names(table.schema()))

    def write(number: int) -> list[DataFile]:
        old = files[number : number + 1]
        rows = sum(file.record_count for file in old) + arriving.get(number, 0) - leaving.get(number, 0)
        new = f"SELECT {columns} FROM placed WHERE _file = {number}"
        kept = f"SELECT {columns} FROM {scan_files_sql(table, old)} AS o"
        if number in leaving:
            kept += f" WHERE NOT EXISTS (SELECT 1 FROM {relation} r WHERE {spec.same_key('r', 'o')})"
        with connection.cursor() as own:
            return write_sorted_parts(
                own, table, f"{kept} UNION ALL {new}", spec.keys, _parts(rows, spec.rows_per_file)
            )

    with ThreadPoolExecutor(max_workers=threads) as pool:
        added = [file for written in pool.map(write, touched) for file in written]
    return Rewrite(tuple(added), tuple(files[number] for number in touched) if files else ())


def _place(
    connection: duckdb.DuckDBPyConnection, table: Table, files: Sequence[DataFile], relation: str, spec: MergeSpec
) -> None:
    """Makes `placed`: the rows of `relation` with the file they go to, their own or the one that they follow."""
    bounds = _bounds(table, files, spec.keys[:1])
    lowest = min(((low.as_py(), i) for i, low in enumerate(bounds["_lo0"]) if low.is_valid), default=(None, 0))[1]
    connection.register("file_bounds", bounds)
    connection.execute(
        f"CREATE OR REPLACE TABLE placed AS SELECT r.*, coalesce(m._file, b._file, {lowest}) AS _file "
        f"FROM {relation} r LEFT JOIN (SELECT {column_list(spec.keys)}, _file FROM met) m ON {spec.same_key('r', 'm')} "
        f"ASOF LEFT JOIN file_bounds b ON r.{quoted(spec.keys[0])} >= b._lo0"
    )
    connection.unregister("file_bounds")


def _bounds(table: Table, files: Sequence[DataFile], keys: Sequence[str]) -> pa.Table:
    """`_file` (its number), and for each key column `_lo<i>` and `_hi<i>`; null where a file has no bounds."""
    columns: dict[str, pa.Array[pa.Scalar[pa.DataType]]] = {"_file": pa.array(range(len(files)), pa.int64())}
    for i, key in enumerate(keys):
        field = table.schema().find_field(key)
        kind = cast(PrimitiveType, field.field_type)
        arrow = cast(pa.DataType, schema_to_pyarrow(kind))
        for name, of in (("_lo", "lower_bounds"), ("_hi", "upper_bounds")):
            raw = [(getattr(file, of) or {}).get(field.field_id) for file in files]
            values: list[Any] = [None if b is None else from_bytes(kind, b) for b in raw]
            columns[f"{name}{i}"] = pa.array(values, arrow)
    return pa.table(columns)


def _parts(rows: int, wanted: int) -> int:
    """How many files of about the same size hold `rows`: one while it is not more than half too large."""
    return 1 if 2 * rows <= 3 * wanted else round(rows / wanted)
