"""The figures of one order date, as gold has them and as ClickHouse shows them: what a load must not change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from clickhouse_connect.driver.client import Client

DIMENSIONS = ("order_date", "region", "currency")
COUNTS = ("orders", "cancelled_orders", "items")
AMOUNTS = ("revenue", "refunded")
MEASURES = (*COUNTS, *AMOUNTS)
SEQUENCE = "_gold_seq"
COLUMNS = (*DIMENSIONS, *MEASURES, SEQUENCE)

_TOTAL = "sum({})"
_EXACT = "sum(toDecimal128({}, 2))"


@dataclass(frozen=True)
class DayFigures:
    """Number of rows and exact sums of a day, the gold sequences that its rows carry, and rows of other days."""

    rows: int
    sums: Mapping[str, Decimal]
    sequences: frozenset[int]
    foreign: int = 0

    @classmethod
    def of_rows(cls, rows: Sequence[Mapping[str, Any]], sequence: int) -> DayFigures:
        """The figures that gold's rows of a day must have wherever they are shown."""
        sums = {name: sum((Decimal(row[name]) for row in rows), Decimal(0)) for name in MEASURES}
        return cls(len(rows), sums, frozenset({sequence} if rows else ()))

    @classmethod
    def of_table(cls, client: Client, table: str, day: date, *, whole: bool) -> DayFigures:
        """The figures of a day in a table of ClickHouse; `whole`: the table should hold nothing else."""
        sums = ", ".join([_TOTAL.format(name) for name in COUNTS] + [_EXACT.format(name) for name in AMOUNTS])
        of_day = f"order_date = toDate32('{day.isoformat()}')"
        (row,) = client.query(
            f"SELECT count(), groupUniqArray({SEQUENCE}), {sums} FROM {table} WHERE {of_day}"
        ).result_rows
        foreign = client.query(f"SELECT count() FROM {table} WHERE NOT ({of_day})").result_rows[0][0] if whole else 0
        values = {name: Decimal(value) for name, value in zip(MEASURES, row[2:], strict=True)}
        return cls(int(row[0]), values, frozenset(int(value) for value in row[1]), int(foreign))

    def differences(self, shown: DayFigures) -> list[str]:
        """What is wrong with the figures shown, beside these; empty when nothing is."""
        found = []
        if shown.rows != self.rows:
            found.append(f"{shown.rows} rows instead of {self.rows}")
        if shown.foreign:
            found.append(f"{shown.foreign} rows of other days")
        found += [
            f"{name} {shown.sums[name]} instead of {self.sums[name]}"
            for name in MEASURES
            if shown.sums[name] != self.sums[name]
        ]
        if shown.sequences != self.sequences:
            found.append(f"gold sequence {sorted(shown.sequences)} instead of {sorted(self.sequences)}")
        return found
