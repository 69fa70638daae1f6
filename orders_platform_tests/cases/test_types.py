"""Every type arrives exactly, or is refused by name: through PostgreSQL, Debezium, Kafka, bronze and silver."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

import pytest

from orders_platform.ingest.dead_letters import list_dead_letters
from orders_platform.settings import Settings
from orders_platform.stack.connector import request_snapshot
from orders_platform.stack.debezium import table_pattern
from orders_platform_tests.cases.captured import Capture, capturing, write_contract
from orders_platform_tests.cases.generated_rows import AGAIN, COLUMNS, CONTRACT, DDL, KEY, generated_rows, insert_sql

ROWS = 150
REPEAT = AGAIN.format(file="orders_platform_tests/cases/test_types.py")

REFUSED = [
    # PostgreSQL's type, value, class of the error, what the message says
    ("numeric(12,2)", "NaN", "ValueOutOfRange", "cannot hold this value exactly: NAN"),
    ("date", "infinity", "ValueOutOfRange", "cannot hold"),
    ("date", "4713-01-01 BC", "ValueOutOfRange", "cannot hold"),
    ("timestamp", "-infinity", "ValueOutOfRange", "cannot hold"),
    ("timestamptz", "infinity", "ValueOutOfRange", "cannot hold"),
    ("timestamptz", "294276-12-31 23:59:59+00", "ValueOutOfRange", "cannot hold"),
    ("time", "24:00:00", "AmbiguousValue", "24:00:00 arrives as 00:00:00"),
    ("interval", "infinity", "AmbiguousValue", "infinity (PostgreSQL 17) arrives as zero"),
    ("integer[]", "{{1,2},{3,4}}", "AmbiguousValue", "an array of several dimensions arrives as nulls"),
    ("text[]", "{{a,b},{c,d}}", "WrongType", "column value text[] cannot be an array"),
]


@pytest.fixture(scope="module")
def capture(live_stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Capture]:
    """Generated rows, half of them there before the connector; and values that no table can hold, one a table's row."""
    folder, home = tmp_path_factory.mktemp("contracts"), tmp_path_factory.mktemp("types")
    rows = dict(enumerate(generated_rows(ROWS)))
    write_contract(folder, "samples", "public.samples", CONTRACT, KEY)
    ddl = DDL + insert_sql({key: row for key, row in rows.items() if key % 2})
    for number, (kind, *_) in enumerate(REFUSED):
        write_contract(folder, f"refused_{number}", f"refused_{number}", {"key": "int", "value": kind}, ["key"])
        ddl += f"CREATE TABLE refused_{number} (key int PRIMARY KEY, value {kind});"
    with capturing(live_stack, home, "types", ddl, folder) as capture:
        with capture.shop() as shop:
            shop.execute(insert_sql({key: row for key, row in rows.items() if not key % 2}).encode())
            shop.execute(b"UPDATE samples SET small = 7, day_text = '0044-03-15 BC' WHERE key % 5 = 0")
            for number, (_, value, *_) in enumerate(REFUSED):
                shop.execute(f"INSERT INTO refused_{number} VALUES (1, '{value}'), (2, NULL)".encode())
        capture.wait()
        capture.load()
        yield capture


def test_generated_rows_of_all_types_are_in_silver_as_postgresql_holds_them(capture: Capture) -> None:
    dead = list_dead_letters(capture.settings, capture.catalog, capture.contracts["samples"])
    assert [(letter.error_class, letter.message) for letter in dead] == [], REPEAT
    found = capture.compare("samples")
    assert found.equal, f"{found}\n{REPEAT}"
    assert found.rows == ROWS


def test_the_values_are_equal_also_where_nothing_of_ours_compares_them(capture: Capture) -> None:
    """Read by PostgreSQL's driver, and compared as Python's values."""
    typed = [name for name in ("key", *COLUMNS) if capture.contracts["samples"].column(name).type != "string"]
    columns = ", ".join(f'"{name}"' for name in typed)
    with capture.shop() as shop:
        # The driver reads a real's text as a double.
        exact = columns.replace('"single"', '"single"::float8')
        expected = shop.execute(f"SELECT {exact} FROM samples ORDER BY key".encode()).fetchall()
    found = [tuple(row[name] for name in typed) for row in capture.silver("samples", columns)]
    assert [_comparable(row) for row in found] == [_comparable(row) for row in expected], REPEAT


def _comparable(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """NaN is equal to itself."""
    return tuple(repr(value + 0.0) if isinstance(value, float) else value for value in row)


def test_the_ends_of_time_and_of_numbers_are_kept(capture: Capture) -> None:
    """What the generator promises to try, so that the property is not empty."""
    rows = capture.silver("samples")
    assert {name for row in rows for name in COLUMNS if row[name] is None} == {*COLUMNS} - {*KEY}
    assert {date(1, 1, 1), date(9999, 12, 31)} <= {row["day"] for row in rows}
    assert {"infinity", "0044-03-15 BC"} <= {row["day_text"] for row in rows}
    assert {"NaN", "Infinity", "-Infinity"} <= {row["exact"] for row in rows}
    assert datetime(9999, 12, 31, 23, 59, 59, 999999) in {row["local"] for row in rows}
    assert 8 in {row["generated"] for row in rows}


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[f"{kind} {value}" for kind, value, *_ in REFUSED])
def test_case_26_a_value_without_a_place_is_a_dead_letter_with_its_reason(capture: Capture, number: int) -> None:
    """Never changed in silence: the row is not in silver, and its record is kept."""
    table = f"refused_{number}"
    _, _, error_class, message = REFUSED[number]
    (letter,) = list_dead_letters(capture.settings, capture.catalog, capture.contracts[table])
    assert letter.error_class == error_class
    assert message in letter.message
    assert letter.value is not None
    assert b'"key":1' in letter.value
    assert [row["key"] for row in capture.silver(table)] == [2]


