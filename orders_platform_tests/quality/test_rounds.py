"""Slice by slice, each row is compared within a day, and what was found stays found until it is repaired."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice, pairwise

import psycopg
import pytest
from psycopg import sql
from pyiceberg.catalog import Catalog

from orders_platform.quality import rounds
from orders_platform.quality.comparison import Patience
from orders_platform.quality.errors import ShopUnreadableError
from orders_platform.quality.rounds import LOOKS_A_DAY, Look, Round, look
from orders_platform.settings import Settings
from orders_platform_tests.quality.copied_silver import contract_of, damaged

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
NO_PATIENCE = Patience(limit_seconds=0)


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "LEAST_ROWS", 5)


def day_of_looks(settings: Settings, catalog: Catalog, table: str) -> Iterator[Look]:
    """A day's hourly looks, each from where the one before said that it ended."""
    before = None
    for _ in range(LOOKS_A_DAY):
        found = look(settings, catalog, contract_of(table), before, NOON, NO_PATIENCE)
        before = Round.from_json(found.round.to_json())
        yield found


@pytest.mark.parametrize("table", ["orders", "inventory"])
def test_a_day_of_looks_compares_every_row_and_in_a_round_each_once(
    shop_settings: Settings, catalog: Catalog, table: str
) -> None:
    looks = list(day_of_looks(shop_settings, catalog, table))
    (last,) = [number for number, each in enumerate(looks) if each.round.is_complete]
    whole_round = looks[: last + 1]
    assert 15 < len(whole_round) <= LOOKS_A_DAY
    assert (whole_round[0].within.first, whole_round[-1].within.until) == (None, None)
    borders = [(a.within.until, b.within.first) for a, b in pairwise(whole_round)]
    assert all(until == first is not None for until, first in borders)
    with psycopg.connect(shop_settings.postgres) as connection:
        count = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert count == (sum(each.comparisons[0].source_rows for each in whole_round),)
    assert all(each.passed for each in looks)
    assert whole_round[-1].metadata["covered_percent"] == 100.0
    assert [each.metadata["covered_percent"] for each in whole_round] == sorted(
        each.metadata["covered_percent"] for each in whole_round
    )


def test_rows_that_come_and_go_meanwhile_make_no_hole(shop_settings: Settings, catalog: Catalog) -> None:
    contract = contract_of("line_items")
    with psycopg.connect(shop_settings.postgres, autocommit=True) as connection:
        there = {row[0] for row in connection.execute("SELECT line_item_id FROM line_items").fetchall()}
        compared: list[int] = []
        before, deleted = None, set()
        for number in range(LOOKS_A_DAY):
            found = look(shop_settings, catalog, contract, before, NOON, NO_PATIENCE)
            where = found.within.postgres(contract)
            rows = connection.execute(sql.SQL("SELECT line_item_id FROM line_items WHERE {}").format(where))
            compared += [row[0] for row in rows]
            before = found.round
            if before.is_complete:
                break
            # The border itself goes, and the table grows behind it.
            (border,) = before.next or ()
            connection.execute("DELETE FROM line_items WHERE line_item_id = %s", [border])
            connection.execute(
                "INSERT INTO line_items SELECT line_item_id + 1000000 + %s, order_id, product_id, quantity, unit_price,"
                " discount, created_at, updated_at FROM line_items ORDER BY 1 LIMIT 2",
                [number * 1_000_000],
            )
            deleted.add(int(border or 0))
        assert before is not None
        assert before.is_complete
    assert len(compared) == len(set(compared)), "compared twice"
    assert there - deleted <= set(compared)


def test_a_difference_stays_found_until_it_is_repaired(shop_settings: Settings, catalog: Catalog) -> None:
    with psycopg.connect(shop_settings.postgres) as connection:
        row = connection.execute("SELECT order_id FROM orders ORDER BY 1 OFFSET 40 LIMIT 1").fetchone()
    assert row is not None
    select = f"SELECT * REPLACE (CASE WHEN order_id = {row[0]} THEN total + 1 ELSE total END AS total) FROM t"
    with damaged(shop_settings, catalog, "silver.orders", select):
        looks = list(day_of_looks(shop_settings, catalog, "orders"))
    at = next(number for number, each in enumerate(looks) if not each.passed)
    assert at > 0, "the slice with the altered cell is not the first: this would prove too little"
    assert all(each.passed for each in looks[:at])
    assert not any(each.passed for each in looks[at:])
    assert all(f"order_id={row[0]}: different (total is" in each.description for each in looks[at:])
    assert looks[at].comparisons[0].differing == 1
    assert "orders-platform reconcile" in looks[at].description

    repaired = look(shop_settings, catalog, contract_of("orders"), looks[-1].round, NOON, NO_PATIENCE)
    assert repaired.passed
    assert repaired.round.waiting == ()


