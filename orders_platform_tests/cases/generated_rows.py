"""Rows of every type that a shop uses, generated: each value is PostgreSQL's text of it.

The seed of the environment's `GENERATED_ROWS_SEED`, by default always the same, decides the rows and the key's type.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping
from typing import Any, Literal

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

Row = Mapping[str, str | None]

# PostgreSQL stores no NUL; Debezium and PostgreSQL escape other control characters in JSON with other letters.
CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t\"\\'{},🚚שñ")
TEXT = st.text(CHARACTERS, max_size=20)


def _integer(bits: int) -> st.SearchStrategy[str]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).map(str)


def _decimal(digits: int, scale: int) -> st.SearchStrategy[str]:
    limit = 10**digits - 1
    return st.integers(-limit, limit).map(lambda n: _pointed(n, scale))


def _pointed(number: int, scale: int) -> str:
    """The number divided by 10^scale, every digit of it."""
    digits = str(abs(number)).zfill(scale + 1)
    return ("-" if number < 0 else "") + (f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits)


def _float(width: Literal[32, 64]) -> st.SearchStrategy[str]:
    return st.floats(width=width).map(_float_text)


def _float_text(value: float) -> str:
    return {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}.get(repr(value), repr(value))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _array(value: list[Any]) -> str:
    """PostgreSQL's text of an array of texts."""
    quoted = ("NULL" if each is None else '"' + each.replace("\\", "\\\\").replace('"', '\\"') + '"' for each in value)
    return "{" + ",".join(quoted) + "}"


def _not_only_null(value: list[Any]) -> bool:
    return not value or any(each is not None for each in value)


DATES = st.dates().map(str) | st.sampled_from(["0001-01-01", "9999-12-31", "2024-02-29"])
TIMES = st.times().map(lambda t: t.isoformat())
INSTANTS = st.datetimes().map(lambda t: t.isoformat(" ")) | st.sampled_from(
    ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "1900-01-01 00:00:00"]
)
ENDLESS = st.sampled_from(["infinity", "-infinity"])
ANCIENT = st.sampled_from(["4713-01-01 BC", "0044-03-15 BC"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
).map(_json)
INTERVALS = st.builds(
    lambda months, days, micros: f"{months} mons {days} days {micros} microseconds",
    st.integers(-200_000, 200_000), st.integers(-40_000, 40_000), st.integers(-(10**12), 10**12),
)  # fmt: skip
TEXTS = st.lists(st.none() | TEXT, max_size=4).filter(_not_only_null).map(_array)
NUMBERS = st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), max_size=4).filter(_not_only_null)
NUMERIC = st.builds(_pointed, st.integers(-(10**40), 10**40), st.integers(0, 30))

UNAMBIGUOUS = {"customProperties": [{"property": "unambiguous", "value": True}]}

