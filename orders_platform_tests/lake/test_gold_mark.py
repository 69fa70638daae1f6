"""Gold's mark says what was read and what is owed, and loses nothing on the way."""

from __future__ import annotations

from datetime import date

import pytest
from pyiceberg.catalog import Catalog

from orders_platform.lake.catalog import ensure_table
from orders_platform.lake.commits import commit, head
from orders_platform.lake.gold_mark import GoldMark, GoldMarkError, read_mark
from orders_platform.lake.schemas import silver_schema
from orders_platform_tests.lake.shop_in_silver import contract_of

MONDAY, TUESDAY, WEDNESDAY = date(2026, 3, 2), date(2026, 3, 3), date(2026, 3, 4)
MARK = GoldMark({"silver.orders": 2**62 + 1, "silver.customers": 7}, frozenset({MONDAY, TUESDAY}), "Europe/Berlin")


def test_a_mark_survives_its_way_through_a_summary() -> None:
    assert GoldMark.from_json(MARK.to_json()) == MARK


def test_an_advanced_mark_owes_the_stale_dates_that_were_not_rebuilt() -> None:
    after = MARK.advanced({"silver.orders": 9}, stale=[MONDAY, TUESDAY, WEDNESDAY], rebuilt=[TUESDAY])
    assert after == GoldMark({"silver.orders": 9}, frozenset({MONDAY, WEDNESDAY}), "Europe/Berlin")


def test_a_held_mark_still_owes_what_was_rebuilt_by_hand() -> None:
    after = MARK.held(stale=[MONDAY, TUESDAY, WEDNESDAY], rebuilt=[WEDNESDAY, date(2026, 1, 1)])
    assert after == GoldMark(MARK.inputs, frozenset({MONDAY, TUESDAY, WEDNESDAY}), "Europe/Berlin")


def test_the_mark_is_found_below_commits_of_others(catalog: Catalog) -> None:
    table = ensure_table(catalog, "gold.anything", silver_schema(contract_of("inventory")))
    assert read_mark(table) is None
    commit(table, expected=None, add=(), summary=MARK.summary)
    table.append(table.schema().as_arrow().empty_table())
    assert read_mark(table) == MARK


def test_a_table_with_snapshots_and_no_mark_is_an_error_that_names_it(catalog: Catalog) -> None:
    table = ensure_table(catalog, "gold.anything", silver_schema(contract_of("inventory")))
    commit(table, expected=head(table), add=(), summary={})
    with pytest.raises(GoldMarkError, match=r"gold\.anything: no snapshot reachable from main"):
        read_mark(table)
