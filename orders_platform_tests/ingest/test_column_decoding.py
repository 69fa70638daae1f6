"""Each value arrives exactly, or is refused with its reason: one line a rule."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from orders_platform.contracts import Column, Masking
from orders_platform.ingest.column_decoding import Encoding, Form, JsonSql, column_sql, define_macros, unavailable_sql
from orders_platform.ingest.unscaled import register

INFINITE = "ValueOutOfRange"
WRONG = "WrongType"
UNCLEAR = "AmbiguousValue"
MICROS = Encoding(Form.MICROSECONDS)


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for scale in (0, 2, 4, 20):
            register(connection, scale)
        define_macros(connection)
        yield connection


def decoded(con: duckdb.DuckDBPyConnection, column: Column, value: Any, encoding: Encoding | None = None) -> Any:
    """The column's value, or the class of the error."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    sql = column_sql(column, JsonSql("j", "t"), encoding)
    found = con.execute(
        f"SELECT v, CASE WHEN v IS NULL THEN {sql.problem} END FROM (SELECT *, {sql.value} AS v FROM "
        f"(SELECT j, plain(j) AS t FROM (SELECT ?::VARCHAR AS j)))",
        [raw.decode()],
    ).fetchone()
    assert found is not None
    return found[1]["error_class"] if found[1] else found[0]