FOREIGN = {
    "decimal.handling.mode": "precise",
    "time.precision.mode": "adaptive_time_microseconds",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter.schemas.enable": "true",
}


def test_case_25_what_other_connectors_are_set_to_write_is_read_as_well(
    live_stack: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Decimals as base64 and of variable scale, days and microseconds as numbers, each event with its schema."""
    columns = {"key": "int", "fixed": "numeric(12,2)", "free": "numeric", "day": "date", "moment": "timestamp"}
    folder = tmp_path_factory.mktemp("contracts")
    write_contract(folder, "prices", "prices", columns, ["key"])
    ddl = f"CREATE TABLE prices ({', '.join(f'{n} {t}' for n, t in columns.items())}, PRIMARY KEY (key));"
    ddl += "INSERT INTO prices VALUES (0, 0.10, 0.1, '0001-01-01', '0001-01-01 00:00:00.000001')"
    with capturing(live_stack, tmp_path_factory.mktemp("other"), "other", ddl, folder, **FOREIGN) as capture:
        with capture.shop() as shop:
            shop.execute(
                b"INSERT INTO prices VALUES (1, -12345.67, -1234567890123456789.012345, '9999-12-31', '9999-12-31'),"
                b" (2, 9999999999.99, 5, '1969-12-31', '1970-01-01 00:00:01'), (3, NULL, NULL, NULL, NULL)"
            )
        capture.wait()
        capture.load()
        found = capture.compare("prices")
        assert found.equal, found
        assert found.rows == 4


ANCIENT = ("4713-01-01 BC", "0044-03-15 BC", "1582-10-05", "1582-10-14")
"""Dates that Debezium's snapshots alter: they pass through Java's old calendar, which has no such days or no sign."""
EXACT = ("0001-01-01", "0004-02-29", "1500-02-28", "1500-03-01", "1582-10-04", "1582-10-15", "9999-12-31")


def test_case_26_the_dates_that_a_snapshot_alters_are_named_and_travel_as_changes(
    live_stack: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """README tells which these are, and the update. Should a Debezium read them rightly, the first look here fails."""
    folder = tmp_path_factory.mktemp("contracts")
    columns = {name: {"physicalType": name, "logicalType": "string"} for name in ("date", "timestamp", "timestamptz")}
    write_contract(folder, "days", "days", {"key": "int", **columns}, ["key"])
    values = [f"({key}, '{day}', '{day}', '{day}')" for key, day in enumerate((*ANCIENT, *EXACT))]
    ddl = f"SET TIME ZONE 'UTC'; CREATE TABLE days (key int PRIMARY KEY, {', '.join(f'{n} {n}' for n in columns)});"
    ddl += f"INSERT INTO days VALUES {', '.join(values)}"
    with capturing(live_stack, tmp_path_factory.mktemp("ancient"), "ancient", ddl, folder) as capture:
        capture.wait()
        capture.load()
        assert altered(capture) == {key: {"date"} for key in range(len(ANCIENT))}, "no timestamp and no other date is"
        with capture.shop() as shop:
            dates = "date < '0001-01-01' OR date BETWEEN '1582-10-05' AND '1582-10-14'"
            assert shop.execute(f"UPDATE days SET date = date WHERE {dates}".encode()).rowcount == len(ANCIENT)
        capture.wait()
        capture.load()
        assert altered(capture) == {}
        read_again(capture, "days", len(values))
        assert set(altered(capture)) == set(range(len(ANCIENT))), "each snapshot alters them anew"


def altered(capture: Capture) -> dict[int, set[str]]:
    """Columns of `days` in which silver is not as PostgreSQL, by key."""
    found = capture.compare("days").differences
    return {int(each.key[0][1] or 0): {value.column for value in each.values} for each in found}


def read_again(capture: Capture, table: str, rows: int) -> None:
    """Has Debezium read a table anew, and loads what it sends."""
    before = len(capture.bronze(table))
    request_snapshot(capture.settings.postgres, [table_pattern(capture.contracts[table])])
    deadline = time.monotonic() + 60
    while len(capture.bronze(table)) < before + rows:
        assert time.monotonic() < deadline, f"the snapshot of {table} has not arrived"
        time.sleep(0.2)
        capture.load(table)


def test_one_value_that_silver_does_not_have_is_found(capture: Capture) -> None:
    """The comparison can fail: a change that nobody has loaded is named, and gone once it is loaded."""
    with capture.shop() as shop:
        shop.execute(b"UPDATE samples SET long = 'altered' WHERE key = 3")
    found = capture.compare("samples")
    assert {difference.key[0] for difference in found.differences} == {("key", "3")}, REPEAT
    capture.wait()
    capture.load("samples")
    assert capture.compare("samples").equal
