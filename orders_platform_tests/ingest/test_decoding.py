"""Records to bronze rows: what becomes a row, what is counted, what is kept with its reason."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from orders_platform.ingest.decoding import RECORDS, Decoded, Decoder
from orders_platform_tests.ingest.events import CREATED, contract, envelope, order, source

DAY = date(2026, 3, 1)


def records(*values: Any, key: Any = b'{"order_id": 1}', headers: str | None = None) -> pa.Table:
    rows = [
        {
            "partition": 0,
            "offset": offset,
            "timestamp": datetime(2026, 3, 1, 12, tzinfo=UTC),
            "key": key,
            "value": value if value is None or isinstance(value, bytes) else json.dumps(value).encode(),
            "headers": headers,
        }
        for offset, value in enumerate(values)
    ]
    return pa.Table.from_pylist(rows, schema=RECORDS)


def decode(
    con: duckdb.DuckDBPyConnection, batch: pa.Table, table: str = "orders"
) -> tuple[Decoded, list[dict[str, Any]]]:
    result = Decoder(con, contract(table)).decode(batch, "topic-id", DAY)
    return result, con.execute(result.sql).to_arrow_table().to_pylist()


def test_a_change_becomes_a_typed_row_with_its_place_in_the_order_of_changes(con: duckdb.DuckDBPyConnection) -> None:
    result, (row,) = decode(con, records(envelope("c", order(9), 500, source=source(500, 400))))
    assert (result.records, result.rows, result.dead, result.tombstones, result.skipped) == (1, 1, 0, 0, 0)
    assert (row["order_id"], row["total"], row["status"]) == (9, Decimal("12.50"), "placed")
    assert row["created_at"] == datetime.fromisoformat(CREATED)
    assert (row["_op"], row["_epoch"], row["_commit_pos"], row["_lsn"], row["_tx_id"]) == ("c", 0, 400, 500, 500)
    assert (row["_topic_id"], row["_kafka_partition"], row["_kafka_offset"], row["_ingest_day"]) == (
        "topic-id",
        0,
        0,
        DAY,
    )
    assert row["_snapshot"] is row["_error"] is row["_raw"] is row["_unavailable"] is None


@pytest.mark.parametrize(
    ("given", "commit", "lsn"),
    [
        ({"lsn": 7, "sequence": '["3","7"]'}, 3, 7),
        ({"lsn": 7, "sequence": '[null,"7"]'}, 7, 7),
        ({"lsn": 7, "sequence": None}, 7, 7),
        ({"lsn": None, "sequence": '["3","7"]'}, 3, 7),
    ],
)
def test_positions_come_from_the_lsn_and_the_sequence(
    con: duckdb.DuckDBPyConnection, given: dict[str, Any], commit: int, lsn: int
) -> None:
    _, (row,) = decode(con, records(envelope("u", order(), 1, source={**source(1), "snapshot": "false", **given})))
    assert (row["_commit_pos"], row["_lsn"], row["_snapshot"]) == (commit, lsn, None)


def test_a_delete_has_its_key_alone_although_the_connector_fills_in_zeros(con: duckdb.DuckDBPyConnection) -> None:
    zeros = order(5, customer_id=0, status="", total="0.00", created_at="1970-01-01T00:00:00Z")
    _, rows = decode(con, records(envelope("d", zeros, 1), envelope("d", None, 2), key=b'{"order_id": 5}'))
    assert [(row["_op"], row["order_id"], row["status"], row["created_at"]) for row in rows] == [
        ("d", 5, None, None)
    ] * 2


def test_the_key_may_carry_its_schema(con: duckdb.DuckDBPyConnection) -> None:
    _, (row,) = decode(con, records(envelope("d", None, 1), key=b'{"schema": {}, "payload": {"order_id": 5}}'))
    assert row["order_id"] == 5


def test_tombstones_heartbeats_transactions_and_messages_make_no_row_and_are_counted(
    con: duckdb.DuckDBPyConnection,
) -> None:
    begin = {"status": "BEGIN", "id": "5:6", "event_count": None, "ts_ms": 1}
    message = {"op": "m", "ts_ms": 1, "source": source(1), "message": {"prefix": "p", "content": ""}}
    result, rows = decode(con, records(None, {"ts_ms": 1}, begin, message, envelope("c", order(), 1)))
    assert (result.records, result.tombstones, result.skipped, result.rows) == (5, 1, 3, 1)
    assert len(rows) == 1


def test_a_truncate_is_a_row_without_a_key(con: duckdb.DuckDBPyConnection) -> None:
    _, (row,) = decode(con, records(envelope("t", None, 8), key=None))
    assert (row["_op"], row["_lsn"], row["order_id"], row["_error"]) == ("t", 8, None, None)


def test_an_unchanged_long_text_is_listed_and_never_shown(con: duckdb.DuckDBPyConnection) -> None:
    product = {"product_id": 1, "sku": "A", "name": "B", "description": "__debezium_unavailable_value", "category": "c"}
    product |= {"price": "1.00", "active": True, "created_at": CREATED, "updated_at": CREATED}
    event = envelope("u", product, 1, source=source(1, table="products"))
    _, (row,) = decode(con, records(event, key=b'{"product_id": 1}'), "products")
    assert (row["description"], row["_unavailable"], row["_error"]) == (None, ["description"], None)


@pytest.mark.parametrize("old", ['{"order_id": 3}', '{"schema": {}, "payload": {"order_id": 3}}'])
def test_the_old_key_of_a_changed_key_is_kept(con: duckdb.DuckDBPyConnection, old: str) -> None:
    headers = json.dumps([["other", None], ["__debezium.oldkey", base64.b64encode(old.encode()).decode()]])
    _, (row,) = decode(con, records(envelope("c", order(4), 1), headers=headers))
    assert json.loads(row["_old_key"]) == {"order_id": 3}


BAD: list[tuple[Any, str, str]] = [
    (b"{not json", "NotJson", "not JSON"),
    (b"\xff\xfe", "NotJson", "not JSON"),
    (b"", "NotJson", "not JSON"),
    (b"[1, 2]", "NotAnEnvelope", "no op"),
    (b"17", "NotAnEnvelope", "no op"),
    ({"order_id": 1}, "NotAnEnvelope", "no op"),
    (envelope("x", order(), 1), "UnknownOperation", "x"),
    (envelope("c", order(), 1, source=source(1, table="customers")), "OtherTable", "public.customers"),
    (envelope("c", order(), 1, source={"table": "orders"}), "NoPosition", "place in order"),
    (envelope("c", None, 1), "MissingRow", "after is missing"),
    (envelope("c", order(order_id=None), 1), "MissingKey", "order_id"),
    (envelope("c", order(status=None), 1), "MissingValue", "status is missing or null"),
    (envelope("c", order(customer_id="seven"), 1), "WrongType", "customer_id bigint cannot be this text: seven"),
    (envelope("c", order(total="1.234"), 1), "ValueOutOfRange", "total numeric(14,2)"),
    (envelope("c", order(total="1" * 20), 1), "ValueOutOfRange", "total numeric(14,2)"),
    (envelope("c", order(created_at="infinity"), 1), "ValueOutOfRange", "created_at"),
]


def test_a_column_that_is_not_there_was_dropped_and_is_null_also_where_a_value_is_required(
    con: duckdb.DuckDBPyConnection,
) -> None:
    """Beside it, an explicit null breaks the contract as ever."""
    without = {name: value for name, value in order(1).items() if name != "status"}
    result, rows = decode(con, records(envelope("c", without, 1), envelope("c", order(2, status=None), 2)))
    assert (result.rows, result.dead) == (1, 1)
    assert [(row["order_id"], row["status"]) for row in rows] == [(1, None), (None, None)]


def test_what_does_not_say_that_it_is_of_this_table_has_dropped_nothing(con: duckdb.DuckDBPyConnection) -> None:
    value = envelope("c", {name: value for name, value in order(1).items() if name != "status"}, 1)
    del value["source"]["table"]
    result, (row,) = decode(con, records(value))
    assert result.dead == 1
    assert row["_error"]["error_class"] == "MissingValue"


@pytest.mark.parametrize(("value", "error_class", "message"), BAD)
def test_a_bad_record_keeps_its_place_with_the_reason_and_its_bytes(
    con: duckdb.DuckDBPyConnection, value: Any, error_class: str, message: str
) -> None:
    batch = records(envelope("c", order(), 1), value, envelope("c", order(), 2), headers='[["h", "eA=="]]')
    result, rows = decode(con, batch)
    assert (result.rows, result.dead) == (2, 1)
    bad = rows[1]
    assert bad["_kafka_offset"] == 1
    assert bad["order_id"] is None
    assert bad["_op"] is None
    assert bad["_error"]["error_class"] == error_class
    assert message in bad["_error"]["message"]
    assert bad["_error"]["contract_version"] == contract().version
    raw = batch["value"][1].as_py()
    assert bad["_raw"] == {"key": b'{"order_id": 1}', "value": raw, "headers": '[["h", "eA=="]]'}


def test_a_change_without_a_key_is_a_dead_letter(con: duckdb.DuckDBPyConnection) -> None:
    _, (row,) = decode(con, records(envelope("c", order(), 1), key=None))
    assert row["_error"]["error_class"] == "MissingKey"


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain event", "event with its schema"])
@pytest.mark.parametrize(
    ("columns", "total"),
    [
        ({"gross": "1.00"}, "1.00"),
        ({"net": "2.00"}, "2.00"),
        ({"total": "3.00"}, "3.00"),
        ({"net": "2.00", "total": "3.00"}, "2.00"),
        ({"gross": None, "net": "2.00", "total": "3.00"}, None),
        ({"gross": None, "total": "3.00"}, None),
        ({"net": None, "total": "3.00"}, None),
    ],
)
def test_a_former_name_is_read_only_where_the_row_has_no_later_one(
    con: duckdb.DuckDBPyConnection, columns: dict[str, str | None], total: str | None, wrapped: bool
) -> None:
    """The shop may use it again for another column."""
    of_now = replace(contract().column("total"), physical_name="gross", former_names=("net", "total"), required=False)
    renamed = replace(contract(), columns=tuple(of_now if c.name == "total" else c for c in contract().columns))
    row = {name: value for name, value in order(1).items() if name != "total"} | columns
    event = envelope("c", row, 1)
    batch = records({"schema": {}, "payload": event} if wrapped else event)
    decoded = Decoder(con, renamed).decode(batch, "topic-id", DAY)
    assert con.execute(f"SELECT total::VARCHAR FROM ({decoded.sql})").fetchall() == [(total,)]


def test_events_that_carry_their_schema_are_decoded_by_it_beside_those_that_do_not(
    con: duckdb.DuckDBPyConnection,
) -> None:
    decimal = {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "2"}}
    columns = [{"field": "total", **decimal}, {"field": "refunded", "type": "string"}]
    schema = {"type": "struct", "fields": [{"field": "after", "type": "struct", "fields": columns}]}
    wrapped = {"schema": schema, "payload": envelope("c", order(2, total="1234"), 2)}
    plain = {"schema": None, "payload": envelope("c", order(3), 3)}
    result, rows = decode(con, records(envelope("c", order(1), 1), wrapped, plain))
    assert result.rows == 3
    assert [(row["order_id"], row["total"]) for row in rows] == [
        (1, Decimal("12.50")), (2, Decimal("-26588.24")), (3, Decimal("12.50")),
    ]  # fmt: skip


def test_fields_that_the_contract_does_not_know_do_no_harm(con: duckdb.DuckDBPyConnection) -> None:
    result, _ = decode(con, records({**envelope("c", order(new_column={"a": [1]}), 1), "extra": 1}))
    assert result.rows == 1


def test_a_table_with_a_key_of_two_columns_is_deleted_by_both(con: duckdb.DuckDBPyConnection) -> None:
    event = envelope("d", None, 1, source=source(1, table="inventory"))
    _, (row,) = decode(con, records(event, key=b'{"warehouse_id": 3, "product_id": 4}'), "inventory")
    assert (row["warehouse_id"], row["product_id"], row["quantity"]) == (3, 4, None)
