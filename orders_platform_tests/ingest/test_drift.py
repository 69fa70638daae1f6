"""What is seen of the shop's tables in their events, in whatever form the connector writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import duckdb
import pytest

from orders_platform.contracts import Contract
from orders_platform.ingest.decoding import Decoder
from orders_platform.ingest.drift import Drift, EventForm, judge
from orders_platform.lake.schemas import bronze_schema
from orders_platform_tests.ingest.events import contract, envelope, order
from orders_platform_tests.ingest.test_decoding import DAY, records

TOPIC = "orders.public.orders"
KEY = {"order_id": 1, "shop_id": 2}


def seen(con: duckdb.DuckDBPyConnection, value: Any, key: Any) -> dict[str, frozenset[str]]:
    """The names of each part of an event."""
    found: list[EventForm] = []

    def judged(forms: Sequence[EventForm]) -> Contract:
        found.extend(forms)
        return contract()

    Decoder(con, contract()).decode(records(value, key=json.dumps(key).encode()), "topic-id", DAY, judged=judged)
    return {form.part: form.names for form in found}


@pytest.mark.parametrize("key", [KEY, {"schema": {}, "payload": KEY}], ids=["plain key", "key with its schema"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["plain event", "event with its schema"])
@pytest.mark.parametrize("op", ["c", "d"])
def test_the_key_of_an_event_is_seen_whether_event_or_key_carry_their_schema(
    con: duckdb.DuckDBPyConnection, op: str, wrapped: bool, key: Any
) -> None:
    event = envelope(op, order(1), 1)
    forms = seen(con, {"schema": {}, "payload": event} if wrapped else event, key)
    assert forms["key"] == set(KEY)
    assert forms.get("row") == (set(order(1)) if op == "c" else None)


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain event", "event with its schema"])
def test_of_a_record_of_another_table_nothing_is_seen(con: duckdb.DuckDBPyConnection, wrapped: bool) -> None:
    event = envelope("c", order(1), 1)
    event["source"]["table"] = "customers"
    assert seen(con, {"schema": {}, "payload": event} if wrapped else event, KEY) == {}


@pytest.mark.parametrize(
    ("names", "drift"),
    [
        ({"gross"}, Drift()),
        ({"total"}, Drift()),
        ({"gross", "total"}, Drift(waiting=("total (it is among formerNames of total)",))),
        (set(), Drift(dropped=("gross",))),
    ],
    ids=["renamed", "not yet renamed", "the former name used again", "dropped"],
)
def test_a_former_name_that_is_used_again_is_reported_as_another_column(names: set[str], drift: Drift) -> None:
    of_now = replace(contract().column("total"), physical_name="gross", former_names=("total",))
    renamed = replace(contract(), columns=tuple(of_now if c.name == "total" else c for c in contract().columns))
    row = EventForm("row", frozenset(order(1)) - {"total"} | names, 0, 7)
    judged = judge(renamed, bronze_schema(renamed), [row], (), TOPIC)
    assert (judged.drift, judged.new) == (drift, {})
