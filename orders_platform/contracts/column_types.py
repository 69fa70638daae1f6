"""PostgreSQL's column types and what they are called in Iceberg.

A type that is missing here is not supported: a contract that uses it is refused when it is loaded, and so never
half-loaded. Text carries what Iceberg has no exact type for (intervals, JSON, unbounded numeric with NaN, arrays).
"""

from __future__ import annotations

import re

_EXACT = {
    "smallint": "int", "int2": "int", "integer": "int", "int": "int", "int4": "int", "bigint": "long", "int8": "long",
    "real": "float", "float4": "float", "double precision": "double", "float8": "double",
    "boolean": "boolean", "bool": "boolean", "bytea": "binary", "date": "date",
    "timestamp": "timestamp", "timestamp without time zone": "timestamp",
    "timestamptz": "timestamptz", "timestamp with time zone": "timestamptz",
    "text": "string", "varchar": "string", "character varying": "string", "char": "string", "character": "string",
    "uuid": "string", "json": "string", "jsonb": "string", "inet": "string", "enum": "string",
    "time": "string", "timetz": "string", "interval": "string", "numeric": "string",
}  # fmt: skip
_SIZED_TEXT = re.compile(r"(varchar|character varying|char|character)\s*\(\s*\d+\s*\)")
_DECIMAL = re.compile(r"(?:numeric|decimal)\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")
MAX_PRECISION = 38


class UnsupportedTypeError(Exception):
    """A PostgreSQL type that has no place in the tables."""


def canonical_type(source_type: str) -> str:
    """Iceberg's name of a PostgreSQL type, such as `decimal(12, 2)` for `numeric(12,2)`.

    Raises:
        UnsupportedTypeError: naming the type.
    """
    name = source_type.strip().lower()
    if name in _EXACT:
        return _EXACT[name]
    if _SIZED_TEXT.fullmatch(name) or name.endswith("[]"):
        return "string"
    if match := _DECIMAL.fullmatch(name):
        precision, scale = int(match[1]), int(match[2] or 0)
        if precision <= MAX_PRECISION and scale <= precision:
            return f"decimal({precision}, {scale})"
    raise UnsupportedTypeError(
        f"PostgreSQL type {source_type!r} is not supported; declare the column as one of: "
        f"{', '.join(sorted(_EXACT))}, numeric(p,s) with p up to {MAX_PRECISION}, varchar(n), char(n)"
    )
