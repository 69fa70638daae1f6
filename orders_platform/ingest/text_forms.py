"""SQL that turns what Debezium writes of a type without a place in the tables into PostgreSQL's own text of it.

Texts are those of a session with `TimeZone=UTC`, `DateStyle=ISO`, `IntervalStyle=iso_8601`; arrays are JSON, as
`array_to_json` writes them. What Debezium's text does not tell apart is refused, unless the contract says that it
cannot be (`unambiguous`). Measured on Debezium 3.7 with `time.precision.mode=isostring`.
"""

from __future__ import annotations

import re

from orders_platform.contracts import Column

_JAVA_OBJECT = r'"\[L[A-Za-z.]+;@[0-9a-f]+"'
"""What Debezium writes for an array within an array of text."""
AMBIGUOUS = {
    "time": ("24:00:00 arrives as 00:00:00", "{text} IN ('00:00:00Z', '00:00:00')"),
    "interval": (
        "infinity (PostgreSQL 17) arrives as zero",
        r"regexp_full_match({text}, 'P(0Y)?(0M)?(0D)?T(0H)?(0M)?0(\.0+)?S')",
    ),
    "array": (
        "an array of several dimensions arrives as nulls",
        r"regexp_full_match({json}, '\[\s*null(\s*,\s*null)*\s*\]')",
    ),
}
"""By type: what looks like something else, and whether a value may be meant."""


_INTERVAL = r"^P(-?\d+)Y(-?\d+)M(-?\d+)DT(-?\d+)H(-?\d+)M(-?\d+(?:[.]\d+)?)S$"
_DATE = r"[+-]?\d+-\d{2}-\d{2}"
_TIME = r"\d{2}:\d{2}(:\d{2}([.]\d+)?)?"

TEXT_MACROS = (
    # A fraction of seconds without the zeros at its end.
    r"trimmed(t) AS regexp_replace(regexp_replace(t, '([.][0-9]*?)0+$', '\1'), '[.]$', '')",
    "unit(n, letter) AS CASE WHEN n NOT IN ('0', '-0') THEN n || letter ELSE '' END",
    f"parts(t) AS regexp_extract(t, '{_INTERVAL}', ['y', 'mo', 'd', 'h', 'mi', 's'])",
    "days_part(p) AS unit(p.y, 'Y') || unit(p.mo, 'M') || unit(p.d, 'D')",
    # Debezium cuts a double to nanoseconds: 49.622007 arrives as 49.622006999. PostgreSQL has microseconds.
    "micros(s) AS CAST(round(CAST(s AS DECIMAL(38, 9)), 6) AS DECIMAL(38, 6))::VARCHAR",
    "clock_part(p) AS unit(p.h, 'H') || unit(p.mi, 'M') || unit(trimmed(micros(p.s)), 'S')",
    "joined(days, clock) AS CASE WHEN days = '' AND clock = '' THEN 'PT0S' WHEN clock = '' THEN 'P' || days "
    "ELSE 'P' || days || 'T' || clock END",
    f"interval_text(t) AS CASE WHEN regexp_matches(t, '{_INTERVAL}') "
    "THEN joined(days_part(parts(t)), clock_part(parts(t))) END",
    "with_seconds(t) AS CASE WHEN length(t) = 5 THEN t || ':00' ELSE trimmed(t) END",
    f"time_text(t) AS CASE WHEN regexp_full_match(t, '{_TIME}Z?') THEN with_seconds(rtrim(t, 'Z')) END",
    # Year 0 is 1 BC; infinity arrives as an end of Java's calendars, which is outside of PostgreSQL's.
    r"year_of(t) AS TRY_CAST(ltrim(regexp_extract(t, '^([+-]?\d+)-\d{2}-\d{2}', 1), '+') AS INTEGER)",
    "positive_year(y) AS CASE WHEN y <= 0 THEN 1 - y ELSE y END",
    "padded(y) AS lpad(y::VARCHAR, greatest(4, length(y::VARCHAR))::INTEGER, '0')",
    r"day_text(t) AS padded(positive_year(year_of(t))) || '-' || regexp_extract(t, '^[+-]?\d+-(\d{2}-\d{2})', 1)",
    "era_text(t) AS CASE WHEN year_of(t) <= 0 THEN ' BC' ELSE '' END",
    # In a snapshot, the year of a date has lost its era: 292269055 BC is the first one of Java's.
    "infinity_text(t, last) AS CASE "
    "WHEN t = '-infinity' OR year_of(t) < -4713 OR year_of(t) BETWEEN 292269054 AND 292269056 THEN '-infinity' "
    "WHEN t = 'infinity' OR year_of(t) > last THEN 'infinity' END",
    f"date_text(t) AS coalesce(infinity_text(t, 5874897), CASE WHEN regexp_full_match(t, '{_DATE}Z?') "
    "THEN day_text(t) || era_text(t) END)",
    f"instant_text(t, zone) AS coalesce(infinity_text(t, 294276), CASE WHEN regexp_full_match(t, '{_DATE}T{_TIME}Z') "
    "THEN day_text(t) || ' ' || with_seconds(rtrim(split_part(t, 'T', 2), 'Z')) || zone || era_text(t) END)",
    # {"scale": …, "value": base64 of the unscaled number}: io.debezium.data.VariableScaleDecimal.
    "pointed(digits, scale) AS CASE WHEN scale <= 0 THEN digits || repeat('0', -scale) "
    "ELSE left(digits, -scale) || '.' || right(digits, scale) END",
    "signed(n, scale) AS CASE WHEN n < 0 THEN '-' ELSE '' END "
    "|| pointed(lpad(abs(n)::VARCHAR, greatest(length(abs(n)::VARCHAR), scale + 1)::INTEGER, '0'), scale)",
    "variable_scale(j) AS signed(unscaled_decimal_0(TRY(from_base64(json_extract_string(j, '$.value')))), "
    "TRY_CAST(json_extract_string(j, '$.scale') AS INTEGER))",
    "number_text(t) AS CASE t WHEN 'NAN' THEN 'NaN' WHEN 'POSITIVE_INFINITY' THEN 'Infinity' "
    "WHEN 'NEGATIVE_INFINITY' THEN '-Infinity' ELSE t END",
)
"""To be created on a connection, in this order."""

