"""The connector goes on where it must, on real Debezium: after lost offsets, a lost slot, a first start cut short."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from unittest.mock import Mock

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from orders_platform.contracts import load_contracts
from orders_platform.ingest.topics import create_topics
from orders_platform.settings import Settings
from orders_platform.stack.connect_rest import ConnectRefusedError, ConnectRest
from orders_platform.stack.connector import _refuse_without_signals, ensure_connector, request_snapshot
from orders_platform.stack.debezium import CONNECTOR, SLOT, connector_config, read_slot
from orders_platform.stack.errors import StackError
from orders_platform.stack.part import UnhealthyError
from orders_platform.stack.recovery import PostgresRestoredError, Recovery, SlotLostError
from orders_platform_tests.stack.topic_records import Record, records
from orders_platform_tests.waiting import eventually

_numbers = itertools.count(7_000)
CONTRACTS = load_contracts()


def _execute(settings: Settings, *statements: str) -> None:
    with psycopg.connect(settings.postgres, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def _insert(settings: Settings) -> int:
    """A new customer; returns its key."""
    number = next(_numbers)
    _execute(settings, f"INSERT INTO customers VALUES ({number}, 'a@b.c', 'A', NULL, NULL, 'EU', now(), now())")
    return number


def _of(found: list[Record], number: int) -> list[str | None]:
    """The operations on a key, in their order; None is a tombstone."""
    return [record.value and record.value["op"] for record in found if record.key == {"customer_id": number}]


def _wait_for(settings: Settings, number: int) -> list[Record]:
    return records(settings, "customers", lambda found: bool(_of(found, number)))


@pytest.fixture
def stopped(troubled_stack: Settings) -> Iterator[ConnectRest]:
    """The connector, stopped after it has delivered a row; running again afterwards."""
    _wait_for(troubled_stack, _insert(troubled_stack))
    rest = ConnectRest(troubled_stack)
    rest.stop(CONNECTOR)
    assert eventually(lambda: (now := rest.status(CONNECTOR)) and now.state == "STOPPED" and not now.tasks)
    assert eventually(lambda: (slot := read_slot(troubled_stack.postgres)) and not slot.active)
    yield rest
    ensure_connector(troubled_stack, CONTRACTS, print, accept_new_slot=True)


def test_with_offsets_and_slot_it_goes_on(troubled_stack: Settings, stopped: ConnectRest) -> None:
    meanwhile = _insert(troubled_stack)
    assert stopped.offsets(CONNECTOR)
    assert ensure_connector(troubled_stack, CONTRACTS, print) is Recovery.RESUME
    assert _of(_wait_for(troubled_stack, meanwhile), meanwhile) == ["c"]


def test_without_offsets_the_slot_streams_what_is_unconfirmed_and_nothing_is_read_anew(
    troubled_stack: Settings, stopped: ConnectRest
) -> None:
    meanwhile = _insert(troubled_stack)
    stopped.delete_offsets(CONNECTOR)
    assert ensure_connector(troubled_stack, CONTRACTS, print) is Recovery.STREAM_WHAT_IS_UNCONFIRMED
    found = _wait_for(troubled_stack, meanwhile)
    assert _of(found, meanwhile) == ["c"]
    config = stopped.config(CONNECTOR)
    assert config is not None
    assert config["snapshot.mode"] == "no_data"


def test_without_a_slot_it_stops_and_goes_on_only_when_told(troubled_stack: Settings, stopped: ConnectRest) -> None:
    lost = _insert(troubled_stack)
    _execute(troubled_stack, f"SELECT pg_drop_replication_slot('{SLOT}')")
    with pytest.raises(SlotLostError):
        ensure_connector(troubled_stack, CONTRACTS, print)
    status = stopped.status(CONNECTOR)
    assert status is not None
    assert status.state == "STOPPED"
    assert ensure_connector(troubled_stack, CONTRACTS, print, accept_new_slot=True) is Recovery.NEW_SLOT_ACCEPTED
    assert _of(_wait_for(troubled_stack, lost), lost) == ["r"]


def test_after_a_restore_it_stops_and_goes_on_only_when_told(troubled_stack: Settings, stopped: ConnectRest) -> None:
    """Offsets beyond the end of PostgreSQL's log: what a restored database leaves Connect with."""
    (entry,) = stopped.offsets(CONNECTOR)
    beyond = {**entry["offset"], "lsn": entry["offset"]["lsn"] + 2**40}
    offsets = [{"partition": entry["partition"], "offset": beyond}]
    stopped._call("PATCH", f"/connectors/{CONNECTOR}/offsets", {"offsets": offsets})
    stopped.resume(CONNECTOR)
    with pytest.raises(PostgresRestoredError):
        ensure_connector(troubled_stack, CONTRACTS, print)
    deadline = time.monotonic() + 30
    while (status := stopped.status(CONNECTOR)) is None or status.state != "STOPPED":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    meanwhile = _insert(troubled_stack)
    assert ensure_connector(troubled_stack, CONTRACTS, print, accept_new_slot=True) is Recovery.NEW_SLOT_ACCEPTED
    assert _of(_wait_for(troubled_stack, meanwhile), meanwhile) == ["r"]


