"""SQL that turns one JSON value of an event into one column, exactly or not at all.

Each column has two expressions over the JSON of its value (NULL where absent or null): its value, which is NULL when it
cannot be represented exactly, and the reason why not. Debezium's encodings are told apart by the schema in the
envelope, when there is one (`Encoding`), else by their form; a form that means two things is refused, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import duckdb

from orders_platform.contracts import Column
from orders_platform.ingest.placeholder import placeholders
from orders_platform.ingest.text_forms import TEXT_MACROS, ambiguous_sql, text_sql

DECIMAL = re.compile(r"decimal\((\d+), (\d+)\)")
REAL_DIGITS = 9
MICROS_FIRST, MICROS_LAST = -62_135_596_800_000_000, 253_402_300_799_999_999
"""Years 1 to 9999: what every reader of the tables can represent."""


class Form(StrEnum):
    """How the schema of an envelope says that a column is encoded."""

    UNSCALED = "unscaled"
    DAYS = "days"
    MILLISECONDS = "milliseconds"
    MICROSECONDS = "microseconds"
    NANOSECONDS = "nanoseconds"
    PLAIN = "plain"


@dataclass(frozen=True)
class Encoding:
    """A column's form; `scale` is that of base64 unscaled decimals."""

    form: Form
    scale: int = 0


@dataclass(frozen=True)
class JsonSql:
    """Expressions of type VARCHAR for one JSON value: as it is written, and what it says (`plain`)."""

    json: str
    text: str


@dataclass(frozen=True)
class ColumnSql:
    """The column's value, NULL when there is none, and the reason `{'error_class', 'message'}` for the latter."""

    value: str
    problem: str


def define_macros(con: duckdb.DuckDBPyConnection) -> None:
    """Defines what `column_sql` uses; temporary, so it may be called on any connection."""
    for macro in (
        "is_text(j) AS starts_with(j, '\"')",
        # What a JSON value says: only a string with an escape needs the parser again.
        "plain(j) AS CASE WHEN NOT starts_with(j, '\"') THEN j "
        "WHEN contains(j, chr(92)) THEN j::JSON->>'$' ELSE substr(j, 2, length(j) - 2) END",
        # Doubles print with at most 17 digits: up to 15 they are the number that was written.
        "exact_number(j) AS starts_with(j, '\"') OR length(j) <= 16 OR regexp_full_match(j, '-?[0-9]+')",
        # Nine digits tell every real from its neighbours; more are written only of a double precision.
        "is_real(t) AS length(t) <= 9 OR TRY_CAST(t AS DOUBLE) = TRY_CAST(TRY_CAST(t AS FLOAT)::VARCHAR AS DOUBLE) "
        f"OR length(regexp_extract(replace(t, '.', ''), '^-?0*([0-9]*?)0*([eE].*)?$', 1)) <= {REAL_DIGITS} "
        "OR NOT isfinite(TRY_CAST(t AS DOUBLE))",
        f"from_micros(m) AS CASE WHEN m BETWEEN {MICROS_FIRST} AND {MICROS_LAST} THEN m END",
        "too_fine(t) AS length(t) > 26 AND regexp_matches(t, '[.][0-9]{6}[0-9]*[1-9]')",
        "has_zone(t) AS ends_with(t, 'Z') OR regexp_matches(t, '[T ].*[+-][0-9]{2}(:?[0-9]{2})?$')",
        # Without a schema: 1973 to 2201 in milliseconds, from 1973 on in microseconds; what lies between says neither.
        "guessed_micros(n) AS CASE WHEN abs(n) >= 100000000000000 THEN n "
        "WHEN abs(n) BETWEEN 100000000000 AND 7300000000000 THEN n * 1000 WHEN n = 0 THEN 0 END",
        *TEXT_MACROS,
    ):
        con.execute(f"CREATE OR REPLACE TEMP MACRO {macro}")


def decimal_type(column: Column) -> tuple[int, int] | None:
    """Precision and scale of a decimal column."""
    match = DECIMAL.fullmatch(column.type)
    return (int(match[1]), int(match[2])) if match else None


def column_sql(column: Column, value: JsonSql, encoding: Encoding | None = None) -> ColumnSql:
    """The expressions of a column over its JSON."""
    if decimal := decimal_type(column):
        return ColumnSql(_decimal(value, *decimal, encoding), _problem(column, value))
    return ColumnSql(_BY_TYPE[column.type](value, encoding, column), _problem(column, value))


