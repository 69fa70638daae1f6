"""Ranges of keys: the part of a table that is compared at a time, read through indexes and sorted files.

A hash of the key would cut more evenly, but PostgreSQL would have to read the whole table for every part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from orders_platform.contracts import Column, Contract
from orders_platform.lake.schemas import quoted
from orders_platform.quality.sides import Key

_TEXT = re.compile(r"text|varchar|character varying|(varchar|character varying)\s*\(\s*\d+\s*\)")


@dataclass(frozen=True)
class KeyRange:
    """Keys from `first` on and below `until`, as text in the key's order; None is without bound."""

    first: Key | None = None
    until: Key | None = None

    @property
    def is_everything(self) -> bool:
        return self.first is None and self.until is None

    def postgres(self, contract: Contract) -> sql.Composable:
        """The condition in the shop's database."""
        key = postgres_key(contract)
        bounds = [
            sql.SQL("({}) {} ({})").format(key, sql.SQL(operator), _postgres_values(bound))
            for operator, bound in ((">=", self.first), ("<", self.until))
            if bound is not None
        ]
        return sql.SQL(" AND ").join(bounds) if bounds else sql.SQL("true")

    def duckdb(self, contract: Contract) -> str:
        """The condition on a table of the lake."""
        columns = contract.key_columns
        bounds = [_lower(columns, self.first)] if self.first is not None else []
        bounds += [_upper(columns, self.until)] if self.until is not None else []
        return " AND ".join(bounds) or "true"

    def to_json(self) -> list[list[str | None] | None]:
        """JSON's form: [first, until]."""
        return [list(bound) if bound is not None else None for bound in (self.first, self.until)]

    @classmethod
    def from_json(cls, document: Sequence[Sequence[str | None] | None]) -> KeyRange:
        """What `to_json` made."""
        first, until = (tuple(bound) if bound is not None else None for bound in document)
        return cls(first, until)

    def __str__(self) -> str:
        first, until = (
            ""
            if bound is None
            else ", ".join(map(str, bound))
            if len(bound) == 1
            else f"({', '.join(map(str, bound))})"
            for bound in (self.first, self.until)
        )
        if self.is_everything:
            return "all keys"
        return f"keys{f' from {first} on' if first else ''}{f' below {until}' if until else ''}"


EVERYTHING = KeyRange()


def has_one_order(contract: Contract) -> bool:
    """Whether PostgreSQL and the lake sort the keys alike, so that a range means the same rows to both."""
    return all(_is_ordered(column) for column in contract.key_columns)


def postgres_key(contract: Contract) -> sql.Composable:
    """The key's columns, separated by commas, such that they sort as in the lake: text by its bytes."""
    return sql.SQL(", ").join(
        sql.SQL('{} COLLATE "C"').format(sql.Identifier(column.source_name))
        if _is_text(column)
        else sql.Identifier(column.source_name)
        for column in contract.key_columns
    )


def _is_text(column: Column) -> bool:
    return _TEXT.fullmatch(column.source_type.strip().lower()) is not None


def _is_ordered(column: Column) -> bool:
    if column.type in ("int", "long", "date", "timestamp", "timestamptz") or column.type.startswith("decimal"):
        return True
    return _is_text(column) or column.source_type.strip().lower() == "uuid"


# The shop's key may be wider than the contract says, and silver's narrower than the shop's for a while. So PostgreSQL
# takes literals as the column's own type, and for DuckDB numbers are wide enough to be compared with any.


def _postgres_values(key: Key) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Literal, key))


# DuckDB compares rows of columns, but not between two others; spelled out, it also leaves out row groups.


def _lower(columns: Sequence[Column], bound: Key) -> str:
    name, value = quoted(columns[0].name), _literal(columns[0], bound[0])
    if len(columns) == 1:
        return f"{name} >= {value}"
    return f"{name} >= {value} AND ({name} > {value} OR ({_lower(columns[1:], bound[1:])}))"


def _upper(columns: Sequence[Column], bound: Key) -> str:
    name, value = quoted(columns[0].name), _literal(columns[0], bound[0])
    if len(columns) == 1:
        return f"{name} < {value}"
    return f"{name} <= {value} AND ({name} < {value} OR ({_upper(columns[1:], bound[1:])}))"


def _literal(column: Column, value: str | None) -> str:
    text = "'" + str(value).replace("'", "''") + "'"
    if column.type in ("int", "long"):
        return f"CAST({text} AS BIGINT)"
    if column.type.startswith("decimal"):
        return f"CAST({text} AS DECIMAL(38, {len(str(value).partition('.')[2])}))"
    return text
