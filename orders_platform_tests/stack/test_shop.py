"""The simulated shop: what it writes, that it repeats itself for a seed, and that its books balance."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from orders_platform.contracts import load_contracts
from orders_platform.settings import Settings
from orders_platform.stack.shop import ShopError, ShopReport, apply_schema, run_shop
from orders_platform.stack.shop_planner import ShopPlanner
from orders_platform.stack.shop_state import ShopState, read_state
from orders_platform.stack.shop_transaction import SideEnd, SideTransaction
from orders_platform.stack.shop_writer import ShopWriter
from orders_platform_tests.waiting import eventually

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
TABLES = ("customers", "products", "inventory", "orders", "line_items")


def shop(dsn: str, **values: Any) -> ShopReport:
    """A run as fast as it can, at a fixed time."""
    given = {"rate": 100_000.0, "minutes": 1.0, "seed": 7, "orders_a_day": 40, "clock": lambda: NOON, **values}
    return run_shop(dsn, **given)


def ask(dsn: str, query: LiteralString) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, options="-c timezone=UTC") as connection:
        return connection.execute(query).fetchall()


def contents(dsn: str) -> Mapping[str, list[tuple[Any, ...]]]:
    return {table: ask(dsn, f"SELECT t::text FROM {table} AS t ORDER BY 1") for table in TABLES}  # type: ignore[misc]


@pytest.fixture
def dsn(shop_dsn: str) -> str:
    apply_schema(shop_dsn)
    return shop_dsn


@pytest.fixture
def other_dsn(postgres: Settings) -> str:
    """A second database beside the first."""
    with psycopg.connect(postgres.postgres, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS other_shop")
        connection.execute("CREATE DATABASE other_shop")
    other = make_conninfo(postgres.postgres, dbname="other_shop")
    apply_schema(other)
    return other


def test_the_tables_are_those_of_the_contracts(dsn: str) -> None:
    for contract in load_contracts():
        columns = ask(
            dsn,
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute"  # type: ignore[arg-type]
            f" WHERE attrelid = '{contract.table}'::regclass AND attnum > 0 ORDER BY attnum",
        )
        long_names = {"timestamptz": "timestamp with time zone"}
        assert columns == [(c.name, long_names.get(c.source_type, c.source_type), c.required) for c in contract.columns]
        key = ask(
            dsn,
            "SELECT array_agg(a.attname ORDER BY array_position(i.indkey::int2[], a.attnum))"  # type: ignore[arg-type]
            " FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)"
            f" WHERE i.indrelid = '{contract.table}'::regclass AND i.indisprimary",
        )
        assert key == [(list(contract.key),)]


def test_every_referencing_column_leads_an_index_so_that_cascades_stay_cheap(dsn: str) -> None:
    unindexed = ask(
        dsn,
        """
        SELECT c.conrelid::regclass, c.conname FROM pg_constraint c
        WHERE c.contype = 'f' AND NOT EXISTS (
            SELECT FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indkey[0] = c.conkey[1])
        """,
    )
    assert unindexed == []


def test_applying_the_schema_again_changes_nothing(dsn: str) -> None:
    shop(dsn, max_changes=50)
    before = contents(dsn)
    apply_schema(dsn)
    assert contents(dsn) == before


def test_the_schema_can_be_applied_by_several_at_once(shop_dsn: str) -> None:
    errors: list[Exception] = []

    def apply() -> None:
        try:
            apply_schema(shop_dsn)
        except ShopError as error:
            errors.append(error)

    threads = [threading.Thread(target=apply) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_the_same_seed_and_number_of_changes_give_the_same_rows(dsn: str, other_dsn: str) -> None:
    first = shop(dsn, history_days=3, max_changes=1500)
    second = shop(other_dsn, history_days=3, max_changes=1500, rate=90_000.0 + 10_000.0)
    assert contents(dsn) == contents(other_dsn)
    assert (first.changes, first.transactions) == (second.changes, second.transactions)


def test_another_seed_gives_other_rows(dsn: str, other_dsn: str) -> None:
    shop(dsn, max_changes=200)
    shop(other_dsn, max_changes=200, seed=8)
    assert contents(dsn) != contents(other_dsn)


def test_a_second_run_goes_on_from_the_rows_that_are_there(dsn: str) -> None:
    shop(dsn, max_changes=800)
    newest: LiteralString = (
        "SELECT (SELECT max(order_id) FROM orders), (SELECT max(line_item_id) FROM line_items),"
        " (SELECT max(customer_id) FROM customers)"
    )
    (before,) = ask(dsn, newest)
    report = shop(dsn, max_changes=800)
    (after,) = ask(dsn, newest)
    assert all(new > old for new, old in zip(after, before, strict=True))
    assert report.history_rows == 0
    assert report.total >= 800


@pytest.mark.parametrize("gone", ["product_id < 20", "true"])
def test_what_somebody_has_taken_out_of_stock_is_not_sold(dsn: str, gone: str) -> None:
    shop(dsn, max_changes=100)
    with psycopg.connect(dsn) as connection:
        connection.execute(f"DELETE FROM inventory WHERE {gone}")
    assert shop(dsn, max_changes=300).total >= 300


def test_everything_that_a_shop_does_happens(dsn: str) -> None:
    shop(dsn, history_days=2, max_changes=0)
    with psycopg.connect(dsn, autocommit=True) as main, psycopg.connect(dsn, autocommit=True) as side:
        # Shop time at 200 changes a second, as fast as the machine can: orders need half a minute to be delivered.
        planner, writer = ShopPlanner(read_state(main), seed=7, start=NOON, rate=200.0), ShopWriter(main, side)
        while planner.rows < 9000:
            writer.write([planner.next() for _ in range(500)])
        writer.write(planner.finish())
    assert writer.rolled_back > 0
    assert writer.changes.keys() == {
        *("order placed", "order paid", "order shipped", "order delivered", "order cancelled", "order deleted"),
        *("order date corrected", "discount corrected", "quantity changed", "refund", "repricing", "restock"),
        *("stock moved", "product launched", "product edited", "product renumbered", "product deleted"),
        *("customer signed up", "customer moved", "customer deleted", "e-mail changed", "line item renumbered"),
    }
    assert writer.changes.most_common(1)[0][0] == "order placed"


def test_the_rows_said_to_be_changed_are_those_that_postgresql_wrote(dsn: str) -> None:
    def written() -> int:
        """Backends tell what they have written when they end, if not before."""
        others = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        assert eventually(lambda: ask(dsn, others) == [(0,)])
        ((rows,),) = ask(dsn, "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::int FROM pg_stat_user_tables")
        return int(rows)

    shop(dsn, max_changes=300)
    before = written()
    report = shop(dsn, max_changes=3000)
    # PostgreSQL counts the rows of transactions that were rolled back too.
    assert report.total <= written() - before <= report.total + report.rolled_back * 12


def test_the_books_balance(dsn: str) -> None:
    shop(dsn, history_days=3, max_changes=4000)
    wrong = ask(
        dsn,
        """
        SELECT o.order_id FROM orders o
        WHERE total <> (SELECT sum(quantity * unit_price - discount) FROM line_items l WHERE l.order_id = o.order_id)
           OR refunded < 0 OR refunded > total OR total <= 0
        """,
    )
    assert wrong == []


def test_the_past_is_filled_day_by_day_and_only_once(dsn: str) -> None:
    shop(dsn, history_days=5, max_changes=0)
    days = "SELECT created_at::date::text, count(*) FROM orders WHERE created_at < '2026-03-10' GROUP BY 1 ORDER BY 1"
    first = ask(dsn, days)
    assert [day for day, _ in first] == [f"2026-03-0{day}" for day in range(5, 10)]
    assert all(28 <= orders <= 52 for _, orders in first)
    shop(dsn, history_days=7, max_changes=0)
    second = ask(dsn, days)
    assert second[2:] == first
    assert len(second) == 7


def test_orders_of_long_ago_are_closed(dsn: str) -> None:
    shop(dsn, history_days=8, max_changes=1)
    assert ask(dsn, "SELECT DISTINCT status FROM orders WHERE created_at < '2026-03-06' ORDER BY 1") == [
        ("cancelled",),
        ("delivered",),
    ]


def test_descriptions_are_stored_out_of_line(dsn: str) -> None:
    shop(dsn, max_changes=1)
    ((least, stored),) = ask(
        dsn,
        "SELECT min(octet_length(description)),"
        " (SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE relname = 'products') FROM products",
    )
    assert least > 2000
    assert stored > 200 * least


def test_side_transactions_overlap_others_and_never_lock_them_out() -> None:
    planner = ShopPlanner(ShopState(), seed=1, start=NOON, rate=100.0)
    list(planner.opening(0))
    open_side, overlapped, touched = None, 0, 0
    for step in (planner.next() for _ in range(4000)):
        if isinstance(step, SideTransaction):
            assert open_side is None
            open_side = {values[-1] for _, values in step.statements}
        elif isinstance(step, SideEnd):
            open_side = None
        elif open_side:
            overlapped += 1
            key_changes = [v for sql, v in step.statements if "products" in sql and not sql.startswith("INSERT")]
            touched += sum(values[-1] in open_side for values in key_changes)
    assert overlapped > 100
    assert touched == 0


def test_at_500_changes_a_second_it_keeps_its_rate_with_less_than_half_a_core(dsn: str) -> None:
    report = shop(dsn, rate=500.0, minutes=3 / 60)
    assert report.seconds >= 3.0
    assert 1300 <= report.total <= 1600
    assert report.cpu_seconds / report.seconds < 0.5


def test_it_stops_when_it_is_told_to(dsn: str) -> None:
    stop = threading.Event()
    reports: list[ShopReport] = []

    def progress(report: ShopReport) -> None:
        reports.append(report)
        stop.set()

    report = shop(dsn, rate=100.0, minutes=None, stop=stop, progress=progress)
    assert 0 < reports[-1].total <= report.total


def test_two_shops_on_one_database_are_refused(dsn: str) -> None:
    started = threading.Event()
    stop = threading.Event()
    first = threading.Thread(
        target=lambda: shop(dsn, rate=50.0, minutes=None, stop=stop, progress=lambda _: started.set())
    )
    first.start()
    try:
        assert started.wait(20)
        with pytest.raises(ShopError, match="Another shop is writing to this database"):
            shop(dsn)
    finally:
        stop.set()
        first.join()


def test_a_rate_of_nothing_is_refused(dsn: str) -> None:
    with pytest.raises(ShopError, match="rate must be above 0"):
        shop(dsn, rate=0)


@pytest.mark.parametrize("act", [apply_schema, lambda dsn: shop(dsn)], ids=["apply_schema", "run_shop"])
def test_a_database_that_is_not_there_is_an_error_that_says_so(settings: Settings, act: Any) -> None:
    with pytest.raises(ShopError, match="port"):
        act(settings.postgres)