@pytest.mark.parametrize(
    ("source_type", "value", "expected"),
    [
        ("integer", 5, 5),
        ("integer", -(2**31), -(2**31)),
        ("integer", 2**31, INFINITE),
        ("bigint", 2**63 - 1, 2**63 - 1),
        ("bigint", 2**63, INFINITE),
        ("bigint", 10**30, INFINITE),
        ("bigint", 5.7, INFINITE),
        ("bigint", b"1e3", INFINITE),
        ("bigint", "abc", WRONG),
        ("bigint", True, WRONG),
        ("bigint", {"a": 1}, WRONG),
        ("bigint", [1], WRONG),
        ("numeric(12,2)", "12.34", Decimal("12.34")),
        ("numeric(12,2)", "-0.01", Decimal("-0.01")),
        ("numeric(12,2)", "12.340", Decimal("12.34")),
        ("numeric(12,2)", "12.345", INFINITE),
        ("numeric(12,2)", "9999999999.99", Decimal("9999999999.99")),
        ("numeric(12,2)", "10000000000.00", INFINITE),
        ("numeric(12,2)", 12.5, Decimal("12.50")),
        ("numeric(12,2)", 7, Decimal("7.00")),
        ("numeric(38,20)", b"0.12345678901234567", INFINITE),
        ("numeric(12,2)", "NaN", INFINITE),
        ("numeric(12,2)", "Infinity", INFINITE),
        ("numeric(12,2)", "BNI=", Decimal("12.34")),
        ("numeric(12,2)", "/w==", Decimal("-0.01")),
        ("numeric(12,2)", "1234", INFINITE),
        ("numeric(12,2)", "12,50", WRONG),
        ("numeric(20,0)", "1234", Decimal(1234)),
        ("numeric", "123456789012345678901234567890.123", "123456789012345678901234567890.123"),
        ("numeric", "NaN", "NaN"),
        ("numeric", {"scale": 1, "value": "AQ=="}, "0.1"),
        ("numeric", {"scale": 3, "value": "/w=="}, "-0.001"),
        ("numeric", {"scale": 0, "value": "BNI="}, "1234"),
        ("numeric", {"scale": -2, "value": "AQ=="}, "100"),
        ("numeric", {"scale": 2, "value": "no"}, WRONG),
        ("numeric", "NAN", "NaN"),
        ("numeric", "NEGATIVE_INFINITY", "-Infinity"),
        ("numeric(12,2)", "NAN", INFINITE),
        ("interval", "P1Y2M3DT4H5M6.789S", "P1Y2M3DT4H5M6.789S"),
        ("interval", "P0Y-1M5DT-4H0M-0.500S", "P-1M5DT-4H-0.5S"),
        ("interval", "P0Y0M0DT0H-46M-49.622006999S", "PT-46M-49.622007S"),
        ("interval", "P0Y0M0DT0H0M59.999998999S", "PT59.999999S"),
        ("interval", "P0Y0M0DT0H0M0S", UNCLEAR),
        ("interval", "soon", WRONG),
        ("integer[]", [None, None], UNCLEAR),
        ("integer[]", [1, None], "[1, null]"),
        ("integer[]", [], "[]"),
        ("text[]", ["[Ljava.lang.String;@7d4a5004"], WRONG),
        ("double precision", 0.1, 0.1),
        ("double precision", "Infinity", float("inf")),
        ("double precision", b"1e400", INFINITE),
        ("boolean", True, True),
        ("boolean", False, False),
        ("boolean", 1, WRONG),
        ("boolean", "true", WRONG),
        ("text", "", ""),
        ("text", 'quote " backslash \\ newline \n', 'quote " backslash \\ newline \n'),
        ("text", "naïve 🚚 שלום", "naïve 🚚 שלום"),
        ("text", 5, WRONG),
        ("text", {"a": 1}, WRONG),
        ("jsonb", '{"a": 1.10}', '{"a": 1.10}'),
        ("text[]", ["a", "b"], '["a", "b"]'),
        ("bytea", "AP8=", b"\x00\xff"),
        ("bytea", "no base64!", WRONG),
        ("date", 20000, date(2024, 10, 4)),
        ("date", "2024-10-04", date(2024, 10, 4)),
        ("date", "2024-10-04Z", date(2024, 10, 4)),
        ("date", "2024-02-30", INFINITE),
        ("date", 2**31 - 1, INFINITE),
        ("timestamptz", "2024-10-04T10:00:00.123456Z", datetime(2024, 10, 4, 10, 0, 0, 123456, UTC)),
        ("timestamptz", "2024-10-04T10:00:00+02:00", datetime(2024, 10, 4, 8, 0, 0, 0, UTC)),
        ("timestamptz", "2024-10-04T10:00:00", INFINITE),
        ("timestamptz", "2024-10-04T10:00:00.123456789Z", INFINITE),
        ("timestamptz", "2024-10-04T10:00:00.123456000Z", datetime(2024, 10, 4, 10, 0, 0, 123456, UTC)),
        ("timestamptz", "0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("timestamptz", "9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)),
        ("timestamptz", "+292278994-08-16T23:00:00Z", INFINITE),
        ("timestamptz", "-292275055-05-16T23:00:00Z", INFINITE),
        ("timestamptz", "infinity", INFINITE),
        ("timestamptz", "soon", WRONG),
        ("timestamptz", 1728036000123, datetime(2024, 10, 4, 10, 0, 0, 123000, UTC)),
        ("timestamptz", 1728036000123456, datetime(2024, 10, 4, 10, 0, 0, 123456, UTC)),
        ("timestamptz", 86_400_000_000, INFINITE),
        ("timestamp", "2024-10-04T10:00:00Z", datetime(2024, 10, 4, 10)),
        ("timestamp", "2024-10-04T10:00:00", datetime(2024, 10, 4, 10)),
        ("timestamp", "2024-10-04T10:00:00+02:00", INFINITE),
        ("time", "10:00:00", "10:00:00"),
        ("time", "10:00:00.120Z", "10:00:00.12"),
        ("time", "00:00:00Z", UNCLEAR),
        ("time", 36_000_000_000, WRONG),
    ],
)
def test_a_value_is_exact_or_refused(
    con: duckdb.DuckDBPyConnection, source_type: str, value: Any, expected: Any
) -> None:
    assert decoded(con, Column("c", source_type), value) == expected


