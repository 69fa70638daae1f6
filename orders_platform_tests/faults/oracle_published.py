"""What gold and ClickHouse must hold, from PostgreSQL's rows alone, with Python's Decimal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from operator import add
from typing import Any, NamedTuple

import clickhouse_connect

from orders_platform.lake.catalog import open_catalog
from orders_platform.settings import Settings
from orders_platform_tests.faults.differing import Rows, named, utc


def published_differences(settings: Settings, state: Mapping[str, Rows]) -> list[str]:
    """Everything in which gold or ClickHouse differ from what they must be."""
    catalog = open_catalog(settings)
    facts = catalog.load_table("gold.fact_orders").scan().to_arrow().to_pylist()
    daily = catalog.load_table("gold.daily_revenue").scan().to_arrow().to_pylist()
    return gold_differences(settings, facts, daily, state) + clickhouse_differences(settings, state)


def revenue(order: Mapping[str, Any]) -> Decimal:
    """What an order earned: nothing when cancelled, else its total less what was paid back."""
    return Decimal(0) if order["status"] == "cancelled" else order["total"] - order["refunded"]


def _order_date(settings: Settings, order: Mapping[str, Any]) -> date:
    placed: datetime = order["created_at"]
    return placed.astimezone(settings.time_zone).date()


class Fact(NamedTuple):
    """An order as gold must have it; `lines` is the number of its line items, `items` what they add up to."""

    order_date: date
    order_id: int
    customer_key: int
    region_key: str
    status: str
    currency: str
    items: int
    lines: int
    total: Decimal
    refunded: Decimal
    revenue: Decimal
    created_at: datetime
    updated_at: datetime


class Day(NamedTuple):
    """What the orders of a date, region and currency add up to."""

    orders: int
    cancelled_orders: int
    items: int
    revenue: Decimal
    refunded: Decimal


def expected_facts(settings: Settings, state: Mapping[str, Rows]) -> list[Fact]:
    """One an order of PostgreSQL's."""
    quantities: dict[int, list[int]] = {}
    for line in state["line_items"].values():
        quantities.setdefault(line["order_id"], []).append(line["quantity"])
    return [
        Fact(
            _order_date(settings, order),
            order["order_id"],
            order["customer_id"],
            state["customers"][(order["customer_id"],)]["region"],
            order["status"],
            order["currency"],
            sum(quantities.get(order["order_id"], ())),
            len(quantities.get(order["order_id"], ())),
            order["total"],
            order["refunded"],
            revenue(order),
            order["created_at"].astimezone(UTC),
            order["updated_at"].astimezone(UTC),
        )
        for order in state["orders"].values()
    ]


def expected_days(facts: Iterable[Fact]) -> dict[tuple[date, str, str], Day]:
    """By order date, region and currency."""
    days: dict[tuple[date, str, str], Day] = {}
    for fact in facts:
        key = (fact.order_date, fact.region_key, fact.currency)
        one = Day(1, int(fact.status == "cancelled"), fact.items, fact.revenue, fact.refunded)
        days[key] = Day(*map(add, days[key], one)) if key in days else one
    return days


def gold_differences(
    settings: Settings,
    facts: Sequence[Mapping[str, Any]],
    daily: Sequence[Mapping[str, Any]],
    state: Mapping[str, Rows],
) -> list[str]:
    """One fact an order, with each of its figures; the daily table sums them."""
    expected = expected_facts(settings, state)
    held = Counter(Fact(*(utc(row[name]) for name in Fact._fields)) for row in facts)
    wanted = Counter(expected)
    days = {(r["order_date"], r["region"], r["currency"]): Day(*(r[name] for name in Day._fields)) for r in daily}
    return (
        named("gold.fact_orders", "orders are missing", (wanted - held).elements())
        + named("gold.fact_orders", "orders are wrong", (held - wanted).elements())
        + _day_differences("gold.daily_revenue", days, expected_days(expected))
        + ([] if len(days) == len(daily) else ["gold.daily_revenue: a day, region and currency is there twice"])
    )


def clickhouse_differences(settings: Settings, state: Mapping[str, Rows]) -> list[str]:
    """ClickHouse shows what PostgreSQL's rows add up to."""
    client = clickhouse_connect.get_client(dsn=settings.clickhouse)
    try:
        columns = ", ".join(("order_date", "region", "currency", *Day._fields))
        rows = client.query(f"SELECT {columns} FROM daily_revenue").result_rows
    finally:
        client.close()
    days = {tuple(row[:3]): Day(*row[3:]) for row in rows}
    twice = [] if len(days) == len(rows) else ["clickhouse.daily_revenue: a day, region and currency is there twice"]
    expected = expected_days(expected_facts(settings, state))
    return _day_differences("clickhouse.daily_revenue", days, expected) + twice


def _day_differences(layer: str, held: Mapping[Any, Any], wanted: Mapping[Any, Any]) -> list[str]:
    return (
        named(layer, "days are missing", sorted(wanted.keys() - held.keys()))
        + named(layer, "days should not be there", sorted(held.keys() - wanted.keys()))
        + named(
            layer,
            "days differ",
            [f"{k}: {held[k]} instead of {w}" for k, w in wanted.items() if k in held and held[k] != w],
        )
    )
