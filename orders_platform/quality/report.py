"""What reconciliation found, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Finding(StrEnum):
    """How the rows of a key differ."""

    MISSING = "missing"
    """Expected, and not there."""
    UNEXPECTED = "unexpected"
    """There, and not expected."""
    REPEATED = "repeated"
    """There more than once, or in another number than expected."""
    DIFFERENT = "different"
    """There, with other values."""


@dataclass(frozen=True)
class Value:
    """A column that differs; values are text, null is None, and personal data stay masked."""

    column: str
    expected: str | None
    found: str | None

    def __str__(self) -> str:
        return f"{self.column} is {self.found!r}, expected {self.expected!r}"


@dataclass(frozen=True)
class RowDifference:
    """A key whose rows differ. `key` holds (column, value) in the order of the key."""

    key: tuple[tuple[str, str | None], ...]
    finding: Finding
    values: tuple[Value, ...] = ()

    def __str__(self) -> str:
        name = ", ".join(f"{column}={value}" for column, value in self.key)
        return f"{name}: {self.finding}" + (f" ({'; '.join(map(str, self.values))})" if self.values else "")


@dataclass(frozen=True)
class TableComparison:
    """One table against its source.

    `differing` counts keys, `differences` names the first of them. Of `undecided` ones among them it is not known
    whether the table is wrong or only late: it did not take over in time what its source held when they were found.
    `looks` is how often keys that differed were looked at; one look means that both sides agreed at once.
    `problem` says why the source's database refuses this table, of which nothing was compared then.
    """

    table: str
    source: str
    rows: int
    source_rows: int
    differing: int = 0
    differences: tuple[RowDifference, ...] = ()
    undecided: int = 0
    looks: int = 1
    seconds: float = 0.0
    problem: str | None = None

    @property
    def equal(self) -> bool:
        return self.differing == 0 and self.problem is None

    @property
    def is_certain(self) -> bool:
        """Whether what differs is wrong for certain, and not only late."""
        return self.undecided == 0

    def __str__(self) -> str:
        if self.problem:
            return f"{self.table} cannot be compared with {self.source}: {self.problem}"
        if self.equal:
            return f"{self.table} equals {self.source}: {self.rows} rows"
        listed = "".join(f"\n  {difference}" for difference in self.differences)
        more = self.differing - len(self.differences)
        rest = f"\n  and {more} more" if more else ""
        late = f", {self.undecided} of which may only be late" if self.undecided else ""
        return (
            f"{self.table} ({self.rows} rows) differs from {self.source} ({self.source_rows} rows)"
            f" in {self.differing} keys{late}:{listed}{rest}"
        )


@dataclass(frozen=True)
class ReconcileReport:
    """All comparisons, in the order in which a change passes the tables."""

    tables: tuple[TableComparison, ...]
    seconds: float = 0.0

    @property
    def equal(self) -> bool:
        return all(table.equal for table in self.tables)

    @property
    def unequal(self) -> Sequence[TableComparison]:
        return [table for table in self.tables if not table.equal]

    def to_dict(self) -> dict[str, Any]:
        """For programs: JSON's types only."""
        return {"equal": self.equal, "seconds": self.seconds, "tables": [_as_dict(table) for table in self.tables]}


def _as_dict(table: TableComparison) -> dict[str, Any]:
    document = asdict(table)
    document["equal"] = table.equal
    for difference in document["differences"]:
        difference["key"] = dict(difference["key"])
    return document