def test_without_offsets_and_slot_all_tables_are_read_anew(troubled_stack: Settings, stopped: ConnectRest) -> None:
    meanwhile = _insert(troubled_stack)
    stopped.delete_offsets(CONNECTOR)
    _execute(troubled_stack, f"SELECT pg_drop_replication_slot('{SLOT}')")
    assert ensure_connector(troubled_stack, CONTRACTS, print) is Recovery.FIRST_START
    assert _of(_wait_for(troubled_stack, meanwhile), meanwhile) == ["r"]


def test_a_snapshot_that_debezium_passes_over_is_noticed_and_begun_again(
    troubled_stack: Settings, stopped: ConnectRest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It broke off right behind the notification of its start: Debezium takes the offset of that for a completed one.

    Slot and offsets look as if it had come far then, and the topics have records of a former life.
    """
    meanwhile = _insert(troubled_stack)
    stopped.delete_offsets(CONNECTOR)
    _execute(troubled_stack, f"SELECT pg_drop_replication_slot('{SLOT}')")
    put_config = ConnectRest.put_config

    def broken_off(rest: ConnectRest, connector: str, config: dict[str, str]) -> None:
        put_config(rest, connector, config)
        _execute(troubled_stack, f"SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')")
        offset = {"partition": {"server": troubled_stack.topic_prefix}, "offset": {"ts_usec": 0}}
        rest._call("PATCH", f"/connectors/{CONNECTOR}/offsets", {"offsets": [offset]})

    with monkeypatch.context() as patched:
        patched.setattr(ConnectRest, "put_config", broken_off)
        patched.setattr("orders_platform.stack.connector.DELIVERED_SECONDS", 2.0)
        with pytest.raises(StackError, match="passed over that"):
            ensure_connector(troubled_stack, CONTRACTS, print)
    later = _insert(troubled_stack)
    assert _of(_wait_for(troubled_stack, later), later) == ["c"]
    assert stopped.offsets(CONNECTOR)[0]["offset"]["lsn"]
    assert ensure_connector(troubled_stack, CONTRACTS, print) is Recovery.FIRST_START_AGAIN
    assert _of(_wait_for(troubled_stack, meanwhile), meanwhile) == ["r"]


@pytest.mark.parametrize("cut", ["put_config", "resume"])
def test_a_first_start_that_was_cut_short_is_begun_again(
    troubled_stack: Settings, stopped: ConnectRest, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    """A slot without offsets would do as after lost offsets, but brings nothing from before it was made."""
    meanwhile = _insert(troubled_stack)
    stopped.delete_offsets(CONNECTOR)
    _execute(troubled_stack, f"SELECT pg_drop_replication_slot('{SLOT}')")
    with monkeypatch.context() as patched:
        patched.setattr(ConnectRest, cut, Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ensure_connector(troubled_stack, CONTRACTS, print)
    # What Debezium does first, and then it was killed.
    _execute(troubled_stack, f"SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')")
    assert ensure_connector(troubled_stack, CONTRACTS, print) is Recovery.FIRST_START_AGAIN
    assert _of(_wait_for(troubled_stack, meanwhile), meanwhile) == ["r"]


def test_a_table_that_a_snapshot_cannot_tell_of_is_named(troubled_stack: Settings, stopped: ConnectRest) -> None:
    """All of its rows were deleted while there was no slot: an empty table has no row that says so."""
    product = next(_numbers)
    _execute(
        troubled_stack,
        f"INSERT INTO products VALUES ({product}, 's', 'n', 'd', 'c', 12.30, true, now(), now())",
        f"INSERT INTO inventory VALUES (1, {product}, 1, now())",
    )
    said: list[str] = []
    ensure_connector(troubled_stack, CONTRACTS, said.append)
    records(troubled_stack, "inventory", bool)
    assert [each for each in said if "is empty" in each] == []
    stopped.stop(CONNECTOR)
    assert eventually(lambda: (slot := read_slot(troubled_stack.postgres)) and not slot.active)
    _execute(troubled_stack, f"SELECT pg_drop_replication_slot('{SLOT}')", "DELETE FROM inventory")
    ensure_connector(troubled_stack, CONTRACTS, said.append, accept_new_slot=True)
    (empty,) = (each for each in said if "is empty" in each)
    assert "gaps repair inventory" in empty


def test_a_changed_configuration_is_applied_and_the_same_one_changes_nothing(troubled_stack: Settings) -> None:
    rest = ConnectRest(troubled_stack)
    said: list[str] = []
    config = rest.config(CONNECTOR)
    assert config is not None
    ensure_connector(troubled_stack, CONTRACTS, said.append)
    assert said == []
    rest.put_config(CONNECTOR, {**config, "poll.interval.ms": "700"})
    ensure_connector(troubled_stack, CONTRACTS, said.append)
    assert said == ["the connector's configuration has changed: poll.interval.ms"]
    now = rest.config(CONNECTOR)
    assert now is not None
    assert now["poll.interval.ms"] == "100"


def test_a_table_whose_contract_is_new_is_read_once(troubled_stack: Settings) -> None:
    _execute(
        troubled_stack,
        "CREATE TABLE public.returns (customer_id bigint PRIMARY KEY, reason text)",
        "INSERT INTO public.returns VALUES (1, 'too small')",
    )
    try:
        contracts = (*CONTRACTS, replace(CONTRACTS[0], table="returns"))
        create_topics(troubled_stack, contracts)
        ensure_connector(troubled_stack, contracts, print)
        records(troubled_stack, "returns", lambda found: bool(_of(found, 1)))
        # Written while the table is read, it might be delivered twice: as a change, and as a row that was read.
        _execute(troubled_stack, "INSERT INTO public.returns VALUES (2, 'too large')")
        found = records(troubled_stack, "returns", lambda found: bool(_of(found, 1) and _of(found, 2)))
        assert _of(found, 1) == ["r"]
        assert _of(found, 2) == ["c"]
    finally:
        ensure_connector(troubled_stack, CONTRACTS, print)
        _execute(troubled_stack, "DROP TABLE public.returns")


@pytest.mark.parametrize("cut", ["put_config", "resume", "connector deleted"])
def test_a_table_whose_contract_is_new_is_read_also_by_the_second_attempt(
    troubled_stack: Settings, stopped: ConnectRest, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    table = cut.replace(" ", "_")
    _execute(
        troubled_stack,
        f"CREATE TABLE public.{table} (customer_id bigint PRIMARY KEY, reason text)",
        f"INSERT INTO public.{table} VALUES (1, 'too small')",
    )
    contracts = (*CONTRACTS, replace(CONTRACTS[0], table=table))
    create_topics(troubled_stack, contracts)
    try:
        if cut == "connector deleted":
            stopped._call("DELETE", f"/connectors/{CONNECTOR}")
            assert eventually(lambda: stopped.config(CONNECTOR) is None)
        else:
            with monkeypatch.context() as patched:
                patched.setattr(ConnectRest, cut, Mock(side_effect=KeyboardInterrupt))
                with pytest.raises(KeyboardInterrupt):
                    ensure_connector(troubled_stack, contracts, print)
        assert ensure_connector(troubled_stack, contracts, print) is Recovery.RESUME
        assert set(_of(records(troubled_stack, table, lambda found: bool(_of(found, 1))), 1)) == {"r"}
    finally:
        ensure_connector(troubled_stack, CONTRACTS, print)
        _execute(troubled_stack, f"DROP TABLE public.{table}")


def test_a_role_that_may_not_ask_for_rows_is_told_what_to_have_granted(troubled_stack: Settings) -> None:
    _refuse_without_signals(troubled_stack.postgres)
    with pytest.raises(StackError, match=r"may not write to it: .* GRANT SELECT, INSERT, DELETE ON .* TO pg_monitor"):
        _refuse_without_signals(make_conninfo(troubled_stack.postgres, options="-c role=pg_monitor"))


def test_rows_can_be_read_anew_by_a_signal(troubled_stack: Settings) -> None:
    number = _insert(troubled_stack)
    request_snapshot(troubled_stack.postgres, ["public.customers"])
    found = records(troubled_stack, "customers", lambda found: _of(found, number) == ["c", "r"])
    read = next(r.value for r in found if r.key == {"customer_id": number} and r.value["op"] == "r")
    assert read["source"]["snapshot"] == "incremental"


def test_events_are_what_the_platform_expects(troubled_stack: Settings) -> None:
    number, moved = _insert(troubled_stack), next(_numbers)
    _execute(
        troubled_stack,
        f"UPDATE customers SET customer_id = {moved} WHERE customer_id = {number}",
        f"DELETE FROM customers WHERE customer_id = {moved}",
        f"INSERT INTO products VALUES ({number}, 's', 'n', repeat('abc', 2000), 'c', 12.30, true, now(), now())",
        f"UPDATE products SET price = 13 WHERE product_id = {number}",
        "TRUNCATE inventory",
    )
    customers = records(
        troubled_stack, "customers", lambda found: len(_of(found, number)) == 3 and len(_of(found, moved)) == 3
    )
    assert _of(customers, number) == ["c", "d", None]
    assert _of(customers, moved) == ["c", "d", None]
    created = next(r for r in customers if r.key == {"customer_id": moved})
    assert json.loads(created.headers["__debezium.oldkey"]) == {"customer_id": number}
    assert created.value["after"]["address"] is None
    assert created.value["after"]["created_at"].endswith("Z"), "times are ISO 8601 text"
    assert created.value["transaction"]["id"]

    products = records(
        troubled_stack, "products", lambda found: sum(r.key == {"product_id": number} for r in found) == 2
    )
    first, second = (r.value["after"] for r in products if r.key == {"product_id": number})
    assert first["description"] == "abc" * 2000
    assert second["description"] == "__debezium_unavailable_value"
    assert (first["price"], second["price"]) == ("12.30", "13.00")

    truncated = records(troubled_stack, "inventory", lambda found: any(r.value["op"] == "t" for r in found if r.value))
    assert {record.key is None for record in truncated if record.value and record.value["op"] == "t"} == {True}


def test_heartbeats_and_transactions_have_topics_of_their_own(troubled_stack: Settings) -> None:
    from confluent_kafka.admin import AdminClient

    topics = AdminClient(troubled_stack.kafka_config).list_topics(timeout=10).topics
    assert len(topics["__debezium-heartbeat.orders"].partitions) == 1
    assert len(topics["orders.transaction"].partitions) == 1
    assert all(len(topics[contract.topic("orders")].partitions) == 3 for contract in CONTRACTS)


def test_a_password_reaches_the_connector(settings: Settings) -> None:
    with_password = settings.model_copy(update={"postgres_dsn": "postgresql://me:secret@db.example.com:5433/shop"})
    config = connector_config(with_password, CONTRACTS, "initial")
    assert config["database.password"] == "secret"
    assert (config["database.hostname"], config["database.port"]) == ("db.example.com", "5433")
    assert "database.password" not in connector_config(settings, CONTRACTS, "initial")


def test_connects_own_errors_are_told(troubled_stack: Settings) -> None:
    rest = ConnectRest(troubled_stack)
    with pytest.raises(ConnectRefusedError, match=r"(?s)refused \(400\).*topic\.prefix"):
        rest.put_config("wrong", {"connector.class": "io.debezium.connector.postgresql.PostgresConnector"})
    assert rest.status("none") is None
    assert rest.config("none") is None
    assert rest.offsets("none") == []


def test_a_worker_that_is_not_there_does_not_answer(settings: Settings) -> None:
    with pytest.raises(UnhealthyError, match="does not answer"):
        ConnectRest(settings).worker()
