"""What DuckDB alone takes for the same rows, Parquet to Parquet: no ledger, no checks, no commit, no exactly-once.

A hop cannot be quicker than reading its input, computing the result and writing it once; the ratio to that says what
the platform's promises cost. Each function runs in a process of its own.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

from orders_platform.contracts import Contract
from orders_platform.lake.schemas import duckdb_type
from orders_platform.settings import Settings
from orders_platform_tests.benchmarks.measure import Stopwatch, Timed


def bronze_floor(settings: Settings, contract: Contract, out: Path) -> Timed:
    """Staged raw records to typed columns; the JSON is parsed once."""
    structure = json.dumps(
        {
            "op": "VARCHAR",
            "after": dict.fromkeys(contract.column_names, "VARCHAR"),
            "source": {"lsn": "BIGINT", "ts_us": "BIGINT"},
        }
    )
    columns = ", ".join(
        f"CAST(event.after.{column.name} AS {duckdb_type(column.type)}) AS {column.name}" for column in contract.columns
    )
    files = f"{settings.staging}/**/*.parquet"
    return _copy(
        settings,
        f"""SELECT {columns}, event.op, event.source.lsn, event.source.ts_us
           FROM (SELECT json_transform(decode(value), {_literal(structure)}) AS event
                 FROM read_parquet({_literal(files)}, filename = true)
                 WHERE filename LIKE '%.{contract.table}/%' AND value IS NOT NULL)""",
        out,
    )


def silver_floor(settings: Settings, contract: Contract, changed_since: int | None, out: Path) -> Timed:
    """The newest row of each key among silver's rows before the merge and the changes since; all keys are written."""
    from orders_platform.lake.catalog import open_catalog
    from orders_platform.lake.duckdb_engine import scan_sql

    catalog = open_catalog(settings)
    bronze = catalog.load_table(contract.bronze_table)
    columns = ", ".join(contract.column_names)
    older = ""
    where = "true"
    if changed_since is not None:
        where = f"_lsn >= {changed_since}"
        older = f"UNION ALL BY NAME SELECT {columns}, _lsn FROM {scan_sql(catalog.load_table(contract.silver_table))}"
    return _copy(
        settings,
        f"""SELECT * FROM (SELECT {columns}, _lsn FROM {scan_sql(bronze)} WHERE {where} {older})
            QUALIFY row_number() OVER (PARTITION BY {", ".join(contract.key)} ORDER BY _lsn DESC) = 1
            ORDER BY {", ".join(contract.key)}""",
        out,
    )


def reconciliation_floor(settings: Settings, contract: Contract) -> Timed:
    """Checksums of two Parquet copies of the rows, as DuckDB makes them from the typed columns."""
    from orders_platform.lake.catalog import open_catalog
    from orders_platform.lake.duckdb_engine import connect, scan_sql

    silver = scan_sql(open_catalog(settings).load_table(contract.silver_table))
    key, columns = ", ".join(contract.key), ", ".join(contract.column_names)
    sums = f"""SELECT hash({key}) % 1024 AS bucket, count(*) AS rows, sum(hash({columns})) AS total
               FROM {silver} WHERE NOT _deleted GROUP BY bucket"""
    with connect(settings) as connection, Stopwatch() as watch:
        unequal = connection.execute(
            f"""SELECT count(*) FROM ({sums}) AS a FULL JOIN ({sums}) AS b USING (bucket)
                WHERE (a.rows, a.total) IS DISTINCT FROM (b.rows, b.total)"""
        ).fetchone()
    assert unequal == (0,)
    return Timed(watch.seconds)


def gold_floor(settings: Settings, order_date: date, out: Path) -> Timed:
    """Orders of one date with their items and region, and their sums."""
    from orders_platform.lake.catalog import open_catalog
    from orders_platform.lake.duckdb_engine import scan_sql

    catalog = open_catalog(settings)
    orders, lines, customers = (
        scan_sql(catalog.load_table(f"silver.{table}")) for table in ("orders", "line_items", "customers")
    )
    return _copy(
        settings,
        f"""WITH facts AS (
                SELECT o.order_id, o.customer_id, c.region, o.currency, o.status, b.items,
                    CASE WHEN o.status = 'cancelled' THEN 0 ELSE o.total - o.refunded END AS revenue
                FROM {orders} AS o
                LEFT JOIN (SELECT order_id, sum(quantity) AS items FROM {lines} GROUP BY order_id) AS b USING (order_id)
                LEFT JOIN {customers} AS c ON o.customer_id = c.customer_id
                WHERE CAST(o.created_at AS DATE) = DATE '{order_date}')
            SELECT *, sum(revenue) OVER (PARTITION BY region, currency) AS daily_revenue FROM facts""",
        out,
    )


def clickhouse_floor(settings: Settings, order_date: date, out: Path) -> Timed:
    """One date of the revenue table, copied."""
    from orders_platform.lake.catalog import open_catalog
    from orders_platform.lake.duckdb_engine import scan_sql

    revenue = scan_sql(open_catalog(settings).load_table("gold.daily_revenue"))
    return _copy(settings, f"SELECT * FROM {revenue} WHERE order_date = DATE '{order_date}'", out)


def _copy(settings: Settings, sql: str, out: Path) -> Timed:
    from orders_platform.lake.duckdb_engine import connect

    out.parent.mkdir(parents=True, exist_ok=True)
    with connect(settings) as connection:
        connection.execute("SET enable_progress_bar = false")
        with Stopwatch() as watch:
            rows = connection.execute(
                f"COPY ({sql}) TO {_literal(str(out))} (FORMAT parquet, COMPRESSION zstd)"
            ).fetchone()
    assert rows is not None
    out.unlink()
    return Timed(watch.seconds, {"rows": rows[0]})


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
