"""A range of keys is the same rows in PostgreSQL and in the lake, whatever the key is made of."""

from __future__ import annotations

import time

import duckdb
import psycopg
import pytest
from psycopg import sql

from orders_platform.contracts import Column, Contract
from orders_platform.lake.schemas import duckdb_type, quoted
from orders_platform.quality.key_range import EVERYTHING, KeyRange, has_one_order
from orders_platform.quality.shop_snapshot import ShopSide, key_after, row_estimate, shop_snapshot

TEXTS = [
    "",
    " ",
    "a",
    "B",
    "b",
    "A",
    "Z",
    "ä",
    "z",
    "ß",
    "O'Brien",
    "10",
    "9",
    "-",
    "_",
    "漢",
    "🦆",
    "ab",
    "a b",
    "\\N",
]
UUIDS = [f"{n:x}{'0' * 7}-0000-4000-8000-{n * 7919:012x}" for n in range(16)]
KEYS: dict[str, tuple[tuple[str, ...], list[tuple[object, ...]]]] = {
    "bigint": (("bigint",), [(n,) for n in (-(2**63), -5, 0, 3, 20, 100, 2**63 - 1)]),
    "text": (("text",), [(text,) for text in TEXTS]),
    "varchar": (("varchar(20)",), [(text,) for text in TEXTS]),
    "uuid": (("uuid",), [(text,) for text in UUIDS]),
    "decimal": (("numeric(12,2)",), [(value,) for value in ("-3.50", "-3.49", "0.00", "2.10", "10.00", "9.99")]),
    "date": (("date",), [(f"{year}-02-28",) for year in ("0001", "1969", "2026", "9999")]),
    "timestamptz": (("timestamptz",), [(f"2026-03-29 0{h}:30:00.00000{h}+00",) for h in range(6)]),
    "two integers": (("integer", "bigint"), [(a, b) for a in (-1, 0, 7) for b in (-9, 2, 11)]),
    "text and number": (("text", "smallint"), [(text, n) for text in TEXTS[:8] for n in (-1, 5)]),
    "three columns": (("uuid", "date", "text"), [(u, f"2026-01-{d}", t) for u in UUIDS for d in (7, 8) for t in "ab"]),
}  # fmt: skip


def table(*types: str) -> Contract:
    columns = tuple(Column(f"Key {n}", kind, required=True) for n, kind in enumerate(types))
    return Contract("Things", "public", (*columns, Column("value", "text")), tuple(c.name for c in columns), "1", "x")


def fill(dsn: str, contract: Contract, keys: list[tuple[object, ...]]) -> None:
    columns = [f"{quoted(c.name)} {c.source_type} NOT NULL" for c in contract.key_columns]
    names = ", ".join(map(quoted, contract.key))
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(
            f'CREATE TABLE "Things" ({", ".join(columns)}, value text, PRIMARY KEY ({names}))'
            " WITH (autovacuum_enabled = false)"  # a test says when it is analyzed
        )
        places = ", ".join(f"%s::{c.source_type}" for c in contract.key_columns)
        cursor.executemany(f'INSERT INTO "Things" VALUES ({places}, NULL)', keys)


@pytest.mark.parametrize("name", KEYS)
def test_slices_follow_one_another_and_hold_the_same_keys_on_both_sides(shop_dsn: str, name: str) -> None:
    types, keys = KEYS[name]
    contract = table(*types)
    fill(shop_dsn, contract, keys)
    assert has_one_order(contract)
    columns = ", ".join(f"{quoted(c.name)} {duckdb_type(c.type)}" for c in contract.key_columns)
    with shop_snapshot(shop_dsn) as snapshot, duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute(f"CREATE TABLE things ({columns})")
        texts = ", ".join(f"{quoted(c)}::text" for c in contract.key)
        rows = snapshot.connection.execute(f'SELECT {texts} FROM "Things"').fetchall()
        con.executemany(f"INSERT INTO things VALUES ({', '.join('?' * len(types))})", rows)
        seen, first, slices = 0, None, 0
        while True:
            until = key_after(snapshot, contract, first, 3)
            within = KeyRange(first, until)
            assert KeyRange.from_json(within.to_json()) == within
            query = sql.SQL('SELECT count(*) FROM "Things" WHERE {}').format(within.postgres(contract))
            there = snapshot.connection.execute(query).fetchone()
            assert there == con.execute(f"SELECT count(*) FROM things WHERE {within.duckdb(contract)}").fetchone()
            assert there is not None
            assert there[0] == 3 or until is None
            seen, slices = seen + there[0], slices + 1
            if until is None:
                break
            first = until
    assert seen == len(keys)
    assert slices > 1


WIDER = {
    "integer": ("integer", "bigint", [(n,) for n in (5, 2**31 - 1, 3_000_000_000, 3_000_000_001, 2**40)]),
    "varchar": ("varchar(3)", "text", [(text,) for text in ("abc", "abcd", "abce", "abd", "zzzz", "zzzzz")]),
    "decimal": ("numeric(4,1)", "numeric(12,3)", [(n,) for n in ("1.204", "1.205", "123456.000", "999999.999")]),
}  # fmt: skip


