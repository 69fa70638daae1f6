"""Which of two PostgreSQL types holds more, as far as that can be said of them."""

from __future__ import annotations

import re

_SPELLED = {
    "int2": "smallint", "int": "integer", "int4": "integer", "int8": "bigint",
    "float4": "real", "float8": "double precision", "decimal": "numeric", "bool": "boolean",
    "varchar": "character varying", "char": "character",
    "timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone",
    "time": "time without time zone",
}  # fmt: skip
_FAMILIES = (("smallint", "integer", "bigint"), ("real", "double precision"))
_PARTS = re.compile(r"([a-z0-9 ]+?)\s*(?:\(\s*([0-9\s,-]+?)\s*\))?(\s+(?:with|without) time zone)?((?:\[\])*)")
_UNBOUNDED = 10**6
_SECOND_DIGITS = 6

SOURCE_TYPES = {
    "boolean": "boolean", "int": "integer", "long": "bigint", "float": "real", "double": "double precision",
    "date": "date", "timestamp": "timestamp", "timestamptz": "timestamptz", "binary": "bytea", "string": "json",
}  # fmt: skip
_DECIMAL = re.compile(r"decimal\((\d+), (\d+)\)")


def source_type(canonical: str) -> str:
    """A PostgreSQL type whose values are kept as that type; `json` for text, which takes any value as it arrives."""
    match = _DECIMAL.fullmatch(canonical)
    return f"numeric({match[1]},{match[2]})" if match else SOURCE_TYPES[canonical]


def spelled(kind: str) -> str:
    """A type as PostgreSQL's `format_type` writes it; what is no known form stays as it is."""
    match = _PARTS.fullmatch(kind.strip().lower())
    if match is None:
        return kind.strip().lower()
    name, sizes, zone, array = match.groups()
    full = _SPELLED.get(name, name) if not zone else name + " " + zone.strip()
    if sizes is None:
        # Of these, PostgreSQL's own short forms have a size.
        return f"{full}{'(1)' if full == 'character' else ''}{array}"
    size = ",".join(part.strip() for part in sizes.split(","))
    if full == "numeric" and "," not in size:
        size += ",0"
    first, _, rest = full.partition(" ") if full.startswith(("time ", "timestamp ")) else (full, "", "")
    return f"{first}({size}){' ' + rest if rest else ''}{array}"


def narrower(seen: str, declared: str) -> bool:
    """Whether a type holds less than what is declared: not all values of the latter fit it."""
    one, other = spelled(seen), spelled(declared)
    if one == other:
        return False
    for family in _FAMILIES:
        if one in family and other in family:
            return family.index(one) < family.index(other)
    (name, sizes), (of, limits) = _sized(one), _sized(other)
    if name == of == "numeric":
        (digits, scale), (all_digits, wanted) = sizes, limits
        return digits - scale < all_digits - wanted or scale < wanted
    if {name, of} <= {"character varying", "character", "text"} or name == of:
        return sizes[0] < limits[0]
    return False


def widened(seen: str, declared: str) -> bool:
    """Whether Iceberg's own promotions lead from what is declared to a type that holds what is seen."""
    one, other = spelled(seen), spelled(declared)
    for family in _FAMILIES:
        if one in family and other in family:
            return family.index(one) > family.index(other)
    (name, (digits, scale)), (of, (declared_digits, wanted)) = _sized(one), _sized(other)
    return name == of == "numeric" and scale == wanted and declared_digits < digits < _UNBOUNDED


def _sized(kind: str) -> tuple[str, tuple[int, int]]:
    """Name and sizes of a type as `spelled`; no size is as good as an unlimited one."""
    match = re.fullmatch(r"([a-z ]+?)\((\d+)(?:,(-?\d+))?\)(.*)", kind)
    if match is None:
        unlimited = _SECOND_DIGITS if kind.startswith(("time", "interval")) else _UNBOUNDED
        return kind, (unlimited, _UNBOUNDED // 2)
    return match[1] + match[4], (int(match[2]), int(match[3] or 0))
