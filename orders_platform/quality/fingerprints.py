"""Which rows differ, found by checksums: of buckets of keys first, then of the keys in those buckets that differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from duckdb import DuckDBPyConnection

from orders_platform.lake.schemas import column_list, quoted
from orders_platform.quality.sides import Key, RowShape

BUCKETS = 1024

State: TypeAlias = tuple[int, int] | None
"""The rows of a key: their number and the sum of their hashes; None where there are none."""


@dataclass(frozen=True)
class KeyStates:
    """What two sides hold of a key."""

    expected: State
    found: State


def fingerprint_select(shape: RowShape) -> str:
    """The columns of a table of fingerprints: key, bucket of the key, hash of the row.

    Hashes are DuckDB's, 64 bits: a row that differs is missed with a probability of 2⁻⁶⁴.
    """
    key = column_list(shape.key)
    return f"{key}, CAST(hash({key}) % {BUCKETS} AS USMALLINT) AS _bucket, hash({column_list(shape.columns)}) AS _hash"


def count(con: DuckDBPyConnection, table: str) -> int:
    """Rows of a table of fingerprints."""
    row = con.execute(f"SELECT count(*) FROM {quoted(table)}").fetchone()
    return int(row[0]) if row else 0


def differing(con: DuckDBPyConnection, shape: RowShape, expected: str, found: str) -> dict[Key, KeyStates]:
    """The keys whose rows differ between two tables of fingerprints, with both states, in the keys' order."""
    buckets = [row[0] for row in con.execute(_buckets_sql(expected, found)).fetchall()]
    if not buckets:
        return {}
    return _states(con, shape, expected, found, f"WHERE _bucket IN ({', '.join(map(str, buckets))})", changed=True)


def states(con: DuckDBPyConnection, shape: RowShape, expected: str, found: str) -> dict[Key, KeyStates]:
    """Both states of every key of two tables of fingerprints."""
    return _states(con, shape, expected, found, "", changed=False)


def _buckets_sql(expected: str, found: str) -> str:
    sums = "SELECT _bucket, count(*) AS rows, sum(_hash) AS total FROM {} GROUP BY _bucket"
    return f"""
        SELECT coalesce(e._bucket, f._bucket) AS bucket
        FROM ({sums.format(quoted(expected))}) AS e FULL JOIN ({sums.format(quoted(found))}) AS f USING (_bucket)
        WHERE (e.rows, e.total) IS DISTINCT FROM (f.rows, f.total)
        ORDER BY bucket
    """


def _states(
    con: DuckDBPyConnection, shape: RowShape, expected: str, found: str, where: str, *, changed: bool
) -> dict[Key, KeyStates]:
    key = column_list(shape.key)
    sums = f"SELECT {key}, count(*) AS rows, sum(_hash) AS total FROM {{}} {where} GROUP BY ALL"
    order = ", ".join(f"length({quoted(name)}), {quoted(name)}" for name in shape.key)
    rows = con.execute(
        f"""
        SELECT {key}, e.rows, e.total, f.rows, f.total
        FROM ({sums.format(quoted(expected))}) AS e FULL JOIN ({sums.format(quoted(found))}) AS f USING ({key})
        {"WHERE (e.rows, e.total) IS DISTINCT FROM (f.rows, f.total)" if changed else ""}
        ORDER BY {order}
        """
    ).fetchall()
    width = len(shape.key)
    return {row[:width]: KeyStates(_state(*row[width : width + 2]), _state(*row[width + 2 :])) for row in rows}


def _state(rows: int | None, total: int | None) -> State:
    return None if rows is None or total is None else (rows, total)