@pytest.mark.parametrize("name", WIDER)
def test_keys_that_are_wider_than_the_contract_says_are_cut_as_they_are(shop_dsn: str, name: str) -> None:
    """A key that the shop has widened is no error, and moves no row to another slice."""
    declared, actual, keys = WIDER[name]
    fill(shop_dsn, table(actual), keys)
    contract = table(declared)
    with shop_snapshot(shop_dsn) as snapshot, duckdb.connect() as con:
        con.execute(f'CREATE TABLE things ("Key 0" {duckdb_type(table(actual).columns[0].type)})')
        con.executemany("INSERT INTO things VALUES (?)", keys)
        first, seen = None, []
        while True:
            until = key_after(snapshot, contract, first, 1)
            within = KeyRange(first, until)
            query = sql.SQL('SELECT "Key 0"::text FROM "Things" WHERE {}').format(within.postgres(contract))
            there = snapshot.connection.execute(query).fetchall()
            assert there == con.execute(f'SELECT "Key 0"::text FROM things WHERE {within.duckdb(contract)}').fetchall()
            seen += there
            if until is None:
                break
            first = until
    assert sorted(seen) == sorted((str(key),) for (key,) in keys)


@pytest.mark.parametrize("name", WIDER)
def test_a_bound_that_silver_cannot_hold_yet_is_no_error(name: str) -> None:
    declared, _, keys = WIDER[name]
    contract = table(declared)
    bound = (str(keys[-1][0]),)
    with duckdb.connect() as con:
        con.execute(f'CREATE TABLE things ("Key 0" {duckdb_type(contract.columns[0].type)})')
        con.execute("INSERT INTO things VALUES (?)", list(keys[0]))
        found = [
            con.execute(f"SELECT count(*) FROM things WHERE {within.duckdb(contract)}").fetchone()
            for within in (KeyRange(None, bound), KeyRange(bound, None))
        ]
    assert found == [(1,), (0,)]


@pytest.mark.parametrize("kind", ["numeric", "interval", "double precision", "char(3)", "jsonb", "bytea", "time"])
def test_keys_that_both_sides_might_sort_in_different_ways_are_not_cut(kind: str) -> None:
    assert not has_one_order(table("bigint", kind))


def test_the_estimate_of_rows_costs_postgresql_no_scan(shop_dsn: str) -> None:
    contract = table("bigint")
    fill(shop_dsn, contract, [(n,) for n in range(500)])
    with shop_snapshot(shop_dsn) as snapshot:
        assert row_estimate(snapshot, contract) == 0, "never analyzed"
    with psycopg.connect(shop_dsn, autocommit=True) as connection:
        connection.execute('ANALYZE "Things"')
    with shop_snapshot(shop_dsn) as snapshot:
        assert row_estimate(snapshot, contract) == 500


@pytest.mark.parametrize("types", [("bigint",), ("integer", "bigint")], ids=["one column", "two columns"])
def test_a_slice_is_read_through_the_keys_index(shop_dsn: str, types: tuple[str, ...]) -> None:
    contract = table(*types)
    fill(shop_dsn, contract, [])
    key = ", ".join(("i / 100", "i")[-len(types) :])
    with psycopg.connect(shop_dsn, autocommit=True) as connection:
        connection.execute(
            f'INSERT INTO "Things" SELECT {key}, repeat(i::text, 20) FROM generate_series(1, 50000) AS g(i)'
        )
        connection.execute('VACUUM (ANALYZE) "Things"')
        with shop_snapshot(shop_dsn) as snapshot, duckdb.connect() as con:
            first = key_after(snapshot, contract, None, 20_000)
            within = KeyRange(first, key_after(snapshot, contract, first, 2_500))
            ShopSide(shop_dsn, contract, b"", held=snapshot, within=within).load(con, "slice", "*")
            assert con.execute("SELECT count(*) FROM slice").fetchone() == (2500,)
            query = sql.SQL('EXPLAIN SELECT * FROM "Things" WHERE {}').format(within.postgres(contract))
            plan = "\n".join(row[0] for row in snapshot.connection.execute(query).fetchall())
            workers = snapshot.connection.execute("SHOW max_parallel_workers_per_gather").fetchone()
        assert "Index" in plan
        assert "Seq Scan" not in plan
        assert workers == ("0",), "one core of the shop's server, at most"
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            scans = connection.execute("SELECT seq_scan, idx_scan FROM pg_stat_user_tables").fetchone()
            if scans and scans[1] >= 3:
                break
            time.sleep(0.2)
        assert scans is not None
        assert scans[1] >= 3, "two borders and a slice, each by the index"


def test_a_range_says_in_words_what_it_holds() -> None:
    assert [
        str(each) for each in (EVERYTHING, KeyRange(("5",)), KeyRange(None, ("a", "7")), KeyRange(("5",), ("9",)))
    ] == [
        "all keys",
        "keys from 5 on",
        "keys below (a, 7)",
        "keys from 5 on below 9",
    ]
