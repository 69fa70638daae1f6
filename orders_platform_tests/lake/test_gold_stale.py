"""What is stale follows from the tables alone, whatever happened to the runs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from pyiceberg.catalog import Catalog

from orders_platform.lake.commits import head, move_ref
from orders_platform.lake.gold import plan
from orders_platform.lake.gold_run import GoldResult, build_gold
from orders_platform.lake.gold_workspace import Workspace
from orders_platform.lake.maintenance import expire
from orders_platform.settings import Settings
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.lake.models_in_process import run_models
from orders_platform_tests.lake.shop_in_silver import ShopInSilver, at, gold_daily_revenue

FIRST, SECOND, THIRD, FOURTH = (date(2026, 3, day) for day in (1, 2, 3, 4))


class Gold:
    """The platform's side of a scenario."""

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        self.settings, self.catalog = settings, catalog

    def stale(self) -> tuple[date, ...]:
        return plan(self.settings, self.catalog).stale_dates

    def build(self, dates: Iterable[date] | None = None, *, by_hand: bool = False) -> GoldResult:
        chosen = tuple(dates) if dates is not None else None
        return build_gold(self.settings, self.catalog, chosen, by_hand=by_hand, run_dbt=run_models)

    def shown(self) -> object:
        return gold_daily_revenue(self.catalog)


@pytest.fixture
def gold(settings: Settings, catalog: Catalog) -> Gold:
    return Gold(settings, catalog)


