"""The text by which values of both sides are compared: whatever a value's type and home, equal values have equal text.

Text from PostgreSQL is read back into the column's type first, so that both sides are written by the same engine.
"""

from __future__ import annotations

from orders_platform.contracts import Column
from orders_platform.lake.masking import mask_sql
from orders_platform.lake.schemas import duckdb_type, quoted
from orders_platform.lake.transform import to_duckdb


def postgres_text(column: Column, masking_key: bytes) -> str:
    """DuckDB SQL of a column that holds PostgreSQL's text form, masked as silver masks it.

    Text that cannot be read as the column's type stays as it is, and so differs from whatever silver holds.
    """
    name = quoted(column.name)
    if column.masking:
        return to_duckdb(mask_sql(column, masking_key, f"`{column.name}`"))
    if column.type == "string":
        return name
    if column.type == "binary":
        return f"lower({name}[3:])"  # PostgreSQL's hex form starts with \x
    return f"coalesce({typed_text(f'TRY_CAST({name} AS {duckdb_type(column.type)})', column.type)}, {name})"


def lake_text(name: str, kind: str) -> str:
    """DuckDB SQL of a lake column of that canonical type."""
    if kind == "string":
        return quoted(name)
    if kind == "binary":
        return f"lower(hex({quoted(name)}))"
    return typed_text(f"CAST({quoted(name)} AS {duckdb_type(kind)})", kind)


def typed_text(expression: str, kind: str) -> str:
    """Text of a value in DuckDB; instants in UTC."""
    if kind == "timestamptz":
        return f"CAST({expression} AT TIME ZONE 'UTC' AS VARCHAR)"
    if kind in ("float", "double"):
        return f"CAST({expression} + 0::{duckdb_type(kind)} AS VARCHAR)"  # minus zero is zero
    return f"CAST({expression} AS VARCHAR)"
