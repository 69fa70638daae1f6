"""Whether a table of the shop still has the columns, the types and the key of its contract.

Each event has every column of its table at that time: the fields of `after` and of the key are what is compared, and
the types where events carry their schema. PostgreSQL locks a table while it is altered, so that within a partition
events of one form follow those of another.

A column that is new is taken up, one that is gone is reported and null from then on. A column that is gone when another
one is new may have been renamed, another key makes other rows, and a narrower type may have altered what the rows hold:
that stops the table, until the contract says what it means or somebody accepts it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields

import duckdb
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.update import SetPropertiesUpdate, TableUpdate

from orders_platform.contracts import Contract
from orders_platform.contracts.column_names import name_problem
from orders_platform.contracts.column_types import canonical_type
from orders_platform.contracts.type_width import narrower, widened
from orders_platform.ingest.errors import SchemaDriftError
from orders_platform.lake.evolved import evolved_fields

ACCEPTED = "orders-platform.accepted-drift."
"""Beginning of table properties of bronze: each is JSON of one change that was accepted, with reason, time and name.

Iceberg knows no condition on properties: each decision has a property of its own, so that none overwrites another.
"""
Decision = dict[str, str]
"""A change that was accepted: `change`, `reason`, `by`, and `at` (UTC, ISO 8601)."""


@dataclass(frozen=True)
class EventForm:
    """The names that events of a partition have from an offset on, in the `row` or in the `key`.

    For the part `types`, which events with a schema have: PostgreSQL's types of columns, as far as they are certain.
    """

    part: str
    names: frozenset[str]
    partition: int
    offset: int
    types: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Drift:
    """How events and tables differ from the contract where that stops nothing, in order.

    Args:
        added: names of columns that evolved.
        dropped: names of columns that events no longer have.
        widened, narrowed: columns and the type they have by now, as `amount to bigint`.
        waiting: names of columns that are new and cannot be taken up, and why.
    """

    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    widened: tuple[str, ...] = ()
    narrowed: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()

    def __or__(self, other: Drift) -> Drift:
        return Drift(*(tuple(sorted({*mine, *theirs})) for mine, theirs in zip(self.parts, other.parts, strict=True)))

    @property
    def parts(self) -> tuple[tuple[str, ...], ...]:
        return tuple(getattr(self, each.name) for each in fields(self))

    def __str__(self) -> str:
        words = zip((each.name for each in fields(self)), self.parts, strict=True)
        return "; ".join(f"{word} {', '.join(names)}" for word, names in words if names)


@dataclass(frozen=True)
class Judgement:
    """What events say of their table, where that stops nothing.

    Args:
        drift: how it differs from the contract.
        new: columns to be taken up: name, Iceberg's name of the type, and where they were first seen.
        wider: columns of the contract whose type was widened, and Iceberg's name of the type that holds it.
    """

    drift: Drift
    new: Mapping[str, tuple[str, str]]
    wider: Mapping[str, str]


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
        FROM (SELECT partition, "offset", TRY(decode(key)) AS k FROM envelopes
              WHERE CASE WHEN e.payload IS NULL THEN {own} ELSE {own_wrapped} END)
        WHERE TRY(json_type(k)) = 'OBJECT' GROUP BY ALL
        ORDER BY 3, 4""",
        {"table": contract.source_table, "schema": contract.schema},
    ).fetchall()
    return [EventForm(part, frozenset(names or ()), partition, offset) for part, names, partition, offset in rows]


def judge(
    contract: Contract, bronze: Schema, found: Sequence[EventForm], accepted: Collection[str], topic: str
) -> Judgement:
    """What differs and stops nothing.

    Args:
        bronze: the table's present columns.
        accepted: names of changes that somebody has accepted.

    Raises:
        SchemaDriftError: for the first change that must be decided upon.
    """
    former = {name: column.source_name for column in contract.columns for name in column.former_names}
    types = {name: kind for form in found for name, kind in form.types.items()}
    drift, wider = Drift(), dict[str, str]()
    new: dict[str, tuple[str, str]] = {}
    for form in found:
        place = f"topic {topic}[{form.partition}] from offset {form.offset} on"
        # Beside the name of now, a former one is that of another column.
        names = {name if former.get(name) in form.names else former.get(name, name) for name in form.names}
        if form.part == "key":
            _judge_key(contract, names, accepted, place)
        elif form.part == "types":
            seen = _judge_types(contract, form.types, accepted, place)
            drift |= seen.drift
            wider |= seen.wider
        else:
            added = names - {column.source_name for column in contract.columns}
            dropped = _judge_columns(contract, bronze, names, accepted, place)
            refused = {name: why for name in sorted(added) if (why := _refusal(contract, bronze, name, new))}
            for name in sorted(added - set(refused)):
                new.setdefault(name, (canonical_type(types.get(name, "json")), f"first seen in {place}"))
            waiting = tuple(f"{name} ({why})" for name, why in refused.items())
            drift |= Drift(added=tuple(added - set(refused)), dropped=tuple(dropped), waiting=waiting)
    return Judgement(drift, new, wider)