def test_a_type_that_is_not_the_contracts_is_a_warning_until_it_is(shop_settings: Settings, catalog: Catalog) -> None:
    contract = contract_of("products")
    assert look(shop_settings, catalog, contract, None, NOON, NO_PATIENCE).passed
    with psycopg.connect(shop_settings.postgres, autocommit=True) as connection:
        connection.execute("CREATE DOMAIN money_of_shop AS numeric(10, 2)")
        connection.execute(
            "ALTER TABLE products ALTER price TYPE money_of_shop, ALTER sku TYPE varchar(80), ALTER name DROP NOT NULL"
        )
        found = look(shop_settings, catalog, contract, None, NOON, NO_PATIENCE)
        connection.execute(
            "ALTER TABLE products ALTER price TYPE numeric(12, 2), ALTER sku TYPE text, ALTER name SET NOT NULL"
        )
        connection.execute("DROP DOMAIN money_of_shop")
    assert (found.passed, found.is_certain, found.round.unequal) == (False, False, ())
    for said in (
        "price is numeric(10,2), in the contract it is numeric(12,2): narrowed?",
        "sku is character varying(80), in the contract it is text: narrowed?",
        "name allows null, in the contract it is required",
    ):
        assert said in found.description
        assert said in str(found.metadata["altered_columns"])
    assert look(shop_settings, catalog, contract, None, NOON, NO_PATIENCE).passed


def test_a_dropped_column_is_said_while_the_others_are_compared(shop_settings: Settings, catalog: Catalog) -> None:
    contract = contract_of("products")
    with psycopg.connect(shop_settings.postgres, autocommit=True) as connection:
        connection.execute("ALTER TABLE products DROP COLUMN category")
    found = look(shop_settings, catalog, contract, None, NOON, NO_PATIENCE)
    assert (found.passed, found.is_certain, found.round.unequal) == (False, False, ())
    assert "The shop has altered the table: category is gone" in found.description
    with psycopg.connect(shop_settings.postgres, autocommit=True) as connection:
        connection.execute("UPDATE products SET name = 'other' WHERE product_id = 1")
    found = look(shop_settings, catalog, contract, None, NOON, NO_PATIENCE)
    assert "product_id=1: different (name is" in found.description


@pytest.mark.parametrize("altered", ["DROP TABLE orders CASCADE", "ALTER TABLE orders DROP COLUMN order_id CASCADE"])
def test_a_table_that_cannot_be_compared_is_red_and_the_round_goes_on_afterwards(
    shop_settings: Settings, catalog: Catalog, altered: str
) -> None:
    contract = contract_of("orders")
    before = look(shop_settings, catalog, contract, None, NOON, NO_PATIENCE).round
    with psycopg.connect(shop_settings.postgres, autocommit=True) as connection:
        connection.execute(altered.encode())
    found = look(shop_settings, catalog, contract, before, NOON, NO_PATIENCE)
    assert (found.passed, found.is_certain, found.round) == (False, True, before)
    assert "does not exist" in found.description
    assert " is gone" in found.description
    assert "does not exist" in str(found.comparisons[0].problem)


def test_when_several_slices_differ_one_is_compared_again_at_a_time(shop_settings: Settings, catalog: Catalog) -> None:
    with damaged(shop_settings, catalog, "silver.orders", "SELECT * REPLACE (refunded + 1 AS refunded) FROM t"):
        looks = list(islice(day_of_looks(shop_settings, catalog, "orders"), 5))
    assert [len(each.round.unequal) for each in looks] == [1, 2, 3, 4, 5]
    assert [len(each.comparisons) for each in looks] == [1, 2, 2, 2, 2], "the shop's database is spared"
    again = [each.comparisons[1].differences[0].key for each in looks[1:]]
    assert len(set(again)) == 3, "each in its turn"
    assert "3 more slices differed" in looks[4].description


def test_a_repair_turns_the_next_look_green_however_long_the_table_was_behind(
    shop_settings: Settings, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a second round, whose slices have other borders; what the first one found is forgotten with its end."""
    contract, before = contract_of("inventory"), None
    with damaged(shop_settings, catalog, "silver.inventory", "SELECT * REPLACE (quantity + 1 AS quantity) FROM t"):
        for slices in (3, 4):
            monkeypatch.setattr(rounds, "SLICES", slices)
            for _ in range(slices):
                before = look(shop_settings, catalog, contract, before, NOON, NO_PATIENCE).round
            assert before is not None
            assert (before.is_complete, len(before.unequal), before.earlier) == (True, slices, ())
        monkeypatch.setattr(rounds, "SLICES", 5)
        found = look(shop_settings, catalog, contract, before, NOON, NO_PATIENCE)
    assert Round.from_json(found.round.to_json()) == found.round
    assert (len(found.round.unequal), len(found.round.earlier)) == (1, 4)
    with monkeypatch.context() as patch:
        patch.setattr(rounds, "AGAIN_SECONDS", 0)
        found = look(shop_settings, catalog, contract, found.round, NOON, NO_PATIENCE)
        assert (found.passed, len(found.comparisons)) == (False, 2), "a look has an end"
    found = look(shop_settings, catalog, contract, found.round, NOON, NO_PATIENCE)
    assert found.passed


def test_what_may_only_be_late_is_no_certain_difference(shop_settings: Settings, catalog: Catalog) -> None:
    with psycopg.connect(shop_settings.postgres, autocommit=True) as connection:
        connection.execute("UPDATE inventory SET quantity = quantity + 1")
    found = look(shop_settings, catalog, contract_of("inventory"), None, NOON, NO_PATIENCE)
    assert (found.passed, found.is_certain) == (False, False)
    assert "30 of which may only be late" in found.description


def test_a_look_that_could_not_be_made_changes_nothing(settings: Settings, catalog: Catalog) -> None:
    with pytest.raises(ShopUnreadableError):
        look(settings, catalog, contract_of("orders"), None, NOON, NO_PATIENCE)
