"""The two sides of a comparison: where rows come from, as text columns in DuckDB."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import pyarrow as pa
from duckdb import DuckDBPyConnection

from orders_platform.lake.schemas import column_list, quoted

Key: TypeAlias = tuple[str | None, ...]


@dataclass(frozen=True)
class RowShape:
    """What both sides' rows look like: text columns, some of which are the key."""

    key: tuple[str, ...]
    columns: tuple[str, ...]
    """All of them, the key's among them."""

    @property
    def rest(self) -> tuple[str, ...]:
        return tuple(column for column in self.columns if column not in self.key)


class Side(Protocol):
    """Rows that can be read again, each time as they are then."""

    @property
    def name(self) -> str:
        """For the reader of the report."""

    def load(self, con: DuckDBPyConnection, target: str, select: str, keys: Sequence[Key] | None = None) -> None:
        """Makes the temporary table `target` from `SELECT select` over the rows: all, or those of some keys."""


@dataclass(frozen=True)
class QuerySide:
    """Rows that DuckDB reads by itself. `query` is asked for the SELECT at each load."""

    name: str
    shape: RowShape
    query: Callable[[DuckDBPyConnection], str]

    def load(self, con: DuckDBPyConnection, target: str, select: str, keys: Sequence[Key] | None = None) -> None:
        source = f"({self.query(con)}) AS source"
        if keys is not None:
            with_keys(con, self.shape, keys)
            source += f" SEMI JOIN {KEYS} USING ({column_list(self.shape.key)})"
        con.execute(f"CREATE OR REPLACE TEMP TABLE {quoted(target)} AS SELECT {select} FROM {source}")


KEYS = "_keys"


def with_keys(con: DuckDBPyConnection, shape: RowShape, keys: Sequence[Key]) -> None:
    """Makes the temporary table `_keys` with one row a key."""
    columns = [pa.array([key[position] for key in keys], pa.string()) for position in range(len(shape.key))]
    con.register("_given_keys", pa.table(dict(zip(shape.key, columns, strict=True))))
    con.execute(f"CREATE OR REPLACE TEMP TABLE {KEYS} AS FROM _given_keys")
    con.unregister("_given_keys")
