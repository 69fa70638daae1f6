"""To which types a column may be promoted, and how much of that a value needs. Source: Iceberg's rules of evolution."""

from __future__ import annotations

from dataclasses import replace

from orders_platform.contracts import Column, Contract
from orders_platform.contracts.column_types import MAX_PRECISION
from orders_platform.contracts.type_width import source_type
from orders_platform.ingest.column_decoding import decimal_type

_PROMOTED = {"int": "long", "float": "double"}
_CAST = {"int": "INTEGER", "float": "FLOAT"}


def widest(contract: Contract) -> Contract:
    """The contract with every number as wide as it may become."""

    def promoted(column: Column) -> Column:
        if decimal := decimal_type(column):
            return replace(column, source_type=f"numeric({MAX_PRECISION},{decimal[1]})")
        kind = _PROMOTED.get(column.type)
        return replace(column, source_type=source_type(kind)) if kind else column

    return replace(contract, columns=tuple(promoted(column) for column in contract.columns))


def digits_beyond_sql(column: Column, wide: str) -> str:
    """SQL: digits before the point of a promoted value that the column's own type does not hold; NULL if it does."""
    if decimal := decimal_type(column):
        digits, whole = f"length(trunc(abs({wide}))::VARCHAR)", decimal[0] - decimal[1]
        return f"CASE WHEN abs({wide}) >= 1 AND {digits} > {whole} THEN {digits} END"
    cast = f"TRY_CAST({wide} AS {_CAST[column.type]})"
    if column.type == "float":
        fits = f"is_real({wide}::VARCHAR) AND (isfinite({cast}) OR NOT isfinite({wide}))"
        return f"CASE WHEN {wide} IS NOT NULL AND NOT coalesce({fits}, false) THEN 0 END"
    return f"CASE WHEN {wide} IS NOT NULL AND {cast} IS NULL THEN 0 END"


def wider_type(column: Column, digits: int) -> str:
    """Iceberg's name of the type that holds values with so many digits before the point."""
    if decimal := decimal_type(column):
        return f"decimal({digits + decimal[1]}, {decimal[1]})"
    return _PROMOTED[column.type]