@pytest.fixture
def built(shop: ShopInSilver, gold: Gold) -> ShopInSilver:
    """Three days of orders, four customers, two lines an order, and gold built from them."""
    shop.put("customers", [shop.customer(number, ("EU", "US")[number % 2]) for number in range(1, 5)])
    shop.put("orders", [shop.order(n, at(1 + n % 3), customer_id=1 + n % 4) for n in range(30)])
    shop.put("line_items", [shop.line(n, n // 2, quantity=1 + n % 3) for n in range(60)])
    gold.build()
    return shop


def test_everything_is_stale_before_the_first_build_and_nothing_after_it(shop: ShopInSilver, gold: Gold) -> None:
    shop.put("orders", [shop.order(1, at(1)), shop.order(2, at(3))])
    assert gold.stale() == (FIRST, THIRD)
    gold.build()
    assert gold.stale() == ()
    assert gold.shown() == shop.daily_revenue()


def test_nothing_is_stale_without_silver(gold: Gold) -> None:
    assert gold.stale() == ()
    assert gold.build().dates == ()


def test_a_changed_order_makes_its_date_stale(built: ShopInSilver, gold: Gold) -> None:
    built.put("orders", [built.order(4, at(2), status="cancelled")])
    assert gold.stale() == (SECOND,)
    gold.build()
    assert gold.shown() == built.daily_revenue()


def test_a_corrected_order_date_makes_the_old_and_the_new_date_stale(built: ShopInSilver, gold: Gold) -> None:
    built.put("orders", [built.order(4, at(4))])
    assert gold.stale() == (SECOND, FOURTH)
    gold.build()
    assert gold.shown() == built.daily_revenue()


def test_a_deleted_order_leaves_the_date_on_which_gold_has_it(built: ShopInSilver, gold: Gold) -> None:
    built.delete("orders", (4,))
    assert gold.stale() == (SECOND,)
    gold.build()
    assert gold.shown() == built.daily_revenue()


def test_a_deleted_line_item_is_found_by_what_it_was_though_only_its_key_is_left(
    built: ShopInSilver, gold: Gold
) -> None:
    built.delete("line_items", (8,))  # of order 4
    assert gold.stale() == (SECOND,)
    gold.build()
    assert gold.shown() == built.daily_revenue()


def test_a_line_item_that_moves_makes_both_orders_dates_stale(built: ShopInSilver, gold: Gold) -> None:
    built.put("line_items", [built.line(8, 3)])  # from order 4 to order 3
    assert gold.stale() == (FIRST, SECOND)
    gold.build()
    assert gold.shown() == built.daily_revenue()


def test_a_line_items_price_concerns_nothing_in_gold(built: ShopInSilver, gold: Gold) -> None:
    built.put("line_items", [built.line(8, 4, quantity=1 + 8 % 3, unit_price=Decimal("9.99"))])
    assert gold.stale() == ()


def test_a_customer_who_moves_takes_the_dates_of_their_orders_along(built: ShopInSilver, gold: Gold) -> None:
    built.put("customers", [built.customer(9, "EU")])
    built.put("orders", [built.order(100, at(4), customer_id=9)])
    gold.build()
    built.put("customers", [built.customer(9, "US")])
    assert gold.stale() == (FOURTH,)
    gold.build()
    assert gold.shown() == built.daily_revenue()


def test_a_new_e_mail_address_concerns_nothing_in_gold(built: ShopInSilver, gold: Gold) -> None:
    built.put("customers", [built.customer(1, "US", email="another")])
    assert gold.stale() == ()


def test_a_customer_who_arrives_after_the_order_gives_it_its_region(built: ShopInSilver, gold: Gold) -> None:
    built.put("orders", [built.order(100, at(4), customer_id=77)])
    gold.build()
    assert (FOURTH, "UNKNOWN", "EUR") in gold_daily_revenue(gold.catalog)
    built.put("customers", [built.customer(77, "EU")])
    assert gold.stale() == (FOURTH,)
    gold.build()
    assert gold.shown() == built.daily_revenue()


def test_a_deleted_customer_leaves_orders_of_no_region(built: ShopInSilver, gold: Gold) -> None:
    built.delete("customers", (1,))
    gold.build()
    assert gold.shown() == built.daily_revenue()


def test_a_date_that_loses_its_last_order_is_emptied(built: ShopInSilver, gold: Gold) -> None:
    built.put("orders", [built.order(100, at(4))])
    gold.build()
    built.delete("orders", (100,))
    assert gold.stale() == (FOURTH,)
    assert gold.build().rows == {"gold_fact_orders": {FOURTH: 0}, "gold_daily_revenue": {FOURTH: 0}}
    assert gold.shown() == built.daily_revenue()
    assert gold.stale() == ()


def test_what_was_not_audited_is_not_read(built: ShopInSilver, gold: Gold) -> None:
    expected = built.daily_revenue()
    built.put("orders", [built.order(4, at(2), "1.00")], audited=False)
    assert gold.stale() == ()
    gold.build([SECOND])
    assert gold.shown() == expected
    built.audit("orders")
    assert gold.stale() == (SECOND,)


def test_silver_rolled_back_makes_all_dates_stale(built: ShopInSilver, gold: Gold) -> None:
    table = gold.catalog.load_table("silver.orders")
    before = head(table)
    assert before is not None
    built.put("orders", [built.order(100, at(4))])
    gold.build()
    table.refresh()
    move_ref(table, "audited", before)
    assert gold.stale() == (FIRST, SECOND, THIRD, FOURTH)
    gold.build()
    assert FOURTH not in {day for day, _, _ in gold_daily_revenue(gold.catalog)}
    assert gold.stale() == ()


def test_an_expired_snapshot_makes_all_dates_stale(built: ShopInSilver, gold: Gold) -> None:
    read = plan(gold.settings, gold.catalog).inputs["silver.orders"]
    built.put("orders", [built.order(4, at(2))])
    gold.catalog.load_table("silver.orders").maintenance.expire_snapshots().by_id(read).commit()
    assert gold.stale() == (FIRST, SECOND, THIRD)


def test_looking_in_vain_moves_the_mark_so_that_expiry_does_no_harm(built: ShopInSilver, gold: Gold) -> None:
    read = plan(gold.settings, gold.catalog).inputs["silver.customers"]
    built.put("customers", [built.customer(1, "US", email="another")])
    assert gold.build().dates == ()
    gold.catalog.load_table("silver.customers").maintenance.expire_snapshots().by_id(read).commit()
    expire(gold.catalog.load_table("gold.fact_orders"), keep=1)
    assert gold.stale() == ()
    assert not plan(gold.settings, gold.catalog).has_news


def test_a_failed_build_notes_what_it_owes_so_that_expiry_does_no_harm(built: ShopInSilver, gold: Gold) -> None:
    def fail(_: Workspace) -> None:
        raise RuntimeError("a test of dbt's")

    built.put("orders", [built.order(4, at(2), "5.00")])
    for _ in range(2):
        read = plan(gold.settings, gold.catalog).tables[0].mark
        assert read is not None
        with pytest.raises(RuntimeError):
            build_gold(gold.settings, gold.catalog, run_dbt=fail)
        built.put("orders", [built.order(3, at(1), "5.00")])
        orders = gold.catalog.load_table("silver.orders")
        orders.maintenance.expire_snapshots().by_id(read.inputs["silver.orders"]).commit()
    assert gold.stale() == (FIRST, SECOND)
    gold.build()
    assert gold.shown() == built.daily_revenue()


def test_dates_that_a_build_leaves_out_stay_stale(built: ShopInSilver, gold: Gold) -> None:
    built.put("orders", [built.order(3, at(1), "5.00"), built.order(4, at(2), "5.00"), built.order(5, at(3), "5.00")])
    assert gold.build([SECOND]).left == (FIRST, THIRD)
    assert gold.stale() == (FIRST, THIRD)
    built.put("orders", [built.order(100, at(4))])
    assert gold.stale() == (FIRST, THIRD, FOURTH)
    gold.build()
    assert gold.shown() == built.daily_revenue()


def test_a_date_rebuilt_by_hand_does_not_move_the_mark(built: ShopInSilver, gold: Gold) -> None:
    before = plan(gold.settings, gold.catalog).tables[0].mark
    built.put("orders", [built.order(3, at(1), "5.00"), built.order(4, at(2), "5.00")])
    gold.build([SECOND], by_hand=True)
    after = plan(gold.settings, gold.catalog).tables[0].mark
    assert before is not None
    assert after is not None
    assert after.inputs == before.inputs
    assert gold.stale() == (FIRST, SECOND)


def test_a_change_taken_back_after_a_rebuild_by_hand_is_not_missed(built: ShopInSilver, gold: Gold) -> None:
    there = built.line(8, 4, quantity=1 + 8 % 3)
    built.put("line_items", [{**there, "order_id": 3}])
    gold.build([FIRST], by_hand=True)
    built.put("line_items", [there])
    gold.build()
    assert gold.shown() == built.daily_revenue()


def test_another_business_time_zone_makes_all_dates_stale(built: ShopInSilver, gold: Gold) -> None:
    built.put("orders", [built.order(100, at(2, hour=23))])
    gold.build()
    tokyo = Gold(new_settings(gold.settings.home, business_time_zone="Asia/Tokyo"), gold.catalog)
    assert tokyo.stale() == (FIRST, SECOND, THIRD)
    tokyo.build()
    assert tokyo.shown() == built.daily_revenue(tokyo.settings.time_zone)


@pytest.mark.parametrize(
    ("zone", "hour_utc", "expected"),
    [
        ("UTC", 23, date(2026, 3, 28)),
        ("Europe/Berlin", 23, date(2026, 3, 29)),  # the night on which the clocks are put forward
        ("America/New_York", 3, date(2026, 3, 27)),
    ],
)
def test_an_order_date_is_a_day_of_the_business(
    shop: ShopInSilver, gold: Gold, zone: str, hour_utc: int, expected: date
) -> None:
    there = Gold(new_settings(gold.settings.home, business_time_zone=zone), gold.catalog)
    shop.put("orders", [shop.order(1, at(28, hour=hour_utc))])
    assert there.stale() == (expected,)
    there.build()
    assert {day for day, _, _ in gold_daily_revenue(gold.catalog)} == {expected}
    assert there.stale() == ()


def test_days_at_the_ends_of_the_calendar_are_built(shop: ShopInSilver, gold: Gold) -> None:
    ends = (datetime(1, 1, 1, 12, tzinfo=UTC), datetime(9999, 12, 31, 12, tzinfo=UTC))
    shop.put("orders", [shop.order(n, end) for n, end in enumerate(ends)])
    assert gold.stale() == (date.min, date.max)
    gold.build()
    assert gold.shown() == shop.daily_revenue()
    assert gold.stale() == ()


def test_an_old_and_a_new_date_do_not_rebuild_those_between(built: ShopInSilver, gold: Gold) -> None:
    days = 90
    built.put("orders", [built.order(100 + n, at(1) + timedelta(days=n)) for n in range(days)])
    while gold.build().left:
        pass
    built.put("orders", [built.order(100, at(1), "7.00"), built.order(189, at(1) + timedelta(days=89), "7.00")])
    assert gold.stale() == (FIRST, FIRST + timedelta(days=89))


def test_the_newest_dates_come_first_when_many_are_stale(shop: ShopInSilver, gold: Gold) -> None:
    shop.put("orders", [shop.order(n, at(1) + timedelta(days=n)) for n in range(40)])
    result = gold.build()
    assert result.dates == tuple(FIRST + timedelta(days=n) for n in range(9, 40))
    assert result.left == tuple(FIRST + timedelta(days=n) for n in range(9))
    assert gold.build().dates == result.left
    assert gold.shown() == shop.daily_revenue()