def unavailable_sql(column: Column, json: str) -> str | None:
    """Whether the value is Debezium's placeholder; None for types that are never stored out of line."""
    forms = placeholders(column)
    return f"coalesce({json} IN ({', '.join(quoted(form) for form in forms)}), false)" if forms else None


def quoted(text: str) -> str:
    """An SQL literal."""
    return "'" + text.replace("'", "''") + "'"


Expression = Callable[["JsonSql", "Encoding | None", Column], str]


def _integer(sql_type: str) -> Expression:
    def expression(value: JsonSql, _encoding: Encoding | None, _column: Column) -> str:
        # The cast rounds 5.7 and takes 1e3: only what reads back the same is that number.
        cast = f"TRY_CAST({value.text} AS {sql_type})"
        return f"CASE WHEN {cast}::VARCHAR = {value.text} THEN {cast} END"

    return expression


def _floating(sql_type: str) -> Expression:
    def expression(value: JsonSql, _encoding: Encoding | None, _column: Column) -> str:
        # Adding zero makes zero of minus zero: they are equal, and a Parquet file's dictionary has only one of them.
        cast = f"TRY_CAST({value.text} AS {sql_type}) + 0::{sql_type}"
        return f"CASE WHEN isfinite({cast}) OR {value.text} IN ('NaN', 'Infinity', '-Infinity') THEN {cast} END"

    return expression


def _real(value: JsonSql, encoding: Encoding | None, column: Column) -> str:
    # What has more digits than a real ever has is a double precision, of which the cast would leave less.
    return f"CASE WHEN is_real({value.text}) THEN {_floating('FLOAT')(value, encoding, column)} END"


def _boolean(value: JsonSql, _encoding: Encoding | None, _column: Column) -> str:
    return f"CASE {value.json} WHEN 'true' THEN true WHEN 'false' THEN false END"


def _string(value: JsonSql, _encoding: Encoding | None, column: Column) -> str:
    return text_sql(column, value.json, value.text)


def _binary(value: JsonSql, _encoding: Encoding | None, _column: Column) -> str:
    return f"CASE WHEN is_text({value.json}) THEN TRY(from_base64({value.text})) END"


def _decimal(value: JsonSql, precision: int, scale: int, encoding: Encoding | None) -> str:
    text, cast = value.text, f"TRY_CAST({value.text} AS DECIMAL({precision}, {scale}))"
    texts = f"is_text({value.json})"

    def unscaled(digits: int) -> str:
        from_bytes = f"unscaled_decimal_{digits}(TRY(from_base64({text})))"
        return f"TRY_CAST({from_bytes} AS DECIMAL({precision}, {scale}))" if digits <= scale else "NULL"

    if encoding and encoding.form is Form.UNSCALED:
        return f"CASE WHEN {texts} THEN {unscaled(encoding.scale)} END"
    arms = [f"WHEN NOT (exact_number({value.json})) THEN NULL"]
    if encoding is None and scale > 0:
        # Digits alone may be base64 as well as a number: with a scale, the connector's text always has a point.
        arms.append(f"WHEN {texts} AND length({text}) % 4 = 0 AND regexp_full_match({text}, '[0-9]+') THEN NULL")
    # The cast rounds what has more digits than the column: equal text first, being quick, then by form.
    arms += [
        f"WHEN {cast}::VARCHAR = {text} THEN {cast}",
        f"WHEN regexp_full_match({text}, '[+-]?[0-9]+([.][0-9]{{0,{scale}}}0*)?') THEN {cast}",
    ]
    if encoding is None:
        arms.append(f"WHEN {texts} AND regexp_full_match({text}, '{_BASE64}') THEN {unscaled(scale)}")
    return f"CASE {' '.join(arms)} END"


_BASE64 = "([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})"
_TO_MICROS = {
    Form.MICROSECONDS: "{n}",
    Form.MILLISECONDS: "{n} * 1000",
    Form.NANOSECONDS: "CASE WHEN {n} % 1000 = 0 THEN {n} // 1000 END",
}


def _micros(value: JsonSql, encoding: Encoding | None) -> str:
    cast = f"TRY_CAST({value.json} AS BIGINT)"
    number = f"(CASE WHEN {cast}::VARCHAR = {value.json} THEN {cast} END)"
    if encoding and encoding.form in _TO_MICROS:
        return f"from_micros(TRY({_TO_MICROS[encoding.form].format(n=number)}))"
    return f"from_micros(guessed_micros({number}))"


