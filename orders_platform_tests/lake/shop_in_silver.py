"""A shop whose state is written into silver's tables directly, and what its daily revenue must be.

The tables are made and committed as the platform does it; only the way from Kafka is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog

from orders_platform.contracts import Contract, load_contracts
from orders_platform.lake.catalog import ensure_table
from orders_platform.lake.commits import commit, head, move_ref, next_sequence_number
from orders_platform.lake.duckdb_engine import connect, live_files, write_files
from orders_platform.lake.schemas import silver_schema
from orders_platform.settings import Settings

Row = dict[str, Any]
Key = tuple[Any, ...]
KEYS_PER_FILE = 8


def contract_of(table: str) -> Contract:
    return next(contract for contract in load_contracts() if contract.table == table)


@dataclass
class ShopInSilver:
    """`state` holds each table's rows by key, deleted ones included, as silver does."""

    settings: Settings
    catalog: Catalog
    state: dict[str, dict[Key, Row]] = field(default_factory=lambda: defaultdict(dict))
    _chunks: dict[str, int] = field(default_factory=dict)

    def order(self, order_id: int, placed: datetime, total: str = "100.00", **values: Any) -> Row:
        return {
            "order_id": order_id, "customer_id": 1, "status": "paid", "currency": "EUR", "total": Decimal(total),
            "refunded": Decimal(0), "created_at": placed, "updated_at": placed, **values,
        }  # fmt: skip

    def line(self, line_item_id: int, order_id: int, quantity: int = 1, **values: Any) -> Row:
        now = datetime(2026, 3, 1, tzinfo=UTC)
        return {
            "line_item_id": line_item_id, "order_id": order_id, "product_id": 1, "quantity": quantity,
            "unit_price": Decimal("1.00"), "discount": Decimal(0), "created_at": now, "updated_at": now, **values,
        }  # fmt: skip

    def customer(self, customer_id: int, region: str, **values: Any) -> Row:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        return {
            "customer_id": customer_id, "email": f"h{customer_id}", "full_name": "h", "phone": None,
            "address": "Town", "region": region, "created_at": now, "updated_at": now, **values,
        }  # fmt: skip

    def put(self, table: str, rows: Iterable[Row], *, audited: bool = True) -> int:
        """Upserts rows and, if `audited`, lets the ref follow. Returns the snapshot's id."""
        contract = contract_of(table)
        new = {tuple(row[column] for column in contract.key): {"_deleted": False, **row} for row in rows}
        return self._merge(contract, new, audited)

    def delete(self, table: str, *keys: Key) -> int:
        """Deletes rows as PostgreSQL's default replica identity tells of it: only the key is left."""
        contract = contract_of(table)
        return self._merge(
            contract, {key: dict(zip(contract.key, key, strict=True), _deleted=True) for key in keys}, True
        )

    def audit(self, table: str) -> None:
        iceberg = self.catalog.load_table(contract_of(table).silver_table)
        snapshot = head(iceberg)
        assert snapshot is not None
        move_ref(iceberg, "audited", snapshot)

    def _merge(self, contract: Contract, new: Mapping[Key, Row], audited: bool) -> int:
        schema = silver_schema(contract)
        iceberg = ensure_table(self.catalog, contract.silver_table, schema, sort=contract.key)
        sequence = next_sequence_number(iceberg)
        rows = self.state[contract.table]
        rows.update(
            {key: {**row, "_op": "d" if row["_deleted"] else "u", "_seq": sequence} for key, row in new.items()}
        )
        touched = {_chunk(key) for key in new}
        live = live_files(iceberg)
        added = []
        with connect(self.settings) as con:
            for chunk in sorted(touched):
                part = [
                    {**dict.fromkeys(schema.column_names), **row} for key, row in rows.items() if _chunk(key) == chunk
                ]
                arrow = pa.Table.from_pylist(part, schema=iceberg.schema().as_arrow())
                con.register("part", arrow)
                written = write_files(con, iceberg, "SELECT * FROM part", order_by=contract.key)
                self._chunks.update({file.file_path: chunk for file in written})
                added += written
        removed = [file for file in live if self._chunks.get(file.file_path) in touched]
        snapshot = commit(iceberg, expected=head(iceberg), add=added, remove=removed, summary={})
        if audited:
            self.audit(contract.table)
        return snapshot

    def daily_revenue(self, zone: tzinfo = UTC) -> dict[tuple[date, str, str], Row]:
        """What gold must say: by order date, region and currency."""
        lines = defaultdict(int)
        for line in self.current("line_items"):
            lines[line["order_id"]] += line["quantity"]
        regions = {customer["customer_id"]: customer["region"] for customer in self.current("customers")}
        days: dict[tuple[date, str, str], Row] = {}
        for order in self.current("orders"):
            key = (
                order["created_at"].astimezone(zone).date(),
                regions.get(order["customer_id"], "UNKNOWN"),
                order["currency"],
            )
            day = days.setdefault(
                key, {"orders": 0, "cancelled_orders": 0, "items": 0, "revenue": Decimal(0), "refunded": Decimal(0)}
            )
            cancelled = order["status"] == "cancelled"
            day["orders"] += 1
            day["cancelled_orders"] += cancelled
            day["items"] += lines[order["order_id"]]
            day["revenue"] += Decimal(0) if cancelled else order["total"] - order["refunded"]
            day["refunded"] += order["refunded"]
        return days

    def current(self, table: str) -> list[Row]:
        return [row for row in self.state[table].values() if not row["_deleted"]]


def gold_daily_revenue(catalog: Catalog) -> dict[tuple[date, str, str], Row]:
    """What gold says: the rows that readers see."""
    rows = catalog.load_table("gold.daily_revenue").scan().to_arrow().to_pylist()
    measures = ("orders", "cancelled_orders", "items", "revenue", "refunded")
    return {(row["order_date"], row["region"], row["currency"]): {name: row[name] for name in measures} for row in rows}


def at(day: int, hour: int = 12, month: int = 3) -> datetime:
    return datetime(2026, month, 1, hour, tzinfo=UTC) + timedelta(days=day - 1)


def _chunk(key: Key) -> int:
    return int(key[0]) // KEYS_PER_FILE
