"""Rows of the shop are found by the lake's keys, whatever PostgreSQL's type of these is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from orders_platform.contracts import Column, Contract
from orders_platform.ingest.vanished import remove_vanished
from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.silver import merge_silver
from orders_platform.quality.comparison import Patience
from orders_platform.quality.key_range import EVERYTHING
from orders_platform.quality.reconcile import reconcile_range
from orders_platform.quality.report import Finding
from orders_platform.quality.shop_snapshot import ShopSide
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.lake.changes import change, load

TYPES: Mapping[str, list[str]] = {
    # PostgreSQL's type: values, in its own text
    "smallint": ["-7", "0"],
    "bigint": ["-9223372036854775808", "42"],
    "numeric(12,2)": ["-0.10", "7.00"],
    "numeric": ["1.50", "NaN", "12345678901234567890123456789012345678901.5"],
    "real": ["0.1", "-Infinity"],
    "double precision": ["0.1", "1e300", "NaN"],
    "boolean": ["true", "false"],
    "text": ["", "O'Brien, {a} \"b\" \\N", "NULL", "🦆"],
    "varchar(3)": ["a", "abc"],
    "char(3)": ["a", "abc"],
    "bytea": ["\\x", "\\xdeadbeef", "\\x5c78", "\\x00ff"],
    "date": ["0001-01-01", "2026-03-10"],
    "timestamp": ["2026-03-10 12:00:00.000001", "1969-12-31 23:59:59"],
    "timestamptz": ["2026-03-10 12:00:00.000001+05", "1969-12-31 23:59:59+00"],
    "time": ["00:00:00", "12:30:00.5"],
    "interval": ["1 mon -2 days 03:00:00.5", "0"],
    "uuid": ["c0ffee00-0000-4000-8000-000000000000"],
    "jsonb": ['{"a": [1, "b"]}', '"text"'],
    "inet": ["10.0.0.1/8", "::1"],
    "macaddr": ["08:00:2b:01:02:03"],
    "text[]": ['{"a,b","[c]",NULL,"d\\"e\\nf"}', "{}"],
    "integer[]": ["{1,NULL,-3}"],
    "mood": ["sad", 'so "so"', "a,b"],
    "mood[]": ["{sad,\"a,b\"}"],
    "positive": ["1", "7"],
}  # fmt: skip
NAMES = """CREATE SCHEMA "Own"; CREATE TYPE "Own".mood AS ENUM ('sad', 'so "so"', 'a,b');
CREATE DOMAIN "Own".positive AS integer CHECK (value > 0); SET search_path = "Own", public; """


@pytest.mark.parametrize("kind", TYPES)
def test_every_row_is_found_again_by_its_key(shop_dsn: str, kind: str) -> None:
    declared = {"mood": "enum", "mood[]": "enum[]", "positive": "integer"}.get(kind, kind)
    contract = Contract("Things", "Own", (Column("Key", declared, required=True),), ("Key",), "1", "x")
    with psycopg.connect(shop_dsn, autocommit=True) as connection:
        connection.execute(f'{NAMES} CREATE TABLE "Things" ("Key" {kind} PRIMARY KEY)'.encode())
        connection.cursor().executemany(f'INSERT INTO "Things" VALUES (%s::{kind})', [[v] for v in TYPES[kind]])
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        side = ShopSide(shop_dsn, contract, b"")
        side.load(con, "all_rows", "*")
        keys = con.execute("FROM all_rows ORDER BY 1").fetchall()
        assert len(keys) == len(TYPES[kind])
        side.load(con, "found", "*", [*keys, *keys[:1]])
        assert con.execute("FROM found ORDER BY 1").fetchall() == keys
        side.load(con, "found", "*", keys[:1])
        assert con.execute("FROM found").fetchall() == keys[:1]


KEY = {"id": "bigint", "raw": "bytea", "mood": "enum", "words": "text[]", "at": "timestamptz", "price": "numeric(9,2)"}
THINGS = Contract("things", "Own", tuple(Column(*each) for each in KEY.items()), tuple(KEY), "1", "x")


def test_rows_that_one_side_lacks_are_named_and_vanished_ones_removed(shop_dsn: str, tmp_path: Path) -> None:
    """A key of several such columns, through silver's tables: the second look and the repair ask for the same rows."""
    settings = new_settings(tmp_path / "home", postgres_dsn=shop_dsn)
    catalog = open_catalog(settings)
    columns = ", ".join(f"{name} {kind.replace('enum', 'mood')}" for name, kind in KEY.items())
    with psycopg.connect(shop_dsn, autocommit=True) as connection:
        connection.execute(f"{NAMES} CREATE TABLE things ({columns}, PRIMARY KEY ({', '.join(KEY)}))".encode())
        rest = "'sad', '{\"a,b\",c}', '2026-03-10 12:00+00', 0.50"
        connection.execute(f"INSERT INTO things VALUES (1, '\\xdeadbeef', {rest}), (2, '\\x00', {rest})".encode())
    load(settings, catalog, THINGS, [thing(1, b"\xde\xad\xbe\xef", 1), thing(3, b"\xff", 2)])
    merge_silver(settings, catalog, THINGS)

    found = reconcile_range(settings, catalog, THINGS, EVERYTHING, patience=Patience(2.0, 0.0))
    assert [(each.key[0], each.finding) for each in found.differences] == [
        (("id", "2"), Finding.MISSING),
        (("id", "3"), Finding.UNEXPECTED),
    ]
    assert remove_vanished(settings, catalog, THINGS, 10**9, "ann").removed == 1
    merge_silver(settings, catalog, THINGS)
    found = reconcile_range(settings, catalog, THINGS, EVERYTHING, patience=Patience(2.0, 0.0))
    assert [str(each.key[0][1]) for each in found.differences] == ["2"]
    catalog.close()


def thing(number: int, raw: bytes, at: int) -> dict[str, Any]:
    key = {"id": number, "raw": raw, "mood": "sad", "words": '["a,b","c"]', "price": Decimal("0.50")}
    return change({**key, "at": datetime(2026, 3, 10, 12, tzinfo=UTC)}, "c", at)