_ALIASES = {
    "decimal": "numeric",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "time without time zone": "time",
    "jsonb": "json",
}
_FORMS = ("time", "interval", "numeric", "date", "timestamp", "timestamptz", "json")


def text_form(column: Column) -> str:
    """The type's family, by which its text is made: `time`, `interval`, `array`, `numeric` …, or `text`."""
    name = re.sub(r"\s*\([^)]*\)", "", column.source_type.strip().lower())
    if name.endswith("[]"):
        return "array"
    name = _ALIASES.get(name, name)
    return name if name in _FORMS else "text"


def text_sql(column: Column, json: str, text: str) -> str:
    """The column's text, NULL where there is none that is certain."""
    form = text_form(column)
    is_text = f"is_text({json})"
    value = {
        "json": text,
        "array": f"CASE WHEN starts_with({json}, '[') AND NOT regexp_matches({json}, '{_JAVA_OBJECT}') THEN {json} END",
        "numeric": f"CASE WHEN starts_with({json}, '{{') THEN variable_scale({json}) "
        f"WHEN exact_number({json}) THEN number_text({text}) END",
        "time": f"CASE WHEN {is_text} THEN time_text({text}) END",
        "interval": f"CASE WHEN {is_text} THEN interval_text({text}) END",
        "date": f"CASE WHEN {is_text} THEN date_text({text}) END",
        "timestamp": f"CASE WHEN {is_text} THEN instant_text({text}, '') END",
        "timestamptz": f"CASE WHEN {is_text} THEN instant_text({text}, '+00') END",
        "text": f"CASE WHEN {is_text} THEN {text} END",
    }[form]
    ambiguous = ambiguous_sql(column, json, text)
    return f"CASE WHEN NOT coalesce({ambiguous[0]}, false) THEN {value} END" if ambiguous else value


def ambiguous_sql(column: Column, json: str, text: str) -> tuple[str, str] | None:
    """Whether a value may be another one that Debezium writes alike, and which; None if there is no such value."""
    found = AMBIGUOUS.get(text_form(column))
    if found is None or column.unambiguous:
        return None
    meaning, condition = found
    return condition.format(json=json, text=text), meaning
