"""PostgreSQL's column types and what they are called in Iceberg.

A type that is missing here is not supported: a contract that uses it is refused when it is loaded, and so never
half-loaded. Text carries what Iceberg has no exact type for (intervals, JSON, unbounded numeric with NaN, arrays).
`timetz` is missing because Debezium moves it to UTC and its offset is lost.
"""

from __future__ import annotations

import re

from orders_platform.errors import PlatformError

_EXACT = {
    "smallint": "int", "int2": "int", "integer": "int", "int": "int", "int4": "int", "bigint": "long", "int8": "long",
    "real": "float", "float4": "float", "double precision": "double", "float8": "double",
    "boolean": "boolean", "bool": "boolean", "bytea": "binary", "date": "date",
    "timestamp": "timestamp", "timestamp without time zone": "timestamp",
    "timestamptz": "timestamptz", "timestamp with time zone": "timestamptz",
    "text": "string", "varchar": "string", "character varying": "string", "char": "string", "character": "string",
    "uuid": "string", "json": "string", "jsonb": "string", "inet": "string", "cidr": "string", "macaddr": "string",
    "enum": "string", "time": "string", "interval": "string", "numeric": "string",
}  # fmt: skip
_SIZED_TEXT = re.compile(r"(varchar|character varying|char|character)\s*\(\s*\d+\s*\)")
_SIZED = re.compile(r"(time|timestamp|timestamptz|interval)\s*\(\s*\d\s*\)")
_DECIMAL = re.compile(r"(?:numeric|decimal)\s*\(\s*(\d+)\s*(?:,\s*(-?\d+)\s*)?\)")
_ELEMENTS = frozenset(
    {"smallint", "int2", "integer", "int", "int4", "bigint", "int8", "boolean", "bool", "text", "varchar",
     "character varying", "char", "character", "uuid", "enum"}
)  # fmt: skip
"""What arrays may hold. Debezium writes null for an array with one NaN, and floats and times not as PostgreSQL does."""
MAX_PRECISION = 38


class UnsupportedTypeError(PlatformError):
    """A PostgreSQL type that has no place in the tables."""


def canonical_type(source_type: str) -> str:
    """Iceberg's name of a PostgreSQL type, such as `decimal(12, 2)` for `numeric(12,2)`.

    Raises:
        UnsupportedTypeError: naming the type.
    """
    name = source_type.strip().lower()
    if name in _EXACT:
        return _EXACT[name]
    if match := _SIZED.fullmatch(name):
        return _EXACT[match[1]]
    element = re.sub(r"\s*\(\s*\d+\s*\)", "", name).removesuffix("[]").strip()
    if _SIZED_TEXT.fullmatch(name) or (name.endswith("[]") and element in _ELEMENTS):
        return "string"
    if match := _DECIMAL.fullmatch(name):
        precision, scale = int(match[1]), int(match[2] or 0)
        digits, scale = precision + max(0, -scale), max(0, scale)
        if scale <= digits:
            return f"decimal({digits}, {scale})" if digits <= MAX_PRECISION else "string"
    raise UnsupportedTypeError(
        f"PostgreSQL type {source_type!r} is not supported; declare the column as one of: "
        f"{', '.join(sorted(_EXACT))}, numeric(p,s), varchar(n), char(n), arrays of "
        f"{', '.join(sorted(_ELEMENTS))}; a domain is declared as what it is made of"
    )


def has_text_form(canonical: str) -> bool:
    """Whether PostgreSQL's text of such values can be kept instead of the values."""
    return canonical.startswith(("date", "timestamp", "decimal"))