def _judge_key(contract: Contract, names: set[str], accepted: Collection[str], place: str) -> None:
    key = {column.source_name for column in contract.key_columns}
    # A record without a key is a dead letter.
    if names and names != key and (change := f"key:{_list(names)}") not in accepted:
        raise SchemaDriftError(
            f"{place}: the key is ({_list(names)}), in the contract it is ({_list(key)}). {_STOPPED} "
            f"Change primaryKey in the contract of {contract.table}, then: {_command(contract, change)}",
            change,
        )


def _judge_columns(
    contract: Contract, bronze: Schema, names: set[str], accepted: Collection[str], place: str
) -> set[str]:
    """The contract's columns that are gone."""
    columns = {column.source_name for column in contract.columns}
    dropped = columns - names
    # What bronze has or once had is not new, and so no other name of what is gone.
    added = names - columns - ({each.name for each in bronze.fields} - set(contract.column_names))
    if added and dropped and (change := f"columns:-{_list(dropped)}+{_list(added)}") not in accepted:
        raise SchemaDriftError(
            f"{place}: {_list(dropped)} gone, {_list(added)} new: renamed, or dropped and added? {_STOPPED} If it "
            f"was renamed, give the column its new physicalName, and the old one among formerNames, in the "
            f"contract of {contract.table}. If the one was dropped and the other added: "
            f"{_command(contract, change)}",
            change,
        )
    return dropped


def _judge_types(contract: Contract, types: Mapping[str, str], accepted: Collection[str], place: str) -> Judgement:
    wider: dict[str, str] = {}
    narrowed: list[str] = []
    for column in contract.columns:
        seen = types.get(column.source_name)
        if seen is None or column.as_text:
            continue
        if widened(seen, column.source_type) and canonical_type(seen) != "string":
            wider[column.name] = canonical_type(seen)
        if not narrower(seen, column.source_type):
            continue
        change = f"type:{column.source_name}={seen}"
        if change not in accepted:
            raise SchemaDriftError(
                f"{place}: {column.source_name} is {seen}, in the contract it is {column.source_type}: narrowed? "
                f"{_STOPPED} Change physicalType in the contract of {contract.table}, or keep the wider type there: "
                f"{_command(contract, change)}. PostgreSQL may have rewritten rows without an event: afterwards, "
                f"orders-platform gaps repair {contract.table}",
                change,
            )
        narrowed.append(f"{column.source_name} to {seen}")
    return Judgement(Drift(narrowed=tuple(narrowed)), {}, wider)


def _refusal(contract: Contract, bronze: Schema, name: str, new: Collection[str]) -> str | None:
    """Why a column that is not in the contract is not taken up by the tables; None if it is."""
    if again := next((column.name for column in contract.columns if name in column.former_names), None):
        return f"it is among formerNames of {again}"
    if name in new or any(name == each.name for each in evolved_fields(bronze)):
        return None
    if problem := name_problem(name, contract.history):
        return problem
    known = {each.name for each in bronze.fields}
    if name in known - set(contract.column_names):
        return "it was taken out of the contract"
    taken = {each.casefold(): each for each in (*known, *contract.column_names, *new)}
    return f"the tables have {taken[name.casefold()]}" if name.casefold() in taken else None


_STOPPED = "Nothing of this batch was loaded and nothing is lost: records stay in Kafka and staging."


def _command(contract: Contract, change: str) -> str:
    return f"orders-platform drift accept {contract.table} '{change}' --reason '…'"


def _list(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def to_json(drift: Drift) -> str:
    """For the summary of a commit."""
    return json.dumps({name: found for name, found in asdict(drift).items() if found}, separators=(",", ":"))


def from_json(said: str) -> Drift:
    """What `to_json` has made. Raises `ValueError`, `TypeError`, `AttributeError` for anything else."""
    return Drift(**{name: tuple(names) for name, names in json.loads(said).items()})


def accepted_changes(bronze: Table) -> set[str]:
    """The names of changes that were accepted."""
    return {each["change"] for each in decisions(bronze)}


def decisions(bronze: Table) -> list[Decision]:
    """Every accepted change with its reason, when and by whom, the first one first."""
    found: list[Decision] = [json.loads(said) for name, said in bronze.properties.items() if name.startswith(ACCEPTED)]
    return sorted(found, key=lambda each: (each["at"], each["change"]))


def decision_update(decision: Decision) -> TableUpdate:
    """What is to be sent to the catalog to record a decision."""
    name = ACCEPTED + hashlib.sha256(decision["change"].encode()).hexdigest()[:16]
    return SetPropertiesUpdate(updates={name: json.dumps(decision)})