COLUMNS: Mapping[str, tuple[str, Any, st.SearchStrategy[str]]] = {
    # name: PostgreSQL's type, what the contract says of it (its type if None), values
    "small": ("smallint", None, _integer(16)),
    "whole": ("integer", None, _integer(32)),
    "big": ("bigint", None, _integer(64)),
    "amount": ("numeric(12,2)", None, _decimal(12, 2)),
    "wide": ("numeric(38,10)", None, _decimal(38, 10)),
    "wider": ("numeric(60,5)", None, _decimal(60, 5)),
    "rounded": ("numeric(5,-2)", None, st.integers(-99999, 99999).map(lambda n: str(n * 100))),
    "exact": ("numeric", None, NUMERIC | st.sampled_from(["NaN", "Infinity", "-Infinity", "0.000", "-0.10"])),
    "single": ("real", None, _float(32)),
    "precise": ("double precision", None, _float(64)),
    "yes": ("boolean", None, st.sampled_from(["true", "false"])),
    "code": ("char(5)", None, st.text(st.characters(categories=["L", "N"]), max_size=5)),
    "short": ("varchar(20)", None, TEXT),
    "long": ("text", None, TEXT),
    "raw": ("bytea", None, st.binary(max_size=20).map(lambda b: "\\x" + b.hex())),
    "day": ("date", None, DATES),
    "day_text": ("date", {"physicalType": "date", "logicalType": "string"}, DATES | ENDLESS),
    "clock": (
        "time",
        {"physicalType": "time", **UNAMBIGUOUS},
        TIMES,
    ),
    "local": ("timestamp", None, INSTANTS),
    "local_text": ("timestamp", {"physicalType": "timestamp", "logicalType": "string"}, INSTANTS | ENDLESS | ANCIENT),
    "instant": ("timestamptz", None, INSTANTS.map(lambda t: t + "+00")),
    "instant_text": (
        "timestamptz",
        {"physicalType": "timestamptz", "logicalType": "string"},
        INSTANTS.map(lambda t: t + "+00") | ENDLESS | ANCIENT,
    ),
    "lasting": (
        "interval",
        {"physicalType": "interval", **UNAMBIGUOUS},
        INTERVALS,
    ),
    "id": ("uuid", None, st.uuids().map(str)),
    "document": ("json", None, JSON),
    "binary_document": ("jsonb", None, JSON),
    "words": ("text[]", None, TEXTS),
    "numbers": ("integer[]", None, NUMBERS.map(lambda n: _array([None if each is None else str(each) for each in n]))),
    "mood": (
        "mood",
        "enum",
        st.sampled_from(["sad", "so so", 'a,"b']),
    ),
    "positive": ("positive", "integer", st.integers(1, 2**31 - 1).map(str)),
    "address": ("inet", None, st.ip_addresses().map(str) | st.just("10.0.0.1/8")),
    "network": ("cidr", None, st.sampled_from(["10.0.0.0/8", "2001:db8::/32"])),
    "device": ("macaddr", None, st.just("08:00:2b:01:02:03")),
}
ENDS = {
    "day": ["0001-01-01", "9999-12-31"],
    "day_text": ["infinity", "-infinity"],
    "local": ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"],
    "exact": ["NaN", "Infinity", "-Infinity"],
}
"""Values that no seed leaves out."""

SEED = int(os.environ.get("GENERATED_ROWS_SEED", "0"))
KEYED = random.Random(SEED).choice([name for name in COLUMNS if name != "document"])
"""The column that is part of the key; PostgreSQL has no order for json, and so no key."""
KEY = ("key", KEYED)
AGAIN = f"the key is ({', '.join(KEY)}); again: GENERATED_ROWS_SEED={SEED} .venv/bin/pytest {{file}}"
"""For the reader of a failure."""

DDL = f"""
CREATE TYPE mood AS ENUM ('sad', 'so so', 'a,"b');
CREATE DOMAIN positive AS integer CHECK (value > 0);
CREATE TABLE samples (
    key bigint, {", ".join(f'"{name}" {kind}' for name, (kind, _, _) in COLUMNS.items())},
    generated integer GENERATED ALWAYS AS (small + 1) STORED, PRIMARY KEY (key, "{KEYED}"));
"""
CONTRACT = {
    "key": "bigint",
    **{name: given or kind for name, (kind, given, _) in COLUMNS.items()},
    "generated": "integer",
}


def generated_rows(count: int) -> list[Row]:
    """The seed's rows: every column but the key's null in some, and every kind of value in others."""
    rows: list[Row] = []
    columns = {name: st.none() | values | values | values for name, (_, _, values) in COLUMNS.items()}
    columns[KEYED] = COLUMNS[KEYED][2]

    @seed(SEED)
    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.fixed_dictionaries(columns))
    def collect(row: Row) -> None:
        rows.append(row)

    collect()
    for name, values in ENDS.items():
        for number, value in enumerate(values, 1):
            rows[number] = {**rows[number], name: value}
    return rows


def insert_sql(rows: Mapping[int, Row]) -> str:
    """An INSERT of rows by key."""

    def literal(text: str | None) -> str:
        return "NULL" if text is None else "'" + text.replace("'", "''") + "'"

    values = (f"({key}, {', '.join(literal(row[name]) for name in COLUMNS)})" for key, row in rows.items())
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    return f"INSERT INTO samples (key, {names}) VALUES {', '.join(values)};"
