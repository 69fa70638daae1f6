"""Gold behind silver's own merge: what silver makes of deletes, moved rows and a TRUNCATE reaches the figures."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from pyiceberg.catalog import Catalog

from orders_platform.lake.audit import check_silver, mark_audited
from orders_platform.lake.gold import plan
from orders_platform.lake.gold_run import build_gold
from orders_platform.lake.silver import merge_silver
from orders_platform.settings import Settings
from orders_platform_tests.lake.changes import START, append, change, contract, order
from orders_platform_tests.lake.models_in_process import run_models
from orders_platform_tests.lake.shop_in_silver import gold_daily_revenue

FIRST, SECOND = START.date(), START.date() + timedelta(days=1)


def line(line_item_id: int, op: str, at: int, **values: Any) -> dict[str, Any]:
    full = {
        "order_id": line_item_id // 10, "product_id": 1, "quantity": at, "unit_price": Decimal(1),
        "discount": Decimal(0), "created_at": START, "updated_at": START,
    }  # fmt: skip
    return change({"line_item_id": line_item_id}, op, at, **{**({} if op == "d" else full), **values})


def revenue(catalog: Catalog) -> dict[date, tuple[int, int, Decimal]]:
    """Orders, items and revenue of each date."""
    return {
        day: (row["orders"], row["items"], row["revenue"]) for (day, _, _), row in gold_daily_revenue(catalog).items()
    }


def test_deletes_corrections_and_a_truncate_reach_the_dates_they_concern(settings: Settings, catalog: Catalog) -> None:
    def happen(table: str, *rows: dict[str, Any]) -> tuple[date, ...]:
        of = contract(table)
        append(settings, catalog, of, rows)
        merge_silver(settings, catalog, of)
        checked = check_silver(settings, catalog, of)
        assert checked.passed, checked.description
        mark_audited(catalog, of, int(checked.metadata["snapshot_id"]))
        stale = plan(settings, catalog).stale_dates
        build_gold(settings, catalog, run_dbt=run_models)
        return stale

    later = START + timedelta(days=1)
    happen("orders", order(1, "c", 1), order(2, "c", 2), order(3, "c", 3, created_at=later))
    happen("line_items", line(10, "c", 4), line(20, "c", 5), line(30, "c", 6), line(31, "c", 7))
    assert revenue(catalog) == {FIRST: (2, 9, Decimal(3)), SECOND: (1, 13, Decimal(3))}

    assert happen("line_items", line(31, "d", 8)) == (SECOND,)
    assert revenue(catalog)[SECOND] == (1, 6, Decimal(3))

    assert happen("orders", order(2, "u", 9, created_at=later)) == (FIRST, SECOND)
    assert revenue(catalog) == {FIRST: (1, 4, Decimal(1)), SECOND: (2, 11, Decimal(12))}

    assert happen("orders", order(1, "d", 10)) == (FIRST,)
    assert revenue(catalog) == {SECOND: (2, 11, Decimal(12))}

    assert happen("line_items", change({}, "t", 11)) == (SECOND,)
    assert revenue(catalog) == {SECOND: (2, 0, Decimal(12))}

    assert happen("orders", change({}, "t", 12)) == (SECOND,)
    assert revenue(catalog) == {}
