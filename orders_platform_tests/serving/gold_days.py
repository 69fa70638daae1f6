"""Days of gold's daily revenue, committed as gold commits them, without what comes before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.schema import Schema
from pyiceberg.types import DateType, DecimalType, LongType, NestedField, StringType

from orders_platform.lake.catalog import ensure_table
from orders_platform.lake.commits import commit, head
from orders_platform.lake.duckdb_engine import connect, write_files
from orders_platform.lake.gold_files import files_of_dates, live_files
from orders_platform.lake.gold_mark import GoldMark
from orders_platform.settings import Settings

SCHEMA = Schema(
    NestedField(1, "order_date", DateType(), required=False),
    NestedField(2, "region", StringType(), required=False),
    NestedField(3, "currency", StringType(), required=False),
    NestedField(4, "orders", LongType(), required=False),
    NestedField(5, "cancelled_orders", LongType(), required=False),
    NestedField(6, "items", LongType(), required=False),
    NestedField(7, "revenue", DecimalType(18, 2), required=False),
    NestedField(8, "refunded", DecimalType(18, 2), required=False),
)


def row(region: str, revenue: str, orders: int = 1, **values: Any) -> dict[str, Any]:
    return {
        "region": region, "currency": "EUR", "orders": orders, "cancelled_orders": 0, "items": 2 * orders,
        "revenue": Decimal(revenue), "refunded": Decimal("0.01"), **values,
    }  # fmt: skip


@dataclass(frozen=True)
class GoldDays:
    settings: Settings
    catalog: Catalog

    def put(self, day: date, *rows: dict[str, Any]) -> None:
        """Replaces a day; without rows it is emptied."""
        table = ensure_table(self.catalog, "gold.daily_revenue", SCHEMA, partition_by="order_date")
        with connect(self.settings) as con:
            arrow = pa.Table.from_pylist(
                [{"order_date": day, **each} for each in rows], schema=table.schema().as_arrow()
            )
            con.register("rows", arrow)
            added = write_files(con, table, "SELECT * FROM rows", partition=day) if rows else []
        removed = files_of_dates(live_files(table, head(table)), [day])
        commit(table, expected=head(table), add=added, remove=removed, summary=GoldMark().summary)
