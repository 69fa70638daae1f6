"""What silver must hold, computed the slow way: one change after the other, in their order, in a dictionary."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]


def position(row: Row) -> tuple[int, int, int, int]:
    """A change's place in the order of changes."""
    return row["_epoch"], row["_commit_pos"], row["_lsn"], row["_kafka_offset"]


def current_products(changes: Iterable[Row]) -> dict[int, tuple[int, str | None]]:
    """Current products by key, as (price, description), after these changes; none whose description is unknown."""
    unknown = object()
    rows: dict[int, tuple[Any, Any]] = {}
    gone: dict[int, Any] = {}  # what was last known under a key, for a change of the key that carries no value
    for row in sorted(changes, key=position):
        key = row["product_id"]
        absent = "description" in row["_unavailable"]
        if row["_op"] == "t":
            rows.clear()
            continue
        if row["_op"] == "d":
            if key in rows:
                gone[key] = rows.pop(key)[1]
            continue
        if not absent:
            description: Any = row["description"]
        elif row["_op"] == "c":
            old = json.loads(row["_old_key"])["product_id"] if row["_old_key"] else None
            description = rows[old][1] if old in rows else gone.get(old, unknown)
        else:
            description = rows[key][1] if key in rows else unknown
        rows[key] = (int(row["price"]), description)
    return {key: row for key, row in rows.items() if row[1] is not unknown}