def _timestamptz(value: JsonSql, encoding: Encoding | None, _column: Column) -> str:
    cast = f"TRY_CAST({value.text} AS TIMESTAMPTZ)"
    return (
        f"CASE WHEN NOT is_text({value.json}) THEN make_timestamptz({_micros(value, encoding)}) "
        f"WHEN NOT (has_zone({value.text})) OR (too_fine({value.text})) THEN NULL "
        f"WHEN {cast} BETWEEN TIMESTAMPTZ '0001-01-01 00:00:00+00' AND TIMESTAMPTZ '9999-12-31 23:59:59.999999+00' "
        f"THEN {cast} END"
    )


def _timestamp(value: JsonSql, encoding: Encoding | None, _column: Column) -> str:
    cast = f"TRY_CAST({value.text} AS TIMESTAMP)"
    # DuckDB drops an offset such as +02:00 from a timestamp without a word.
    offset = f"(has_zone({value.text})) AND NOT ends_with({value.text}, 'Z')"
    return (
        f"CASE WHEN NOT is_text({value.json}) THEN make_timestamp({_micros(value, encoding)}) "
        f"WHEN ({offset}) OR (too_fine({value.text})) THEN NULL "
        f"WHEN {cast} BETWEEN TIMESTAMP '0001-01-01 00:00:00' AND TIMESTAMP '9999-12-31 23:59:59.999999' "
        f"THEN {cast} END"
    )


def _date(value: JsonSql, _encoding: Encoding | None, _column: Column) -> str:
    days = f"TRY_CAST({value.json} AS INTEGER)"
    return (
        f"CASE WHEN NOT is_text({value.json}) THEN "
        f"CASE WHEN {days}::VARCHAR = {value.json} AND {days} BETWEEN -719162 AND 2932896 "
        f"THEN (DATE '1970-01-01' + {days})::DATE END "
        f"WHEN regexp_full_match({value.text}, '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}Z?') "
        f"THEN TRY_CAST(left({value.text}, 10) AS DATE) END"
    )


_BY_TYPE: dict[str, Expression] = {
    "int": _integer("INTEGER"),
    "long": _integer("BIGINT"),
    "float": _real,
    "double": _floating("DOUBLE"),
    "boolean": _boolean,
    "string": _string,
    "binary": _binary,
    "date": _date,
    "timestamp": _timestamp,
    "timestamptz": _timestamptz,
}


def _problem(column: Column, value: JsonSql) -> str:
    """Why a value that is there could not be taken. The value itself is left out where it is personal data."""
    shown = "''" if column.masking else f"': ' || left({value.text}, 100)"
    name = f"column {column.name} {column.source_type}"
    looks_right = "false"
    if column.type in ("int", "long", "float", "double") or column.type.startswith("decimal"):
        number = "[+-]?[0-9]+([.][0-9]*)?([eE][+-]?[0-9]+)?"
        looks_right = f"regexp_full_match({value.text}, '{number}|[+-]?(NaN|Infinity)|NAN|[A-Z]+_INFINITY')"
    elif column.type.startswith(("date", "timestamp")):
        looks_right = f"regexp_matches({value.text}, '^[+-]?[0-9]{{4,}}-|^-?[0-9]+$|infinity')"
    unclear = ""
    if ambiguous := ambiguous_sql(column, value.json, value.text):
        remedy = (
            f"{name} may be something else: {ambiguous[1]}; if the shop cannot hold that (a CHECK), say so in the "
            f"contract: unambiguous"
        )
        unclear = f"WHEN {ambiguous[0]} THEN {{'error_class': 'AmbiguousValue', 'message': {quoted(remedy)}}} "
    return (
        f"CASE {unclear}WHEN {looks_right} THEN {{'error_class': 'ValueOutOfRange', "
        f"'message': {quoted(name + ' cannot hold this value exactly')} || {shown}}} "
        f"ELSE {{'error_class': 'WrongType', "
        f"'message': {quoted(name + ' cannot be')} || {_json_kind(value.json)} || {shown}}} END"
    )


def _json_kind(json: str) -> str:
    return (
        f"CASE left({json}, 1) WHEN '\"' THEN ' this text' WHEN '{{' THEN ' an object' WHEN '[' THEN ' an array' "
        f"WHEN 't' THEN ' a boolean' WHEN 'f' THEN ' a boolean' ELSE ' a number' END"
    )
