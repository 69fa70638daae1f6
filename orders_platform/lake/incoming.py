"""Changes from bronze as DuckDB sees them during a merge: which there are, and the last (or first) of each key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb
from pyiceberg.table import Table

from orders_platform.lake.duckdb_engine import scan_files_sql
from orders_platform.lake.increments import Increment
from orders_platform.lake.positions import Position, position_sql, removal_sql
from orders_platform.lake.schemas import ORDER_COLUMNS, column_list, quoted

INCOMING = "incoming"


@dataclass(frozen=True)
class IncomingFacts:
    """What a set of changes holds.

    Args:
        rows: changes that could be decoded.
        removals: positions of TRUNCATEs and complete initial snapshots.
        watermark: when the newest of them was committed in the shop.
        placeholders: some column arrived as the placeholder of a TOAST value.
    """

    rows: int
    removals: frozenset[Position]
    watermark: datetime | None
    placeholders: bool


def open_incoming(connection: duckdb.DuckDBPyConnection, bronze: Table, found: Increment) -> IncomingFacts:
    """Makes the view `incoming` of the decodable rows of these files, and says what is in it."""
    place = "file_index, file_row_number" if found.files else "0 AS file_index, 0 AS file_row_number"
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW {INCOMING} AS "
        f"SELECT *, {place} FROM {scan_files_sql(bronze, found.files)} WHERE _error IS NULL"
    )
    row = connection.execute(
        f"SELECT count(*), list(DISTINCT {removal_sql()}), max(_source_ts), "
        f"coalesce(bool_or(len(_unavailable) > 0), false) FROM {INCOMING}"
    ).fetchone()
    rows, removals, watermark, placeholders = row or (0, None, None, False)
    positions = (Position.of(parts) for parts in removals or ())
    return IncomingFacts(rows, frozenset(p for p in positions if p), watermark, placeholders)


def make_winners(connection: duckdb.DuckDBPyConnection, keys: Sequence[str], newest: bool) -> None:
    """Makes the table `winners`: each key with the place of its row of highest (or lowest) position in `incoming`.

    Only keys, positions and places are held, so that memory depends on the number of keys, not on the width of rows.
    """
    order = ", ".join(f"{name} := {quoted(column)}" for name, column in zip("eclo", ORDER_COLUMNS, strict=True))
    best = "arg_max" if newest else "arg_min"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE winners AS SELECT {column_list(keys)}, "
        f"{best}(struct_pack(f := file_index, r := file_row_number), struct_pack({order})) AS _place "
        f"FROM {INCOMING} WHERE _op <> 't' GROUP BY ALL"
    )


def winning_rows() -> str:
    """SELECT of the whole rows of `winners`."""
    return (
        f"SELECT i.* EXCLUDE (file_index, file_row_number) FROM {INCOMING} i "
        f"JOIN winners w ON i.file_index = w._place.f AND i.file_row_number = w._place.r"
    )


def below(position: Position, alias: str = "") -> str:
    """SQL: whether a row lies below a position."""
    return f"{position_sql(alias)} < {position.sql}"
