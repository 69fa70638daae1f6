"""The shop's past: orders of earlier days, written by COPY, one transaction a day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, LiteralString

import psycopg

from orders_platform.stack import shop_orders
from orders_platform.stack.shop_catalog import CENT
from orders_platform.stack.shop_state import OPEN_STATUSES, SECONDS_BETWEEN_OLD_ORDERS, ShopOrder
from orders_platform.stack.shop_transaction import ShopMoment, Statement

DAYS_UNTIL_DELIVERED = 4
REFUNDED_SHARE = 0.05
_COPY_ORDERS: LiteralString = (
    "COPY orders (order_id, customer_id, status, currency, total, refunded, created_at, updated_at) FROM STDIN"
)
_COPY_LINES: LiteralString = (
    "COPY line_items (line_item_id, order_id, product_id, quantity, unit_price, discount, created_at, updated_at)"
    " FROM STDIN"
)


def fill_history(connection: psycopg.Connection, moment: ShopMoment, days: int, orders_a_day: int) -> Iterator[int]:
    """Orders on each of the last `days` days (UTC) that has none yet; today is left to the live shop.

    Orders of long ago are delivered, cancelled or refunded in part; those of the last days may still be open.

    Args:
        connection: in autocommit mode.
        moment: the shop, and today.
        orders_a_day: on average.

    Yields:
        Rows written, after each day.
    """
    today = moment.now.astimezone(UTC).date()
    there = _days_with_orders(connection, today - timedelta(days=days), today)
    opened = 0
    for age in range(days, 0, -1):
        day = today - timedelta(days=age)
        if day in there:
            continue
        number = max(1, round(orders_a_day * moment.random.uniform(0.7, 1.3)))
        orders = [_past_order(moment, at) for at in _times_of_day(moment, day, number)]
        with connection.transaction():
            _copy(connection, _COPY_ORDERS, (shop_orders.insert_order(moment, order) for order in orders), width=8)
            _copy(connection, _COPY_LINES, (shop_orders.insert_lines(moment, order) for order in orders), width=8)
        for order in orders:
            if order.status in OPEN_STATUSES:
                opened += 1
                moment.state.schedule(order, opened * SECONDS_BETWEEN_OLD_ORDERS)
            else:
                moment.state.closed.append(order)
        yield len(orders) + sum(len(order.lines) for order in orders)


def _days_with_orders(connection: psycopg.Connection, first: date, until: date) -> set[date]:
    rows = connection.execute(
        "SELECT DISTINCT (created_at AT TIME ZONE 'UTC')::date FROM orders WHERE created_at >= %s AND created_at < %s",
        [datetime.combine(first, time(), UTC), datetime.combine(until, time(), UTC)],
    )
    return {row[0] for row in rows}


def _times_of_day(moment: ShopMoment, day: date, number: int) -> list[datetime]:
    midnight = datetime.combine(day, time(), UTC)
    seconds = sorted(moment.random.uniform(0, 86_400 - 1e-3) for _ in range(number))
    return [midnight + timedelta(seconds=second) for second in seconds]


def _past_order(moment: ShopMoment, placed_at: datetime) -> ShopOrder:
    random = moment.random
    customer = random.choice(moment.state.customers)
    order = shop_orders.draft_order(moment, customer)
    customer.orders += 1
    order.created_at = placed_at
    if random.random() < shop_orders.CANCELLED_SHARE:
        order.status = "cancelled"
    elif (moment.now - placed_at).days >= DAYS_UNTIL_DELIVERED:
        order.status = "delivered"
    else:
        order.status = random.choice(("paid", "shipped", "delivered"))
    if order.status == "delivered" and random.random() < REFUNDED_SHARE:
        order.refunded = (order.total * Decimal(random.randrange(10, 90)) / 100).quantize(CENT)
    return order


def _copy(connection: psycopg.Connection, command: LiteralString, inserts: Iterable[Statement], width: int) -> None:
    """The rows of INSERT statements (`width` values each) by COPY instead."""
    with connection.cursor() as cursor, cursor.copy(command) as copy:
        for _, values in inserts:
            for start in range(0, len(values), width):
                row: Sequence[Any] = values[start : start + width]
                copy.write_row(row)
