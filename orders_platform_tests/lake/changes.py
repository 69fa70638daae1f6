"""Changes written into bronze without Kafka, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table

from orders_platform.contracts import Contract, load_contracts
from orders_platform.ingest.ledger import Ledger
from orders_platform.ingest.offsets import OffsetRange
from orders_platform.lake.catalog import ensure_table
from orders_platform.lake.commits import commit, head
from orders_platform.lake.duckdb_engine import connect, scan_sql, write_files
from orders_platform.lake.schemas import bronze_schema, silver_schema
from orders_platform.settings import Settings

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = date(2026, 3, 1)


def contract(table: str) -> Contract:
    """The platform's own contract of a table."""
    return next(c for c in load_contracts() if c.table == table)


def change(key: Mapping[str, Any], op: str, at: int, **values: Any) -> dict[str, Any]:
    """A row of bronze: the `at`-th change of the shop, of a key, with the values given.

    Names starting with an underscore override bronze's own columns; the rest is derived from `at`.
    """
    time = START + timedelta(seconds=at)
    return {
        **key,
        "_op": op,
        "_epoch": 0,
        "_commit_pos": at * 10,
        "_lsn": at * 10 + 1,
        "_tx_id": at,
        "_source_ts": time,
        "_snapshot": None,
        "_topic_id": "topic",
        "_kafka_partition": 0,
        "_kafka_offset": at,
        "_kafka_ts": time,
        "_ingest_day": DAY,
        "_unavailable": [],
        **values,
    }


def order(order_id: int, op: str, at: int, **values: Any) -> dict[str, Any]:
    """A change of an order."""
    full = {
        "customer_id": order_id % 7,
        "status": "placed",
        "currency": "EUR",
        "total": Decimal(at),
        "refunded": Decimal(0),
        "created_at": START,
        "updated_at": START + timedelta(seconds=at),
    }
    return change({"order_id": order_id}, op, at, **{**({} if op == "d" else full), **values})


def product(product_id: int, op: str, at: int, **values: Any) -> dict[str, Any]:
    """A change of a product; its description is what is given."""
    full = {
        "sku": f"sku-{product_id}",
        "name": "thing",
        "category": "things",
        "price": Decimal(at),
        "active": True,
        "created_at": START,
        "updated_at": START + timedelta(seconds=at),
    }
    return change({"product_id": product_id}, op, at, **{**({} if op == "d" else full), **values})


def bronze(catalog: Catalog, of: Contract) -> Table:
    """The table of bronze."""
    bounds = ["_kafka_partition", "_kafka_offset"]
    return ensure_table(catalog, of.bronze_table, bronze_schema(of), partition_by="_ingest_day", bounds=bounds)


def append(
    settings: Settings,
    catalog: Catalog,
    of: Contract,
    rows: Iterable[Mapping[str, Any]],
    summary: Mapping[str, str] | None = None,
) -> int:
    """Appends changes to bronze in one commit, as a foreign writer would: without a ledger."""
    table = bronze(catalog, of)
    columns = schema_to_pyarrow(bronze_schema(of), include_field_ids=False)
    files = []
    by_day: dict[date, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_day.setdefault(row["_ingest_day"], []).append(row)
    with connect(settings) as connection:
        for day, of_day in by_day.items():
            connection.register("rows", pa.Table.from_pylist([dict(row) for row in of_day], schema=columns))
            files += write_files(connection, table, "SELECT * FROM rows", partition=day)
            connection.unregister("rows")
    return commit(table, expected=head(table), add=files, summary=summary or {})


def load(settings: Settings, catalog: Catalog, of: Contract, rows: Sequence[Mapping[str, Any]]) -> int:
    """Appends changes as a load does: the commit's ledger holds their offsets."""
    ledger = Ledger.read(bronze(catalog, of))
    for topic_id in {row["_topic_id"] for row in rows}:
        places = [(row["_kafka_partition"], row["_kafka_offset"]) for row in rows if row["_topic_id"] == topic_id]
        ranges = [OffsetRange(partition, offset, offset + 1) for partition, offset in sorted(places)]
        ledger = ledger.including(topic_id, ranges, len(ranges), {})
    return append(settings, catalog, of, rows, ledger.summary())


def read(settings: Settings, table: Table, columns: str = "*", where: str = "true") -> list[dict[str, Any]]:
    """Rows of a table as dictionaries, in a definite order."""
    with connect(settings) as connection:
        found = connection.execute(
            f"SELECT {columns} FROM {scan_sql(table)} WHERE {where} ORDER BY ALL"
        ).to_arrow_table()
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


def silver_rows(settings: Settings, catalog: Catalog, of: Contract) -> list[dict[str, Any]]:
    """Silver's rows but for the number of the commit, which depends on the order of commits."""
    table = ensure_table(catalog, of.silver_table, silver_schema(of))
    return read(settings, table, "* EXCLUDE (_seq)")
