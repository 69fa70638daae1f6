"""What a table has outgrown its contract by: columns that were added in the shop, and types that were widened there.

Bronze's schema is the record of it: an evolved column is marked in its documentation, a widened one has a wider type.
So there is one commit to each evolution, and it is conditional on the schema that was read. Everything that reads or
writes the tables takes the contract as it is made here, and handles such columns like all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import NestedField, PrimitiveType

from orders_platform.contracts import Column, Contract
from orders_platform.contracts.type_width import source_type
from orders_platform.lake.schema_commits import changed_schema, retried_if_refused
from orders_platform.lake.schemas import holds, iceberg_type

MARK = "not in the contract: "
"""How the documentation of an evolved column begins."""


def in_bronze(contract: Contract, bronze: Schema) -> Contract:
    """The contract as bronze holds it: its columns as wide as they are there, and those that evolved."""
    wide = as_wide(contract, bronze)
    claimed = {name for column in contract.columns for name in column.source_names}
    evolved = [
        Column(field.name, source_type(str(field.field_type)), description=field.doc or "")
        for field in evolved_fields(bronze)
        if field.name not in claimed
    ]
    return replace(wide, columns=(*wide.columns, *evolved))


def in_silver(contract: Contract, bronze: Schema) -> Contract:
    """The contract as silver and versions hold it.

    In a table with personal data a new column may hold more of them: it stays in bronze until the contract has it.
    """
    if is_masked(contract):
        return as_wide(contract, bronze)
    return in_bronze(contract, bronze)


def as_wide(contract: Contract, bronze: Schema) -> Contract:
    """The contract's own columns, each with the type that bronze has come to hold."""
    present = {field.name: field.field_type for field in bronze.fields}

    def widened(column: Column) -> Column:
        kind = present.get(column.name)
        if kind is None or str(kind) == column.type or not holds(kind, iceberg_type(column.type)):
            return column
        return replace(column, source_type=source_type(str(kind)))

    return replace(contract, columns=tuple(widened(column) for column in contract.columns))


def widened_columns(contract: Contract, bronze: Schema) -> dict[str, str]:
    """Columns whose type in bronze is wider than the contract's, with PostgreSQL's name of that type."""
    pairs = zip(contract.columns, as_wide(contract, bronze).columns, strict=True)
    return {wide.name: wide.source_type for column, wide in pairs if wide.type != column.type}


def is_masked(contract: Contract) -> bool:
    """Whether the contract knows of personal data in the table."""
    return any(column.masking for column in contract.columns)


def evolved_fields(schema: Schema) -> list[NestedField]:
    """The columns that are marked as evolved."""
    return [field for field in schema.fields if (field.doc or "").startswith(MARK)]


def evolved_schema(schema: Schema, added: Mapping[str, tuple[str, str]], widened: Mapping[str, str]) -> Schema:
    """What `evolve` would make of a schema; the ids of new columns stand for none."""
    new, wider = _missing(schema, added, widened)
    fields = [
        field.model_copy(update={"field_type": wider[field.name]}) if field.name in wider else field
        for field in schema.fields
    ]
    fields += [
        NestedField(schema.highest_field_id + number, name, iceberg_type(kind), required=False, doc=MARK + place)
        for number, (name, (kind, place)) in enumerate(new.items(), 1)
    ]
    return Schema(*fields)


@retried_if_refused
def evolve(table: Table, added: Mapping[str, tuple[str, str]], widened: Mapping[str, str]) -> None:
    """Gives the table columns, and columns wider types; what it has already stays as it is.

    Args:
        added: by name, the column's type (Iceberg's name) and where it was first seen.
        widened: by name, the type that the column must hold.
    """
    new, wider = _missing(table.schema(), added, widened)
    if not new and not wider:
        return
    with changed_schema(table) as update:
        for name, (kind, place) in new.items():
            update.add_column(name, iceberg_type(kind), doc=MARK + place)
        for name, wide in wider.items():
            update.update_column(name, field_type=wide)


def _missing(
    schema: Schema, added: Mapping[str, tuple[str, str]], widened: Mapping[str, str]
) -> tuple[dict[str, tuple[str, str]], dict[str, PrimitiveType]]:
    present = {field.name: field.field_type for field in schema.fields}
    new = {name: of for name, of in added.items() if name not in present}
    wider = {name: iceberg_type(kind) for name, kind in widened.items()}
    return new, {name: kind for name, kind in wider.items() if not holds(present[name], kind)}


@retried_if_refused
def settle(table: Table, contract: Contract, *, masked: bool) -> None:
    """Lets a contract take over the columns of a table that had evolved and that it now names.

    Where it keeps the same text, or a wider number, the column goes on as the contract's. Else its values stay in a
    column with another name. Clear text that is to be masked from now on goes out of silver; bronze has it.
    """
    claims = [(field, column) for field in evolved_fields(table.schema()) if (column := _claimant(contract, field))]
    if not claims:
        return
    with changed_schema(table) as update:
        for field, column in claims:
            if masked and column.masking:
                update.delete_column(field.name)
            elif _goes_on(field, column, masked=masked):
                update.update_column(field.name, doc=column.description)
            else:
                if field.name.casefold() == column.name.casefold():
                    update.rename_column(field.name, _free_name(table.schema(), contract, field.name))
                update.update_column(field.name, doc=f"{field.name} as it arrived until the contract had it")


def _claimant(contract: Contract, field: NestedField) -> Column | None:
    """The contract's own column that stands for the same column of the shop, or has its name."""
    for column in contract.columns:
        if column.description.startswith(MARK):
            continue
        if field.name in column.source_names or field.name.casefold() == column.name.casefold():
            return column
    return None


def _goes_on(field: NestedField, column: Column, *, masked: bool) -> bool:
    kind = column.masked_type if masked else column.type
    if field.name != column.name or field.name not in column.source_names:
        return False
    if kind == "string":
        return str(field.field_type) == "string" and column.is_as_it_arrives
    return holds(iceberg_type(kind), field.field_type) or holds(field.field_type, iceberg_type(kind))


def _free_name(schema: Schema, contract: Contract, name: str) -> str:
    taken = {each.casefold() for each in (*(field.name for field in schema.fields), *contract.column_names)}
    candidates = (f"{name}_before", *(f"{name}_before_{number}" for number in range(2, len(taken) + 3)))
    return next(each for each in candidates if each.casefold() not in taken)