@pytest.mark.parametrize(
    ("source_type", "encoding", "value", "expected"),
    [
        ("numeric(12,2)", Encoding(Form.UNSCALED, 2), "1234", Decimal("-26588.24")),
        ("numeric(12,4)", Encoding(Form.UNSCALED, 2), "BNI=", Decimal("12.3400")),
        ("numeric(12,2)", Encoding(Form.UNSCALED, 4), "BNI=", WRONG),
        ("numeric(12,2)", Encoding(Form.PLAIN), "1234", Decimal("1234.00")),
        ("timestamp", MICROS, 86_400_000_000, datetime(1970, 1, 2)),
        ("timestamp", Encoding(Form.MILLISECONDS), 86_400_000, datetime(1970, 1, 2)),
        ("timestamp", Encoding(Form.NANOSECONDS), 86_400_000_001_000, datetime(1970, 1, 2, 0, 0, 0, 1)),
        ("timestamp", Encoding(Form.NANOSECONDS), 86_400_000_000_001, INFINITE),
        ("timestamp", MICROS, 2**63 - 1, INFINITE),
    ],
)  # fmt: skip
def test_the_schema_decides_where_a_form_means_two_things(
    con: duckdb.DuckDBPyConnection, source_type: str, encoding: Encoding, value: Any, expected: Any
) -> None:
    assert decoded(con, Column("c", source_type), value, encoding) == expected


@pytest.mark.parametrize(
    ("source_type", "value", "expected"),
    [
        ("date", "2024-10-04Z", "2024-10-04"),
        ("date", "-4712-01-01Z", "4713-01-01 BC"),
        ("date", "+5877611-06-21Z", "infinity"),
        ("timestamp", "0001-01-01T00:00:00Z", "0001-01-01 00:00:00"),
        ("timestamp", "-292275055-05-16T23:00:00Z", "-infinity"),
        ("timestamptz", "+294276-12-31T23:59:59.999990Z", "294276-12-31 23:59:59.99999+00"),
        ("timestamptz", "infinity", "infinity"),
        ("timestamptz", "soon", WRONG),
        ("numeric(12,2)", "NAN", "NaN"),
        ("interval", "P0Y0M0DT0H0M0S", "PT0S"),
        ("time", "00:00:00Z", "00:00:00"),
    ],
)
def test_a_column_may_keep_postgresqls_text_of_what_has_no_place_in_its_type(
    con: duckdb.DuckDBPyConnection, source_type: str, value: Any, expected: Any
) -> None:
    assert decoded(con, Column("c", source_type, as_text=True, unambiguous=True), value) == expected


def test_reasons_say_the_value_but_never_personal_data(con: duckdb.DuckDBPyConnection) -> None:
    for masking, shown in ((None, True), (Masking.HMAC, False)):
        sql = column_sql(Column("phone", "text", masking=masking), JsonSql("'5551234'", "'5551234'"))
        message = con.execute(f"SELECT ({sql.problem}).message").fetchall()[0][0]
        assert message.startswith("column phone text cannot be a number")
        assert ("5551234" in message) is shown


@pytest.mark.parametrize(
    ("source_type", "json_text", "expected"),
    [
        ("text", '"__debezium_unavailable_value"', True),
        ("text", '"something else"', False),
        ("text[]", '["__debezium_unavailable_value"]', True),
        ("bytea", '"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="', True),
        ("numeric(12,2)", '"__debezium_unavailable_value"', True),
    ],
)
def test_the_placeholder_is_recognised(
    con: duckdb.DuckDBPyConnection, source_type: str, json_text: str, expected: bool
) -> None:
    sql = unavailable_sql(Column("c", source_type), "j")
    assert con.execute(f"SELECT {sql} FROM (SELECT ? AS j)", [json_text]).fetchall() == [(expected,)]


def test_types_that_are_never_out_of_line_have_no_placeholder() -> None:
    assert unavailable_sql(Column("c", "bigint"), "j") is None
