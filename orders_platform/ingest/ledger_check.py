"""Whether bronze holds what its ledger says: a day of it, or files that something is about to be made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

from pyiceberg.catalog import Catalog
from pyiceberg.expressions import BooleanExpression
from pyiceberg.expressions.parser import parse
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from orders_platform.contracts import Contract
from orders_platform.ingest.bronze import bronze_table
from orders_platform.ingest.decoding import epoch_sql
from orders_platform.ingest.errors import LedgerError
from orders_platform.ingest.gaps import GapKind
from orders_platform.ingest.ledger import REPAIR_LOG, Ledger
from orders_platform.ingest.offsets import OffsetRange
from orders_platform.lake.commits import total_rows
from orders_platform.lake.duckdb_engine import connect, scan_files_sql, scan_sql
from orders_platform.lake.outcome import CheckOutcome
from orders_platform.settings import Settings


def check_bronze(
    settings: Settings, catalog: Catalog, contract: Contract, day: date, ranges: Sequence[OffsetRange] = ()
) -> CheckOutcome:
    """Checks that a day's rows are within the ledger, each once, and that the table has as many rows as were loaded.

    Args:
        ranges: only rows of these offsets are read (those that a run has just loaded); all of the day's, if empty.
    """
    table = bronze_table(catalog, contract)
    try:
        ledger = Ledger.read(table)
    except LedgerError as error:
        return CheckOutcome(False, str(error))
    exact = f" AND {_offsets_sql(ranges)}" if ranges else ""
    of_day = f"{scan_sql(table, row_filter=_filter(day, ranges))} WHERE _ingest_day = '{day.isoformat()}'{exact}"
    return _check(settings, contract, table, ledger, of_day, f"of {day}")


def check_files(settings: Settings, contract: Contract, table: Table, files: Iterable[DataFile]) -> CheckOutcome:
    """Checks the same of the rows of some files.

    Raises:
        LedgerError: if there is no ledger that can be believed.
    """
    return _check(settings, contract, table, Ledger.read(table), scan_files_sql(table, files), "that are new")


def _check(
    settings: Settings, contract: Contract, table: Table, ledger: Ledger, wanted: str, which: str
) -> CheckOutcome:
    """Checks the rows of a FROM clause, and the number of rows of the table."""
    held = [
        f"('{topic_id}', {partition}, {first}, {end})"
        for topic_id, partitions in ledger.intervals.items()
        for partition, found in partitions.items()
        for first, end in found.pairs
    ]
    values = ", ".join(held) or "(NULL, NULL, NULL, NULL)"
    with connect(settings) as con:
        found = con.execute(
            f"""WITH held(topic_id, partition, first, next) AS (VALUES {values}),
            places AS (SELECT _topic_id, _kafka_partition, _kafka_offset, count(*) AS times, count(_error) AS dead,
                              bool_or(_epoch <> {_epoch_sql(ledger)}) AS misplaced
                       FROM {wanted} GROUP BY ALL)
            SELECT coalesce(sum(times), 0)::BIGINT, coalesce(sum(times - 1), 0)::BIGINT, coalesce(sum(dead), 0)::BIGINT,
                   count(*) FILTER (NOT EXISTS (SELECT 1 FROM held WHERE topic_id = _topic_id
                       AND partition = _kafka_partition AND _kafka_offset >= first AND _kafka_offset < next)),
                   count(*) FILTER (misplaced)
            FROM places"""
        ).fetchone()
    assert found is not None
    rows, twice, dead, outside, misplaced = found
    total = total_rows(table)
    problems = [
        f"{twice} rows stand twice" if twice else "",
        f"{outside} rows have offsets that the ledger does not hold" if outside else "",
        f"{misplaced} rows are of another epoch than was accepted for their offsets" if misplaced else "",
        f"the table has {total} rows, but its commits loaded {ledger.rows}" if total != ledger.rows else "",
    ]
    said = "; ".join(problem for problem in problems if problem)
    description = said or f"{rows} rows {which}, each once and within the ledger; {total} rows in the table, as loaded"
    figures: dict[str, int | float | str] = {
        "rows_checked": rows,
        "rows_twice": twice,
        "rows_outside_ledger": outside,
        "dead_letters": dead,
        "rows_in_table": total,
        "rows_loaded": ledger.rows,
        "gaps_accepted": sum(each.gap.kind is not GapKind.REPAIR for each in ledger.accepted),
    }
    return CheckOutcome(not said, f"{contract.bronze_table}: {description}", figures)


def _epoch_sql(ledger: Ledger) -> str:
    """The epoch that a row must have; null for rows of a repair, which have that of the row that they undo."""
    logs = [log for log in ledger.intervals if not log.startswith(REPAIR_LOG)]
    arms = [f"WHEN '{log}' THEN {epoch_sql(ledger.epochs(log), '_kafka_partition', '_kafka_offset')}" for log in logs]
    return f"CASE _topic_id {' '.join(arms)} END" if arms else "NULL"


def _offsets_sql(ranges: Sequence[OffsetRange]) -> str:
    """A condition on rows, in SQL that both PyIceberg and DuckDB read."""
    parts = (
        f"(_kafka_partition = {each.partition} AND _kafka_offset >= {each.first} AND _kafka_offset < {each.next})"
        for each in ranges
    )
    return f"({' OR '.join(parts)})"


def _filter(day: date, ranges: Sequence[OffsetRange]) -> BooleanExpression:
    """Which files may hold the rows."""
    of_day = f"_ingest_day = '{day.isoformat()}'"
    return parse(f"{of_day} AND {_offsets_sql(ranges)}" if ranges else of_day)
