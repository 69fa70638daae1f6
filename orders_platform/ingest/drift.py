"""Whether a table of the shop still has the columns and the key of its contract.

Debezium's JSON carries no types, but each event has every column of its table at that time: the fields of `after` and
of the key are what is compared. PostgreSQL locks a table while it is altered, so that within a partition events of
one form follow those of another.

A column that is new is reported, and waits in Kafka and staging; one that is gone is reported and null from then on. A
column that is gone when another one is new may have been renamed, and another key makes other rows: that stops the
table, until the contract says what it means or somebody accepts it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import duckdb
from pyiceberg.table import Table

from orders_platform.contracts import Contract
from orders_platform.ingest.errors import SchemaDriftError

DRIFT = "orders-platform.drift"
"""Summary property of bronze: JSON of how the events of its last load differ from the contract."""
ACCEPTED = "orders-platform.accepted-drift"
"""Table property of bronze: a JSON list of the changes that were accepted, with reason, time and name."""


@dataclass(frozen=True)
class EventForm:
    """The names that events of a partition have from an offset on, in the row or in the key."""

    part: str
    names: frozenset[str]
    partition: int
    offset: int


@dataclass(frozen=True)
class Drift:
    """How events differ from the contract where that stops nothing: PostgreSQL's names of columns, in order."""

    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def __or__(self, other: Drift) -> Drift:
        return Drift(tuple(sorted({*self.added, *other.added})), tuple(sorted({*self.dropped, *other.dropped})))

    def tolerated_by(self, contract: Contract) -> Contract:
        """The contract without the demand that a dropped column has a value."""
        columns = tuple(
            replace(column, required=False) if column.source_name in self.dropped else column
            for column in contract.columns
        )
        return replace(contract, columns=columns)

    def __str__(self) -> str:
        words = (("added", self.added), ("dropped", self.dropped))
        return "; ".join(f"{word} {', '.join(names)}" for word, names in words if names)


def forms(con: duckdb.DuckDBPyConnection, contract: Contract) -> list[EventForm]:
    """The different forms among the tables `envelopes` and `records` of a decoder, each where it is first seen."""
    of_table = '{0}."table" = $table AND {0}."schema" = $schema'
    structure = '{"table": "VARCHAR", "schema": "VARCHAR"}'
    own = of_table.format("e.source")
    own_wrapped = of_table.format(f"(json_transform(json_extract(e.payload, '/source'), '{structure}'))")
    rows = con.execute(
        f"""SELECT 'row', json_keys(e.after), partition, min("offset") FROM envelopes
        WHERE e.payload IS NULL AND e.after IS NOT NULL AND {own} GROUP BY ALL
        UNION ALL SELECT 'row', json_keys(e.payload, '/after'), partition, min("offset") FROM envelopes
        WHERE e.payload IS NOT NULL AND json_type(e.payload, '/after') = 'OBJECT' AND {own_wrapped} GROUP BY ALL
        UNION ALL SELECT 'key', json_keys(coalesce(TRY(json_extract(k, '/payload')), k::JSON)), partition, min("offset")
        FROM (SELECT partition, "offset", TRY(decode(key)) AS k FROM envelopes WHERE e.payload IS NULL AND {own})
        WHERE TRY(json_type(k)) = 'OBJECT' GROUP BY ALL
        ORDER BY 3, 4""",
        {"table": contract.source_table, "schema": contract.schema},
    ).fetchall()
    return [EventForm(part, frozenset(names or ()), partition, offset) for part, names, partition, offset in rows]


def judge(contract: Contract, found: Iterable[EventForm], accepted: Collection[str], topic: str) -> Drift:
    """What differs and stops nothing.

    Args:
        accepted: names of changes that somebody has accepted.

    Raises:
        SchemaDriftError: for the first change that must be decided upon.
    """
    columns = {column.source_name for column in contract.columns}
    former = {name: column.source_name for column in contract.columns for name in column.former_names}
    key = {column.source_name for column in contract.key_columns}
    drift = Drift()
    for form in found:
        names = {former.get(name, name) for name in form.names}
        place = f"topic {topic}[{form.partition}] from offset {form.offset} on"
        if form.part == "key":
            # A record without a key is a dead letter.
            if names and names != key and (change := f"key:{_list(names)}") not in accepted:
                raise SchemaDriftError(
                    f"{place}: the key is ({_list(names)}), in the contract it is ({_list(key)}). {_STOPPED} "
                    f"Change primaryKey in the contract of {contract.table}, then: {_command(contract, change)}",
                    change,
                )
            continue
        added, dropped = names - columns, columns - names
        if added and dropped and (change := f"columns:-{_list(dropped)}+{_list(added)}") not in accepted:
            raise SchemaDriftError(
                f"{place}: {_list(dropped)} gone, {_list(added)} new: renamed, or dropped and added? {_STOPPED} If it "
                f"was renamed, give the column its new physicalName, and the old one among formerNames, in the "
                f"contract of {contract.table}. If the one was dropped and the other added: "
                f"{_command(contract, change)}",
                change,
            )
        drift |= Drift(tuple(added), tuple(dropped))
    return drift


_STOPPED = "Nothing of this batch was loaded and nothing is lost: records stay in Kafka and staging."


def _command(contract: Contract, change: str) -> str:
    return f"orders-platform drift accept {contract.table} '{change}' --reason '…'"


def _list(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def to_json(drift: Drift) -> str:
    """For the summary of a commit."""
    return json.dumps({"added": drift.added, "dropped": drift.dropped}, separators=(",", ":"))


def accepted_changes(bronze: Table) -> set[str]:
    """The names of changes that were accepted."""
    return {str(each["change"]) for each in decisions(bronze)}


def decisions(bronze: Table) -> list[dict[str, str]]:
    """Every accepted change with its reason, when and by whom."""
    found: list[dict[str, str]] = json.loads(bronze.properties.get(ACCEPTED, "[]"))
    return found


def accept(bronze: Table, change: str, *, reason: str, by: str) -> None:
    """Records that loading goes on in spite of a change. Raises `ValueError` without a reason."""
    if not reason.strip():
        raise ValueError("a reason is needed to accept a change of the shop's table")
    decision = {"change": change, "reason": reason.strip(), "by": by, "at": datetime.now(UTC).isoformat()}
    with bronze.transaction() as transaction:
        transaction.set_properties({ACCEPTED: json.dumps([*decisions(bronze), decision])})


def last_seen(bronze: Table) -> Drift:
    """How the events of the last load differed."""
    snapshot = bronze.current_snapshot()
    properties = snapshot.summary.additional_properties if snapshot and snapshot.summary else {}
    found = json.loads(properties.get(DRIFT, "{}"))
    return Drift(tuple(found.get("added", ())), tuple(found.get("dropped", ())))
