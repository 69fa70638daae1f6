"""Case 31 where events carry their schema: what PostgreSQL's types have become is seen before the first value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from orders_platform.ingest.bronze import bronze_table
from orders_platform.ingest.drift_acceptance import accept
from orders_platform.ingest.errors import SchemaDriftError
from orders_platform.quality.shop_snapshot import shop_snapshot
from orders_platform.quality.shop_types import altered_columns
from orders_platform.settings import Settings
from orders_platform_tests.cases.captured import Capture, capturing, write_contract

WITH_SCHEMA = {
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter.schemas.enable": "true",
    "decimal.handling.mode": "precise",
}
COLUMNS = {
    "key": "int",
    "name": {"physicalType": "text", "required": True},
    "amount": "integer",
    "price": "numeric(8,2)",
}
ALTERED = {
    "narrowed": "ALTER TABLE narrowed ALTER amount TYPE smallint; INSERT INTO narrowed VALUES (2, 'b', 2, 2)",
    "cheaper": "ALTER TABLE cheaper ALTER price TYPE numeric(6,2); INSERT INTO cheaper VALUES (2, 'b', 2, 2)",
    "widened": "ALTER TABLE widened ALTER amount TYPE bigint, ALTER price TYPE numeric(12,2);"
    " INSERT INTO widened VALUES (2, 'b', 2, 2)",
    "added": "ALTER TABLE added ADD number bigint, ADD flag boolean, ADD total numeric(10,3), ADD day date;"
    " INSERT INTO added VALUES (2, 'b', 2, 2, 5000000000, true, 1.5, '2026-01-01')",
    "rekeyed": "ALTER TABLE rekeyed DROP CONSTRAINT rekeyed_pkey, ADD PRIMARY KEY (key, name);"
    " INSERT INTO rekeyed VALUES (1, 'a', 1, 1), (1, 'b', 2, 2); DELETE FROM rekeyed WHERE name = 'b'",
}


@pytest.fixture(scope="module")
def capture(live_stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Capture]:
    """A table a kind of change, captured by a connector that writes its schema with each event."""
    folder = tmp_path_factory.mktemp("contracts")
    ddl = ""
    for table in ALTERED:
        write_contract(folder, table, table, COLUMNS, ["key"])
        ddl += f"CREATE TABLE {table} (key int PRIMARY KEY, name text NOT NULL, amount int, price numeric(8,2));"
        ddl += f"INSERT INTO {table} VALUES (0, 'a', 0, 1);"
    home = tmp_path_factory.mktemp("declared")
    with capturing(live_stack, home, "declared", ddl, folder, **WITH_SCHEMA) as capture:
        with capture.shop() as shop:
            for change in ALTERED.values():
                for statement in change.split(";"):
                    shop.execute(statement.encode())
        capture.wait()
        yield capture


@pytest.mark.parametrize(
    ("table", "change", "found", "declared"),
    [
        ("narrowed", "type:amount=smallint", "smallint", "integer"),
        ("cheaper", "type:price=numeric(6,2)", "numeric(6,2)", "numeric(8,2)"),
    ],
)
def test_case_31_a_narrowed_type_stops_the_table_until_it_is_accepted(
    capture: Capture, table: str, change: str, found: str, declared: str
) -> None:
    with pytest.raises(SchemaDriftError) as error:
        capture.load(table)
    message = str(error.value)
    assert f"topic declared.public.{table}[0] from offset 2 on" in message
    assert f"is {found}, in the contract it is {declared}: narrowed?" in message
    assert "nothing is lost" in message
    assert f"orders-platform drift accept {table} '{change}'" in message
    assert bronze_table(capture.catalog, capture.contracts[table]).current_snapshot() is None
    accept(capture.settings, capture.catalog, capture.contracts[table], change, reason="the values fit", by="me")
    capture.load(table)
    assert f"narrowed {change.split('=')[0].removeprefix('type:')} to {found}" in str(capture.loads[table][-1].drift)
    assert capture.compare(table).equal


def test_case_31_another_key_stops_the_table_also_where_events_carry_their_schema(capture: Capture) -> None:
    """Rows of which the contract knows but half the key would be merged into one."""
    with pytest.raises(SchemaDriftError, match=r"the key is \(key,name\), in the contract it is \(key\)") as error:
        capture.load("rekeyed")
    assert "topic declared.public.rekeyed[" in str(error.value)
    assert bronze_table(capture.catalog, capture.contracts["rekeyed"]).current_snapshot() is None
    contract = replace(capture.contracts["rekeyed"], key=("key", "name"))
    capture.contracts["rekeyed"] = contract
    with pytest.raises(SchemaDriftError) as former:
        capture.load("rekeyed")
    accept(capture.settings, capture.catalog, contract, former.value.change, reason="changes of before", by="me")
    capture.load("rekeyed")
    assert capture.silver("rekeyed", "key, name") == [{"key": 0, "name": "a"}, {"key": 1, "name": "a"}]
    assert capture.compare("rekeyed").equal


def test_case_31_the_hourly_look_names_a_narrowed_type_where_events_do_not_tell(capture: Capture) -> None:
    with shop_snapshot(capture.settings.postgres) as snapshot:
        assert altered_columns(snapshot, capture.contracts["narrowed"]) == (
            "amount is smallint, in the contract it is integer: narrowed?",
        )


def test_case_31_a_type_that_the_schema_widens_evolves_before_the_first_value(capture: Capture) -> None:
    capture.load("widened")
    assert str(capture.loads["widened"][-1].drift) == "widened amount to bigint, price to numeric(12,2)"
    assert capture.compare("widened").equal


def test_case_31_a_column_that_is_added_with_its_type_has_that_type(capture: Capture) -> None:
    """But for what a value of that type might not fit: that is kept as it arrived."""
    capture.load("added")
    bronze = bronze_table(capture.catalog, capture.contracts["added"])
    kinds = {name: str(bronze.schema().find_field(name).field_type) for name in ("number", "flag", "total", "day")}
    assert kinds == {"number": "long", "flag": "boolean", "total": "decimal(10, 3)", "day": "string"}
    (row,) = capture.silver("added", "number, flag, total::VARCHAR AS total", "key = 2")
    assert row == {"number": 5000000000, "flag": True, "total": "1.500"}
