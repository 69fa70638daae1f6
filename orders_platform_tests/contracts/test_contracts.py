"""A contract is either usable as a whole or refused with the file, the place and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from orders_platform.contracts import ContractError, Masking, load_contract, load_contracts
from orders_platform.contracts.column_types import UnsupportedTypeError, canonical_type

CONTRACTS = load_contracts()


def test_the_five_source_tables_are_described() -> None:
    assert [c.table for c in CONTRACTS] == ["customers", "inventory", "line_items", "orders", "products"]


def test_a_key_of_two_columns_keeps_its_order() -> None:
    (inventory,) = (c for c in CONTRACTS if c.table == "inventory")
    assert inventory.key == ("warehouse_id", "product_id")
    assert [c.type for c in inventory.key_columns] == ["int", "long"]


def test_history_is_kept_where_the_contract_says_so() -> None:
    assert {c.table for c in CONTRACTS if c.versions_table} == {"customers", "products"}


def test_all_personal_data_of_customers_is_masked() -> None:
    (customers,) = (c for c in CONTRACTS if c.table == "customers")
    masked = {c.name: c.masking for c in customers.columns if c.masking}
    assert masked == {
        "email": Masking.HMAC,
        "full_name": Masking.HMAC,
        "phone": Masking.HMAC,
        "address": Masking.LAST_PART,
    }


def test_a_topic_is_named_as_debezium_names_it() -> None:
    (orders,) = (c for c in CONTRACTS if c.table == "orders")
    assert orders.topic("orders") == "orders.public.orders"
    assert orders.order_date_column == "created_at"


@pytest.mark.parametrize(
    ("source", "canonical"),
    [
        ("smallint", "int"),
        ("BIGINT", "long"),
        ("numeric(12,2)", "decimal(12, 2)"),
        ("numeric(38)", "decimal(38, 0)"),
        ("numeric", "string"),
        ("double precision", "double"),
        ("varchar(20)", "string"),
        ("timestamp without time zone", "timestamp"),
        ("timestamptz", "timestamptz"),
        ("text[]", "string"),
        ("varchar(20)[]", "string"),
        ("numeric(39,2)", "string"),
        ("numeric(5,-2)", "decimal(7, 0)"),
        ("timestamptz(3)", "timestamptz"),
    ],
)
def test_a_postgresql_type_has_one_name_in_the_tables(source: str, canonical: str) -> None:
    assert canonical_type(source) == canonical


@pytest.mark.parametrize("source", ["money", "timetz", "numeric[]", "float8[]", "numeric(4,8)", "geometry", ""])
def test_a_type_without_a_place_in_the_tables_is_refused(source: str) -> None:
    with pytest.raises(UnsupportedTypeError, match="is not supported; declare the column as"):
        canonical_type(source)


def _document() -> dict[str, Any]:
    return {
        "kind": "DataContract",
        "version": "1.0.0",
        "team": [{"username": "me@example.com"}],
        "schema": [
            {
                "physicalName": "public.things",
                "properties": [
                    {"name": "id", "physicalType": "bigint", "primaryKey": True, "required": True},
                    {"name": "label", "physicalType": "text"},
                ],
            }
        ],
    }


def _write(folder: Path, document: object, name: str = "things.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def test_a_minimal_contract_is_enough(tmp_path: Path) -> None:
    contract = load_contract(_write(tmp_path, _document()))
    assert (contract.table, contract.key, contract.history) == ("things", ("id",), False)
    assert contract.bronze_table == "bronze.things"


def test_postgresqls_names_are_kept_where_they_are_none_for_the_lake(tmp_path: Path) -> None:
    document = _document()
    document["schema"][0] |= {"name": "things", "physicalName": 'public.Old "Things", again'}
    _properties(document)[1] |= {"physicalName": "_label"}
    contract = load_contract(_write(tmp_path, document))
    assert (contract.table, contract.source, contract.column("label").source_name) == (
        "things", 'public.Old "Things", again', "_label",
    )  # fmt: skip
    assert contract.topic("shop") == "shop.public.Old__Things___again"


def _properties(document: dict[str, Any]) -> list[dict[str, Any]]:
    properties: list[dict[str, Any]] = document["schema"][0]["properties"]
    return properties


def _break_key(document: dict[str, Any]) -> None:
    del _properties(document)[0]["primaryKey"]


def _break_twice(document: dict[str, Any]) -> None:
    _properties(document).append({"name": "label", "physicalType": "text"})


def _break_underscore(document: dict[str, Any]) -> None:
    _properties(document)[1]["name"] = "_seq"


def _break_case(document: dict[str, Any]) -> None:
    _properties(document).append({"name": "Label", "physicalType": "text"})


def _break_engine_name(document: dict[str, Any]) -> None:
    _properties(document)[1]["name"] = "filename"


def _break_table_name(document: dict[str, Any]) -> None:
    document["schema"][0]["name"] = "Things"


def _break_masked_key(document: dict[str, Any]) -> None:
    _properties(document)[0]["customProperties"] = [{"property": "masking", "value": "hmac"}]


def _break_masked_number(document: dict[str, Any]) -> None:
    _properties(document)[1] |= {
        "physicalType": "integer",
        "customProperties": [{"property": "masking", "value": "hmac"}],
    }


def _break_masking(document: dict[str, Any]) -> None:
    _properties(document)[1]["customProperties"] = [{"property": "masking", "value": "rot13"}]


def _break_type(document: dict[str, Any]) -> None:
    _properties(document)[1]["physicalType"] = "money"


def _break_former_name(document: dict[str, Any]) -> None:
    formers = [{"property": "formerNames", "value": ["title"]}]
    _properties(document)[1] |= {"customProperties": formers}
    _properties(document).append({"name": "heading", "physicalName": "title", "physicalType": "text"})


def _break_shared_former_name(document: dict[str, Any]) -> None:
    formers = [{"property": "formerNames", "value": ["title"]}]
    _properties(document)[1] |= {"customProperties": formers}
    _properties(document).append({"name": "heading", "physicalType": "text", "customProperties": formers})


def _break_order_date(document: dict[str, Any]) -> None:
    document["customProperties"] = [{"property": "orderDateColumn", "value": "placed_at"}]


def _break_kind(document: dict[str, Any]) -> None:
    document["kind"] = "DataProduct"


def _break_version(document: dict[str, Any]) -> None:
    del document["version"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_break_key, "no column has primaryKey"),
        (_break_twice, "columns named twice: label"),
        (_break_underscore, "names that start with _ belong to the platform"),
        (_break_case, "differ only in case"),
        (_break_engine_name, "the name is taken"),
        (_break_table_name, "lower case letters"),
        (_break_masked_key, "a key cannot be masked"),
        (_break_masked_number, "only text can be masked, not integer"),
        (_break_masking, "rot13"),
        (_break_type, "'money' is not supported"),
        (_break_former_name, "column 'label': formerNames has title, which another column claims: .*Take it out"),
        (_break_shared_former_name, "column 'label': formerNames has title, which another column claims"),
        (_break_order_date, "orderDateColumn 'placed_at' is not a column"),
        (_break_kind, "kind must be DataContract"),
        (_break_version, "'version' is missing"),
    ],
)
def test_a_contract_that_contradicts_itself_is_refused_by_name(tmp_path: Path, damage: Any, message: str) -> None:
    document = _document()
    damage(document)
    path = _write(tmp_path, document)
    with pytest.raises(ContractError, match=message) as error:
        load_contract(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "things.yaml"
    path.write_text("kind: [unclosed", encoding="utf-8")
    with pytest.raises(ContractError, match=r"things\.yaml"):
        load_contract(path)


def test_the_file_is_named_like_its_table(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"must be named things\.yaml"):
        load_contract(_write(tmp_path, _document(), "other.yaml"))


def test_a_folder_without_contracts_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no contract"):
        load_contracts(tmp_path)
