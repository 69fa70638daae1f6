"""What evolves by itself, evolves: the table takes up what events say of the shop's, before they are decoded by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyiceberg.table import Table

from orders_platform.contracts import Contract
from orders_platform.ingest.drift import Drift, EventForm, accepted_changes, judge
from orders_platform.lake.evolved import evolve, evolved_schema, in_bronze, widened_columns


class Evolution:
    """One batch of events: how they differ from the contract, and the contract by which they are decoded.

    The schema is committed before the rows, each on condition of what was read. A process that dies in between leaves
    a column without values, which the next load finds there and fills. A rehearsal `commits` nothing.

    `drift` is None where no event shows a row: deletes alone say nothing of the columns.
    """

    def __init__(self, contract: Contract, bronze: Table, topic: str, *, commits: bool = True) -> None:
        self._declared, self._bronze, self._topic, self._commits = contract, bronze, topic, commits
        self._schema = bronze.schema()
        self.contract = in_bronze(contract, self._schema)
        self.drift: Drift | None = None

    def judge(self, found: Sequence[EventForm]) -> Contract:
        """The contract for events of these forms. Raises `SchemaDriftError`."""
        judged = judge(self._declared, self._schema, found, accepted_changes(self._bronze), self._topic)
        self._take_up(judged.new, judged.wider)
        wider = widened_columns(self._declared, self._schema)
        drift = judged.drift | Drift(widened=tuple(f"{name} to {kind}" for name, kind in wider.items()))
        self.drift = drift if any(form.part == "row" for form in found) else None
        self.contract = in_bronze(self._declared, self._schema)
        return self.contract

    def widen(self, types: Mapping[str, str]) -> None:
        """Has the table hold values that prove that the shop has widened a column."""
        self._take_up({}, types)

    def _take_up(self, new: Mapping[str, tuple[str, str]], wider: Mapping[str, str]) -> None:
        if self._commits:
            evolve(self._bronze, new, wider)
            self._schema = self._bronze.schema()
        else:
            self._schema = evolved_schema(self._schema, new, wider)
