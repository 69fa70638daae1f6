"""Reconciliation on the live stack, while the shop writes and its changes are carried to silver."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Producer
from pyiceberg.catalog import Catalog

from orders_platform.contracts import load_contracts
from orders_platform.ingest.backlog import unread
from orders_platform.ingest.bronze import load_day
from orders_platform.ingest.staging import stage_day
from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.duckdb_engine import connect, scan_sql
from orders_platform.lake.silver import merge_silver
from orders_platform.quality.comparison import Patience, compare
from orders_platform.quality.fences import SilverFence
from orders_platform.quality.key_range import KeyRange
from orders_platform.quality.reconcile import _silver_pair, reconcile_silver
from orders_platform.quality.shop_snapshot import shop_snapshot
from orders_platform.settings import Settings
from orders_platform.stack import down, up
from orders_platform.stack.shop import run_shop
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.quality.copied_silver import contract_of, damaged

pytestmark = pytest.mark.timeout(240)


@contextmanager
def working(work: Callable[[threading.Event], object]) -> Iterator[None]:
    """Does the work in a thread until the block ends; an error of its own is raised there."""
    stop, errors = threading.Event(), []

    def run() -> None:
        try:
            work(stop)
        except Exception as error:  # noqa: BLE001 raised again below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]


def carry(settings: Settings, catalog: Catalog, stop: threading.Event) -> None:
    """Micro-batches from Kafka to silver, one after the other."""
    while not stop.is_set():
        for contract in load_contracts():
            for day in unread(settings, catalog, contract).days:
                stage_day(settings, contract, day)
                load_day(settings, catalog, contract, day)
            merge_silver(settings, catalog, contract)


@pytest.fixture(scope="module")
def live_stack(new_home: Callable[[str], Path]) -> Iterator[Settings]:
    """A stack of this module's own: a fence waits for every slot, so nobody else's may be left behind here."""
    settings = new_settings(new_home("compared"))
    try:
        up(settings, print)
        yield settings
    finally:
        down(settings, print)


@pytest.fixture
def catalog(live_stack: Settings) -> Catalog:
    return open_catalog(live_stack)


def test_silver_is_proved_equal_while_the_shop_writes(live_stack: Settings, catalog: Catalog) -> None:
    shop = lambda stop: run_shop(live_stack.postgres, 40, None, 5, history_days=1, orders_a_day=50, stop=stop)  # noqa: E731
    carrier = lambda stop: carry(live_stack, open_catalog(live_stack), stop)  # noqa: E731
    with working(carrier), working(shop):
        _wait_for_silver(catalog)
        for _ in range(10):
            while_writing = reconcile_silver(live_stack, catalog)
            assert [str(table) for table in while_writing if not table.equal] == []
            if moved := any(table.looks > 1 for table in while_writing):
                break
    assert moved, "nothing moved while it was compared: this proves too little"

    with working(carrier):
        # The first comparison waits until silver has all that was written; the second one begins with that.
        reconcile_silver(live_stack, catalog)
        quiet = reconcile_silver(live_stack, catalog)
        assert [str(table) for table in quiet if not table.equal] == []
        assert all(table.rows == table.source_rows for table in quiet)


def test_a_difference_is_told_from_a_delay_by_the_fence(live_stack: Settings, catalog: Catalog) -> None:
    with psycopg.connect(live_stack.postgres) as connection:
        row = connection.execute("SELECT max(order_id) FROM orders").fetchone()
    assert row is not None
    select = f"SELECT * REPLACE (CASE WHEN order_id = {row[0]} THEN total + 1 ELSE total END AS total) FROM t"
    with damaged(live_stack, catalog, "silver.orders", select):
        # With patience for an hour, only the fence can end this within the time that a test has.
        comparisons = reconcile_silver(live_stack, catalog, patience=Patience(limit_seconds=3600))
    (orders,) = (comparison for comparison in comparisons if not comparison.equal)
    assert [difference.key[0][1] for difference in orders.differences] == [str(row[0])]


def test_a_transaction_that_wrote_before_the_marker_and_committed_after_it_is_a_delay(
    live_stack: Settings, catalog: Catalog
) -> None:
    """The change lies below the marker in the log, and silver holds changes from above it: by LSN it is missing."""
    orders = contract_of("orders")
    with psycopg.connect(live_stack.postgres, autocommit=True) as shop, psycopg.connect(live_stack.postgres) as slow:
        (late_key,), (other_key,) = shop.execute("SELECT order_id FROM orders ORDER BY 1 DESC LIMIT 2").fetchall()
        update = "UPDATE orders SET refunded = refunded + 0.01 WHERE order_id = %s"
        slow.execute(update, [late_key])
        fence = SilverFence(live_stack, catalog, orders)
        shop.execute(update, [other_key])
        with working(lambda stop: carry(live_stack, open_catalog(live_stack), stop)):
            _until(lambda: fence() and _lsn(live_stack, catalog, other_key) > fence._lsn)
        slow.commit()

    within = KeyRange((str(late_key),))
    with connect(live_stack) as con:
        with shop_snapshot(live_stack.postgres) as snapshot:
            pair = _silver_pair(live_stack, catalog, con, orders, snapshot, within)
        above_the_marker = lambda: _lsn(live_stack, catalog, other_key) > fence._lsn  # noqa: E731
        by_lsn = compare(con, replace(pair, make_fence=lambda: above_the_marker), Patience(limit_seconds=300), 10)
        assert (by_lsn.differing, by_lsn.is_certain) == (1, True), "what a fence made of an LSN says"

        given_up = compare(con, pair, Patience(limit_seconds=2), 10)
        assert (given_up.differing, given_up.undecided) == (1, 1)
        with working(lambda stop: carry(live_stack, open_catalog(live_stack), stop)):
            patient = compare(con, pair, Patience(limit_seconds=120), 10)
    assert patient.equal, str(patient)


def test_a_fence_waits_for_what_is_in_kafka_and_not_yet_marked_as_committed(
    live_stack: Settings, catalog: Catalog
) -> None:
    """The broker tells the readers of each partition of a transaction's end after it has told the connector."""
    orders = contract_of("orders")
    producer = Producer({**live_stack.kafka_config, "transactional.id": "slow", "log_level": 0})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(orders.topic(live_stack.topic_prefix), b"of a transaction that ends late", partition=1)
    producer.flush(30)
    try:
        fence = SilverFence(live_stack, catalog, orders)
        with working(lambda stop: carry(live_stack, open_catalog(live_stack), stop)):
            _until(lambda: fence() or fence._log is not None)
            _until(lambda: not unread(live_stack, catalog, orders).days)
        assert not fence()
    finally:
        producer.abort_transaction(30)
    with working(lambda stop: carry(live_stack, open_catalog(live_stack), stop)):
        _until(fence)


def _lsn(settings: Settings, catalog: Catalog, order_id: int) -> int:
    """Position of the last change that silver has of an order."""
    table = catalog.load_table("silver.orders")
    with connect(settings) as con:
        row = con.execute(f"SELECT _lsn FROM {scan_sql(table)} WHERE order_id = {order_id}").fetchone()
    return int(row[0]) if row else 0


def _until(come: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not come():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _wait_for_silver(catalog: Catalog) -> None:
    deadline = time.monotonic() + 90
    while not all(catalog.table_exists(contract.silver_table) for contract in load_contracts()):
        assert time.monotonic() < deadline, "silver did not get its tables"
        time.sleep(0.5)
