"""Whether silver may be built upon, and the mark that says so: gold reads what was checked, not what is newest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import duckdb
from pyiceberg.catalog import Catalog
from pyiceberg.conversions import from_bytes
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import ancestors_of
from pyiceberg.types import PrimitiveType
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from orders_platform.contracts import Contract
from orders_platform.fault_points import FaultPoint
from orders_platform.lake.commits import CommitFaults, CommitUnknownError, ConflictError, head, move_ref, own_properties
from orders_platform.lake.duckdb_engine import connect, live_files, scan_files_sql
from orders_platform.lake.evolved import in_silver
from orders_platform.lake.incoming import make_winners, open_incoming, winning_rows
from orders_platform.lake.increments import increment
from orders_platform.lake.merge import files_hit
from orders_platform.lake.outcome import CheckOutcome
from orders_platform.lake.positions import position_sql
from orders_platform.lake.schemas import column_list, quoted
from orders_platform.lake.silver import HAS_TOAST, ensure_silver, merged_bronze, silver_spec
from orders_platform.lake.transform import SOURCE, to_duckdb, versions_select
from orders_platform.settings import Settings

AUDITED = "audited"
"""Tag of a silver table: the last snapshot that passed its checks."""

_FAULTS = CommitFaults(
    FaultPoint.SILVER_BEFORE_AUDITED, FaultPoint.SILVER_AUDITED_UNANSWERED, FaultPoint.SILVER_AFTER_AUDITED
)


def audited_snapshot(table: Table) -> int | None:
    """The last snapshot of a silver table that passed its checks; null while none has."""
    ref = table.metadata.refs.get(AUDITED)
    return ref.snapshot_id if ref else None


@retry(
    retry=retry_if_exception_type((ConflictError, CommitUnknownError)),
    wait=wait_random_exponential(multiplier=0.2, max=5),
    stop=stop_after_attempt(5),
    reraise=True,
)
def mark_audited(catalog: Catalog, contract: Contract, snapshot_id: int | None = None) -> None:
    """Moves the tag `audited` to a snapshot that was checked; never back to an older one of the same history.

    Args:
        snapshot_id: main's head by default, which must then be what was checked.

    Raises:
        ValueError: if the table has no such snapshot.
        ConflictError, CommitUnknownError: after several attempts.
    """
    table = catalog.load_table(contract.silver_table)
    checked = snapshot_id if snapshot_id is not None else head(table)
    if checked is None:
        return
    if table.metadata.snapshot_by_id(checked) is None:
        raise ValueError(f"{contract.silver_table} has no snapshot {checked}")
    present = audited_snapshot(table)
    if present in _history(table, head(table)) and checked in _history(table, present):
        return
    move_ref(table, AUDITED, checked, faults=_FAULTS)


def check_silver(
    settings: Settings, catalog: Catalog, contract: Contract, snapshot_id: int | None = None
) -> CheckOutcome:
    """Whether each key is in silver once, and each change of bronze applied since the last audit shows in it.

    Args:
        snapshot_id: which snapshot of silver; main's head by default. `metadata["snapshot_id"]` says which it was.
    """
    try:
        bronze = catalog.load_table(contract.bronze_table)
    except NoSuchTableError:
        if catalog.table_exists(contract.silver_table):
            raise
        return CheckOutcome(True, f"{contract.silver_table} has no rows yet", {"rows_compared": 0})
    contract = in_silver(contract, bronze.schema())
    silver = ensure_silver(catalog, contract)
    checked = snapshot_id if snapshot_id is not None else head(silver)
    if checked is None:
        return CheckOutcome(True, f"{contract.silver_table} has no rows yet", {"rows_compared": 0})
    before = merged_bronze(silver, audited_snapshot(silver))
    merged = merged_bronze(silver, checked)
    found = increment(bronze, before, until=merged)
    files = live_files(silver, checked)
    old = {file.file_path for file in live_files(silver, audited_snapshot(silver))} if before else set()
    with connect(settings) as connection:
        open_incoming(connection, bronze, found)
        duplicates = _duplicates(connection, silver, contract.key, files, old)
        compared, missing, behind, different = _compare(connection, settings, contract, silver, files)
        held = _held(connection, silver, files) if own_properties(silver, checked).get(HAS_TOAST) == "true" else 0
    problems = {
        "keys that are there twice": duplicates,
        "keys of bronze that are missing": missing,
        "keys whose last change is not applied": behind,
        "rows that differ from their change": different,
    }
    wrong = ", ".join(f"{count} {what}" for what, count in problems.items() if count)
    return CheckOutcome(
        passed=not wrong,
        description=f"{contract.silver_table}: {wrong or f'{compared} keys agree with bronze'}",
        metadata={
            "snapshot_id": str(checked),
            "bronze_snapshot_id": str(merged),
            "rows_compared": compared,
            "duplicate_keys": duplicates,
            "missing_keys": missing,
            "keys_behind": behind,
            "different_rows": different,
            "rows_held_back": held,
        },
    )


def _compare(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    contract: Contract,
    silver: Table,
    files: Sequence[DataFile],
) -> tuple[int, int, int, int]:
    """Keys compared; of them missing, behind their last change in bronze, and different from it.

    A value that did not travel with the last change, and a row that a TRUNCATE emptied, cannot be compared with it.
    """
    spec = silver_spec(contract)
    make_winners(connection, contract.key, newest=True)
    hit = files_hit(connection, silver, files, contract.key, "winners")
    select = to_duckdb(versions_select(contract, settings.masking_key))
    plain = [column.name for column in contract.columns if column.name not in contract.key]
    differs = " OR ".join(
        f"(c.{quoted(name)} IS DISTINCT FROM s.{quoted(name)} "
        f"AND NOT coalesce(list_contains(c._unavailable, '{name}'), false))"
        for name in plain
    )
    absent = f"s.{quoted(contract.key[0])} IS NULL"
    row = connection.execute(
        f"WITH {SOURCE} AS ({winning_rows()}), last_changes AS ({select}) "
        f"SELECT count(*), count(*) FILTER (WHERE {absent}), count(*) FILTER (WHERE {spec.replaces('c', 's')}), "
        f"count(*) FILTER (WHERE {position_sql('c')} = {position_sql('s')} "
        f"AND s._op <> 't' AND (c._op <> s._op OR {differs})) "
        f"FROM last_changes c LEFT JOIN {scan_files_sql(silver, hit)} s ON {spec.same_key('c', 's')}"
    ).fetchone()
    return row or (0, 0, 0, 0)


def _held(connection: duckdb.DuckDBPyConnection, silver: Table, files: Sequence[DataFile]) -> int:
    """Rows that wait for a value that did not travel."""
    row = connection.execute(
        f"SELECT count(*) FROM {scan_files_sql(silver, files)} WHERE _deleted AND _op NOT IN ('d', 't')"
    ).fetchone()
    return int(row[0]) if row else 0


def _duplicates(
    connection: duckdb.DuckDBPyConnection, silver: Table, keys: Sequence[str], files: Sequence[DataFile], old: set[str]
) -> int:
    """Keys that are in more than one row: looked for in the files that are new, and in those whose range they touch."""
    ranges = {
        file.file_path: [_value(silver, keys[0], b) for b in (file.lower_bounds, file.upper_bounds)] for file in files
    }
    new = [ranges[path] for path in ranges if path not in old]

    def concerned(path: str) -> bool:
        low, high = ranges[path]
        return any(None in (low, high, *other) or (low <= other[1] and other[0] <= high) for other in new)

    wanted = [file for file in files if concerned(file.file_path)]
    row = connection.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM {scan_files_sql(silver, wanted)} "
        f"GROUP BY {column_list(keys)} HAVING count(*) > 1)"
    ).fetchone()
    return int(row[0]) if row else 0


def _value(table: Table, column: str, bounds: Mapping[int, bytes] | None) -> Any:
    """A column's bound of a file; null where the manifest has none."""
    field = table.schema().find_field(column)
    raw = (bounds or {}).get(field.field_id)
    return None if raw is None else from_bytes(cast(PrimitiveType, field.field_type), raw)


def _history(table: Table, snapshot_id: int | None) -> set[int]:
    """A snapshot and its ancestors, as far as they are known."""
    snapshot = table.metadata.snapshot_by_id(snapshot_id) if snapshot_id is not None else None
    return {ancestor.snapshot_id for ancestor in ancestors_of(snapshot, table.metadata)}
