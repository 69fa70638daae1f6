"""What dbt's models read, as SELECTs over just the files that can hold rows of the order dates being rebuilt.

A day of orders stands in few of silver's files, which are sorted by key: they are chosen by the bounds that Iceberg
keeps, and the models still filter by date.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta

from duckdb import DuckDBPyConnection
from pyiceberg.table import Table

from orders_platform.contracts import Contract
from orders_platform.lake.duckdb_engine import scan_files_sql
from orders_platform.lake.gold_files import files_between, files_hit, files_of_dates, live_files
from orders_platform.lake.gold_stale import SilverInput
from orders_platform.lake.schemas import column_list, duckdb_type, silver_schema
from orders_platform.settings import Settings

ORDER_KEY = "order_id"


def views_of_dates(
    con: DuckDBPyConnection,
    settings: Settings,
    contracts: Sequence[Contract],
    inputs: Mapping[str, SilverInput],
    gold: Mapping[str, tuple[Table, int | None]],
    dates: Sequence[date],
) -> dict[str, str]:
    """`silver.<table>` and `gold.<model>` to their SELECTs; a table without an audited snapshot is empty."""
    keys: list[int] = []
    views: dict[str, str] = {}
    for contract in sorted(contracts, key=lambda contract: contract.order_date_column is None):
        source = inputs.get(contract.table)
        if source is None:
            views[contract.silver_table] = _empty(contract)
            continue
        files = live_files(source.table, source.snapshot_id)
        if column := contract.order_date_column:
            files = files_between(source.table, files, column, [_span(settings, day) for day in dates])
            keys = _orders_of_dates(con, scan_files_sql(source.table, files), column, dates)
        elif ORDER_KEY in contract.column_names:
            files = files_hit(source.table, files, ORDER_KEY, keys)
        views[contract.silver_table] = (
            f"SELECT {_columns(contract, source.table)} FROM {scan_files_sql(source.table, files)}"
        )
    for model, (table, head) in gold.items():
        files = files_of_dates(live_files(table, head), dates)
        views[f"gold.{model}"] = f"SELECT * FROM {scan_files_sql(table, files)}"
    return views


def _columns(contract: Contract, silver: Table) -> str:
    """What the contract says of the table: columns that evolved in silver may have any name, also one of a model's."""
    held = set(silver.schema().column_names)
    return column_list(field.name for field in silver_schema(contract).fields if field.name in held)


def _span(settings: Settings, day: date) -> tuple[int, int]:
    """The instants of a business day, in microseconds since 1970 UTC as Iceberg's bounds are: half-open.

    A day is as long as the zone's calendar makes it, 23 or 25 hours where the clocks change.
    """
    start = datetime.combine(day, time(), settings.time_zone)
    if day == date.max:
        return int(start.timestamp()) * 1_000_000, 2**63
    end = datetime.combine(day + timedelta(days=1), time(), settings.time_zone)
    return int(start.timestamp()) * 1_000_000, int(end.timestamp()) * 1_000_000


def _orders_of_dates(con: DuckDBPyConnection, source: str, column: str, dates: Sequence[date]) -> list[int]:
    """The orders of the dates, sorted: the line items stand beside them by this key."""
    wanted = ", ".join(f"DATE '{day.isoformat()}'" for day in dates)
    rows = con.execute(
        f"SELECT DISTINCT {ORDER_KEY} FROM {source} WHERE CAST({column} AS DATE) IN ({wanted}) ORDER BY ALL"
    ).fetchall()
    return [row[0] for row in rows]


def _empty(contract: Contract) -> str:
    columns = ", ".join(
        f"CAST(NULL AS {duckdb_type(field.field_type)}) AS {field.name}" for field in silver_schema(contract).fields
    )
    return f"SELECT {columns} WHERE false"
