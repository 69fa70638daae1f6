"""Reads contracts: the part of the Open Data Contract Standard 3.0 (bitol-io, YAML) that the platform uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from orders_platform.contracts.column_names import name_problem
from orders_platform.contracts.column_types import UnsupportedTypeError
from orders_platform.contracts.contract import Column, Contract, Masking
from orders_platform.errors import PlatformError

FOLDER = Path(__file__).parent
_TABLE_NAME = re.compile(r"[a-z][a-z0-9_]*")


class ContractError(PlatformError):
    """A contract cannot be used; the message names the file, the place and the remedy."""


@lru_cache
def load_contracts(folder: Path = FOLDER) -> tuple[Contract, ...]:
    """Every contract of a folder, by table name.

    Raises:
        ContractError: for the first file that cannot be used, or when two describe the same table.
    """
    contracts = [load_contract(path) for path in sorted(folder.glob("*.yaml"))]
    tables = [contract.table for contract in contracts]
    if twice := {table for table in tables if tables.count(table) > 1}:
        raise ContractError(f"{folder}: more than one contract for {', '.join(sorted(twice))}; keep one file a table")
    topics = [contract.topic("") for contract in contracts]
    if shared := [contract.source for contract in contracts if topics.count(contract.topic("")) > 1]:
        raise ContractError(f"{folder}: Debezium would write {', '.join(shared)} to one topic; rename one of them")
    if not contracts:
        raise ContractError(f"{folder}: no contract (*.yaml) found")
    return tuple(contracts)


def load_contract(path: Path) -> Contract:
    """One contract. Raises `ContractError`."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        contract = _contract(document)
    except KeyError as error:
        raise ContractError(f"{path}: {error.args[0]!r} is missing") from None
    except (yaml.YAMLError, TypeError, ValueError, UnsupportedTypeError) as error:
        raise ContractError(f"{path}: {error}") from None
    if path.stem != contract.table:
        raise ContractError(f"{path}: describes table {contract.table!r}; the file must be named {contract.table}.yaml")
    return contract


def _contract(document: Mapping[str, Any]) -> Contract:
    if document["kind"] != "DataContract":
        raise ValueError(f"kind must be DataContract, not {document['kind']!r}")
    (table,) = document["schema"]
    schema, _, source = table["physicalName"].partition(".")
    if not source:
        schema, source = "public", schema
    name = table.get("name", source)
    columns = tuple(_column(prop) for prop in table["properties"])
    key = [p for p in table["properties"] if p.get("primaryKey")]
    extra = _custom(document)
    contract = Contract(
        table=name,
        schema=schema,
        columns=columns,
        key=tuple(p["name"] for p in sorted(key, key=lambda p: p.get("primaryKeyPosition", 1))),
        version=str(document["version"]),
        owner=document["team"][0]["username"],
        description=document.get("description", {}).get("purpose", ""),
        history=bool(extra.get("history", False)),
        order_date_column=extra.get("orderDateColumn"),
        dead_letter_count=int(extra.get("deadLetterCount", Contract.dead_letter_count)),
        dead_letter_share=float(extra.get("deadLetterShare", Contract.dead_letter_share)),
        latency_minutes=next((s["value"] for s in document.get("slaProperties", []) if s["property"] == "latency"), 5),
        physical_table=None if source == name else source,
    )
    _check(contract)
    return contract


def _column(prop: Mapping[str, Any]) -> Column:
    extra = _custom(prop)
    return Column(
        name=prop["name"],
        source_type=prop["physicalType"],
        required=bool(prop.get("required", False)),
        description=prop.get("description", ""),
        masking=Masking(extra["masking"]) if "masking" in extra else None,
        accepted_values=tuple(extra.get("acceptedValues", ())),
        physical_name=prop.get("physicalName"),
        as_text=prop.get("logicalType") == "string",
        former_names=tuple(extra.get("formerNames", ())),
        unambiguous=bool(extra.get("unambiguous", False)),
    )


def _custom(node: Mapping[str, Any]) -> dict[str, Any]:
    return {item["property"]: item["value"] for item in node.get("customProperties", ())}


def _check(contract: Contract) -> None:
    """The rules between the parts of a contract. Raises `ValueError` or `UnsupportedTypeError`."""
    names = contract.column_names
    if not contract.key:
        raise ValueError("no column has primaryKey: true; changes of a table without a key cannot be merged")
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"columns named twice: {', '.join(sorted(twice))}")
    if not _TABLE_NAME.fullmatch(contract.table):
        raise ValueError(
            f"table {contract.table!r}: the platform's name is lower case letters, digits and _ (it names assets and "
            f"tables of the lake); PostgreSQL's own goes into physicalName"
        )
    folded = [name.casefold() for name in names]
    if alike := [name for name in names if folded.count(name.casefold()) > 1]:
        raise ValueError(f"columns {', '.join(alike)} differ only in case, which SQL engines do not tell apart")
    for column in contract.columns:
        if problem := name_problem(column.name, contract.history):
            raise ValueError(
                f"column {column.name!r}: {problem}; keep PostgreSQL's name as physicalName and choose another as name"
            )
        others = {name for each in contract.columns if each != column for name in each.source_names}
        if again := others & {*column.former_names}:
            raise ValueError(
                f"column {column.name!r}: formerNames has {', '.join(sorted(again))}, which another column claims: "
                f"whose value is it? Take it out of formerNames when all events of before the renaming are loaded"
            )
        if column.masking and column.name in contract.key:
            raise ValueError(f"column {column.name!r}: a key cannot be masked")
        if column.type != "string" and column.masking:
            raise ValueError(f"column {column.name!r}: only text can be masked, not {column.source_type}")
    if contract.dead_letter_count < 0 or not 0 <= contract.dead_letter_share <= 1:
        raise ValueError("deadLetterCount must not be negative, and deadLetterShare must be between 0 and 1")
    if contract.order_date_column and contract.order_date_column not in names:
        raise ValueError(f"orderDateColumn {contract.order_date_column!r} is not a column")
