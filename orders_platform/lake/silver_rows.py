"""Which rows of silver a set of changes leads to: computed in DuckDB, before any file is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import duckdb
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from orders_platform.contracts import Contract
from orders_platform.lake.duckdb_engine import scan_files_sql, scan_sql
from orders_platform.lake.incoming import INCOMING, IncomingFacts, below, make_winners, winning_rows
from orders_platform.lake.merge import MergeSpec, meet
from orders_platform.lake.positions import Position, position_sql
from orders_platform.lake.schemas import TOAST, beyond_sql, column_list, duckdb_type, names, quoted, silver_schema
from orders_platform.lake.toast import ToastSources, columns_concerned, resolve
from orders_platform.lake.transform import SOURCE, silver_select, to_duckdb

CHANGED = "changed"
"""Table of the rows that silver must take up, with all its columns."""


@dataclass(frozen=True)
class SilverState:
    """Silver as it is, and the changes that arrive.

    Args:
        files: silver's files.
        removed_below: position below which every row is gone, as silver knows it.
        has_toast: some row of silver may have a register in `_toast`.
    """

    contract: Contract
    masking_key: bytes
    spec: MergeSpec
    bronze: Table
    silver: Table
    files: Sequence[DataFile]
    facts: IncomingFacts
    removed_below: Position | None
    has_toast: bool

    @property
    def removed_below_after(self) -> Position | None:
        """The position below which every row is gone once the changes are applied."""
        known = {*self.facts.removals, *([self.removed_below] if self.removed_below else [])}
        return max(known, default=None)

    @property
    def removes(self) -> bool:
        """Whether a TRUNCATE or a complete snapshot arrives that silver does not know."""
        return self.removed_below_after != self.removed_below


@dataclass(frozen=True)
class ChangedRows:
    """How many rows of the table `changed` are new, replace another, or are gone; and on which day they changed."""

    inserted: int
    updated: int
    deleted: int
    held: int
    by_day: dict[date, int]
    has_toast: bool


def make_changed(connection: duckdb.DuckDBPyConnection, state: SilverState, sequence_number: int) -> ChangedRows:
    """Makes the table `changed` from the view `incoming`, and the table `met` of the rows of silver it replaces."""
    contract = state.contract
    keys = contract.key
    make_winners(connection, keys, newest=True)
    _make_candidates(connection, state)
    toast_columns: list[str] = []
    if state.facts.placeholders or state.has_toast:
        sources = ToastSources(
            contract,
            state.masking_key,
            INCOMING,
            scan_sql(state.bronze),
            scan_files_sql(state.silver, state.files),
            state.removed_below_after,
        )
        toast_columns = columns_concerned(connection, sources, everywhere=state.removes)
        if toast_columns:
            resolve(connection, sources, toast_columns)
    if state.removes:
        _add_removed_rows(connection, state)
    if state.removed_below_after:
        _empty_removed_rows(connection, state, state.removed_below_after)
    meet(
        connection,
        state.silver,
        state.files,
        "candidates",
        state.spec,
        columns=("_op", "_deleted", TOAST, *toast_columns),
    )
    differs = [
        f"c.{quoted(name)} IS DISTINCT FROM m.{quoted(name)}" for name in ("_op", "_deleted", TOAST, *toast_columns)
    ]
    new = f"m.{quoted(keys[0])} IS NULL"
    connection.execute(
        f"CREATE OR REPLACE TABLE {CHANGED} AS SELECT c.*, {sequence_number}::BIGINT AS _seq, {new} AS _is_new, "
        f"coalesce(m._deleted, true) AS _was_deleted "
        f"FROM candidates c LEFT JOIN met m ON {state.spec.same_key('c', 'm')} "
        f"WHERE {new} OR {state.spec.replaces('c', 'm')} "
        f"OR ({position_sql('c')} = {position_sql('m')} AND ({' OR '.join(differs)}))"
    )
    return _count(connection)


def _make_candidates(connection: duckdb.DuckDBPyConnection, state: SilverState) -> None:
    """Makes `candidates`: the last incoming change of each key as a row of silver."""
    select = to_duckdb(silver_select(state.contract, state.masking_key))
    schema = silver_schema(state.contract)
    toast, further = duckdb_type(schema.find_field(TOAST).field_type), beyond_sql(state.silver.schema(), schema)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE candidates AS WITH {SOURCE} AS ({winning_rows()}) "
        f"SELECT *, NULL::{toast} AS {TOAST}{further} FROM ({select})"
    )


def _add_removed_rows(connection: duckdb.DuckDBPyConnection, state: SilverState) -> None:
    """Adds silver's own rows below the new TRUNCATE to the candidates, unless theirs is newer."""
    limit = state.removed_below_after
    assert limit is not None
    same = state.spec.same_key("c", "s")
    own = column_list(state.contract.key)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE removed AS SELECT * EXCLUDE (_seq) FROM "
        f"{scan_files_sql(state.silver, state.files)} WHERE {below(limit)} AND _op <> 't'"
    )
    connection.execute(
        f"DELETE FROM candidates c USING removed s WHERE {same} AND {position_sql('s')} >= {position_sql('c')}"
    )
    connection.execute(f"INSERT INTO candidates BY NAME SELECT * FROM removed ANTI JOIN candidates USING ({own})")


def _empty_removed_rows(connection: duckdb.DuckDBPyConnection, state: SilverState, limit: Position) -> None:
    """Lets candidates below a TRUNCATE be deleted rows with their key alone, in whichever order both arrive."""
    own = [name for name in names(state.silver.schema()) if not name.startswith("_")]
    values = [name for name in own if name not in state.contract.key]
    cleared = ", ".join(f"{quoted(name)} = NULL" for name in (*values, TOAST))
    connection.execute(f"UPDATE candidates SET _deleted = true, _op = 't', {cleared} WHERE {below(limit)}")


def _count(connection: duckdb.DuckDBPyConnection) -> ChangedRows:
    """Counts the changed rows. A row that appears already deleted is new, not deleted."""
    row = connection.execute(
        f"SELECT count(*) FILTER (WHERE _is_new), "
        f"count(*) FILTER (WHERE NOT _is_new AND NOT (_deleted AND NOT _was_deleted)), "
        f"count(*) FILTER (WHERE NOT _is_new AND _deleted AND NOT _was_deleted), "
        f"count(*) FILTER (WHERE _deleted AND _op NOT IN ('d', 't')), "
        f"coalesce(bool_or({TOAST} IS NOT NULL), false) FROM {CHANGED}"
    ).fetchone()
    inserted, updated, deleted, held, has_toast = row or (0, 0, 0, 0, False)
    days = connection.execute(f"SELECT _ingest_day, count(*) FROM {CHANGED} GROUP BY 1 ORDER BY 1").fetchall()
    connection.execute(f"ALTER TABLE {CHANGED} DROP _is_new; ALTER TABLE {CHANGED} DROP _was_deleted")
    return ChangedRows(inserted, updated, deleted, held, dict(days), has_toast)
