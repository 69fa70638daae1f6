"""Silver as it must be, copied from PostgreSQL without Kafka between them, and ways to damage it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pyarrow as pa
from psycopg.rows import dict_row
from pyiceberg.catalog import Catalog

from orders_platform.contracts import Contract, load_contracts
from orders_platform.lake.catalog import ensure_table
from orders_platform.lake.commits import commit, head, move_ref, next_sequence_number
from orders_platform.lake.duckdb_engine import connect, live_files, scan_sql, write_files
from orders_platform.lake.masking import mask_value
from orders_platform.lake.schemas import silver_schema
from orders_platform.settings import Settings

Row = dict[str, Any]


def contract_of(table: str) -> Contract:
    return next(contract for contract in load_contracts() if contract.table == table)


def copy_shop(settings: Settings, catalog: Catalog) -> None:
    """Makes silver equal to PostgreSQL, masked, and audited."""
    with psycopg.connect(settings.postgres, row_factory=dict_row) as connection:
        for contract in load_contracts():
            rows = connection.execute(f"SELECT * FROM {contract.table}").fetchall()
            _write(settings, catalog, contract, [_masked(settings, contract, row) for row in rows])


def _write(settings: Settings, catalog: Catalog, contract: Contract, rows: Iterable[Row]) -> None:
    schema = silver_schema(contract)
    iceberg = ensure_table(catalog, contract.silver_table, schema, sort=contract.key)
    platform = {"_deleted": False, "_op": "u", "_seq": next_sequence_number(iceberg)}
    complete = [{**dict.fromkeys(schema.column_names), **platform, **row} for row in rows]
    with connect(settings) as con:
        con.register("given", pa.Table.from_pylist(complete, schema=iceberg.schema().as_arrow()))
        _replace(catalog, contract.silver_table, "SELECT * FROM given", con)


@contextmanager
def damaged(settings: Settings, catalog: Catalog, identifier: str, select: str) -> Iterator[None]:
    """A table whose rows are, for a while, those of `select` over them, which calls them `t`."""
    table = catalog.load_table(identifier)
    whole = table.metadata.snapshot_by_name("main")
    assert whole is not None
    with connect(settings) as con:
        _replace(catalog, identifier, f"WITH t AS (FROM {scan_sql(table)}) {select}", con)
    try:
        yield
    finally:
        catalog.load_table(identifier).manage_snapshots().set_current_snapshot(whole.snapshot_id).commit()
        if identifier.startswith("silver."):
            move_ref(catalog.load_table(identifier), "audited", whole.snapshot_id)


def _replace(catalog: Catalog, identifier: str, query: str, con: Any) -> None:
    table = catalog.load_table(identifier)
    before = live_files(table)
    added = []
    if fields := table.spec().fields:
        con.execute(f"CREATE OR REPLACE TEMP TABLE _new AS {query}")
        for (value,) in con.execute(f"SELECT DISTINCT {fields[0].name} FROM _new ORDER BY 1").fetchall():
            part = f"SELECT * FROM _new WHERE {fields[0].name} = '{value}'"
            added += write_files(con, table, part, partition=value)
    else:
        added = write_files(con, table, query)
    snapshot = commit(table, expected=head(table), add=added, remove=before, summary={})
    if identifier.startswith("silver."):
        move_ref(table, "audited", snapshot)


def _masked(settings: Settings, contract: Contract, row: Row) -> Row:
    return {
        column.name: mask_value(column.masking, settings.masking_key, row[column.name])
        if column.masking
        else row[column.name]
        for column in contract.columns
    }
