"""Which snapshots of silver a gold table stands for: with them it is compared exactly, however fast silver moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from orders_platform.lake.gold_mark import PROPERTY, GoldMark, read_mark

INPUTS = ("silver.orders", "silver.line_items", "silver.customers")


@dataclass
class GoldInputs:
    """Snapshots of silver, by table, that a gold table was built from.

    Gold is held to what silver held when this was made: until it was built from that, or something later, and owes no
    order date, it has to be compared with silver as it is.
    """

    catalog: Catalog
    identifier: str
    _start: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        tables = {name: _load(self.catalog, name) for name in INPUTS}
        self._start = {name: sequence(table) for name, table in tables.items() if table is not None}

    def read(self) -> Mapping[str, int] | None:
        """The snapshots; None as long as gold has not come so far."""
        table = _load(self.catalog, self.identifier)
        mark = read_mark(table) if table is not None else None
        found = self._silver_of(mark)
        if found is None:
            return None
        for name, start in self._start.items():
            silver = _load(self.catalog, name)
            if silver is None or name not in found or sequence(silver, found[name]) < start:
                return None
        return found

    def has_come(self) -> bool:
        """Whether gold was built from what silver held, or something later."""
        return self.read() is not None

    def _silver_of(self, mark: GoldMark | None) -> Mapping[str, int] | None:
        """A table that is built from another gold table stands for what that one stood for."""
        if mark is None or mark.pending:
            return None
        if all(name.startswith("silver.") for name in mark.inputs):
            return mark.inputs
        ((name, snapshot_id),) = mark.inputs.items()
        source = _load(self.catalog, name)
        snapshot = source.metadata.snapshot_by_id(snapshot_id) if source is not None else None
        text = snapshot.summary.additional_properties.get(PROPERTY) if snapshot and snapshot.summary else None
        return self._silver_of(GoldMark.from_json(text)) if text else None


def sequence(table: Table, snapshot_id: int | None = None) -> int:
    """Sequence number of a snapshot, main's head by default; 0 where it is gone, or there is none."""
    snapshot = table.metadata.snapshot_by_id(snapshot_id) if snapshot_id is not None else table.current_snapshot()
    return snapshot.sequence_number or 0 if snapshot else 0


def _load(catalog: Catalog, identifier: str) -> Table | None:
    try:
        return catalog.load_table(identifier)
    except NoSuchTableError:
        return None
