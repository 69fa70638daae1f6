"""Where a change stands among all of its table, and what a TRUNCATE or a complete snapshot says of those below."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from orders_platform.lake.schemas import ORDER_COLUMNS, quoted

SNAPSHOT_ENDS = ("last", "last_in_data_collection")
"""Debezium's `source.snapshot` of the last row of a table in an initial snapshot: the snapshot is complete."""


@dataclass(frozen=True, order=True)
class Position:
    """A change's place in the order of changes; compared part by part."""

    epoch: int
    commit_pos: int
    lsn: int
    kafka_offset: int

    @classmethod
    def of(cls, parts: Any) -> Position | None:
        """From DuckDB's struct or a list of four numbers; null stays null."""
        if parts is None:
            return None
        return cls(*(int(part) for part in (parts.values() if isinstance(parts, dict) else parts)))

    @property
    def sql(self) -> str:
        """A row of DuckDB that compares with `position_sql`."""
        return f"row({self.epoch}::INTEGER, {self.commit_pos}::BIGINT, {self.lsn}::BIGINT, {self.kafka_offset}::BIGINT)"

    def to_json(self) -> list[int]:
        """As a summary property holds it."""
        return [self.epoch, self.commit_pos, self.lsn, self.kafka_offset]


def position_sql(alias: str = "") -> str:
    """The position of a row, to be compared with another one's."""
    start = f"{alias}." if alias else ""
    return f"row({', '.join(start + quoted(column) for column in ORDER_COLUMNS)})"


def removal_sql() -> str:
    """The position below which a row of bronze says that every row is gone; null for ordinary changes.

    A TRUNCATE removes what is before it. The last row of a complete initial snapshot says that whatever is older than
    the snapshot, and is not in it, was deleted while nobody listened: the rows of the snapshot share its position but
    for the offset, so that all of them are above.
    """
    parts = ", ".join(f"{name} := {quoted(column)}" for name, column in zip("ecl", ORDER_COLUMNS, strict=False))
    ends = ", ".join(f"'{value}'" for value in SNAPSHOT_ENDS)
    return (
        f"CASE WHEN _op = 't' THEN struct_pack({parts}, o := _kafka_offset) "
        f"WHEN _snapshot IN ({ends}) THEN struct_pack({parts}, o := -1::BIGINT) END"
    )


def parse_positions(text: str | None) -> set[Position]:
    """Positions from a summary property written by `format_positions`."""
    return {Position(*parts) for parts in json.loads(text or "[]")}


def format_positions(positions: set[Position]) -> str:
    """Positions as a summary property: JSON, in order."""
    return json.dumps([position.to_json() for position in sorted(positions)])
