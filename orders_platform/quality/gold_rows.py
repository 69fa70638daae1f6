"""What gold must hold, computed from silver by another way than gold's own models take."""

from __future__ import annotations

from orders_platform.quality.sides import RowShape

FACT_ORDERS = RowShape(
    key=("order_id",),
    columns=(
        *("order_date", "order_id", "customer_key", "region_key", "status", "currency", "items", "lines"),
        *("total", "refunded", "revenue", "created_at", "updated_at"),
    ),
)
DAILY_REVENUE = RowShape(
    key=("order_date", "region", "currency"),
    columns=("order_date", "region", "currency", "orders", "cancelled_orders", "items", "revenue", "refunded"),
)

TYPES = {
    **dict.fromkeys(("order_id", "customer_key", "items", "lines", "orders", "cancelled_orders"), "long"),
    **dict.fromkeys(("total", "refunded", "revenue"), "decimal(18, 2)"),
    **dict.fromkeys(("created_at", "updated_at"), "timestamptz"),
    **dict.fromkeys(("region", "region_key", "status", "currency"), "string"),
    "order_date": "date",
}
"""Canonical types in which gold's columns are compared; an amount's precision says nothing about its value."""


def fact_orders_sql(orders: str, line_items: str, customers: str, time_zone: str) -> str:
    """One row an order from FROM items of silver.

    Args:
        time_zone: in whose calendar an order's date is taken.
    """
    zone = time_zone.replace("'", "''")
    return f"""
        WITH lines AS (
            SELECT order_id, list(quantity) AS quantities FROM {line_items} WHERE _deleted IS FALSE GROUP BY order_id
        ),
        regions AS (
            SELECT customer_id, any_value(region) AS region FROM {customers} WHERE _deleted IS FALSE GROUP BY ALL
        )
        SELECT
            CAST(created_at AT TIME ZONE '{zone}' AS DATE) AS order_date,
            order_id, customer_id AS customer_key, coalesce(region, 'UNKNOWN') AS region_key, status, currency,
            coalesce(list_sum(quantities), 0) AS items, coalesce(len(quantities), 0) AS lines,
            total, refunded,
            (total - refunded) * CAST(status <> 'cancelled' AS INTEGER) AS revenue,
            created_at, updated_at
        FROM {orders} LEFT JOIN lines USING (order_id) LEFT JOIN regions USING (customer_id)
        WHERE _deleted IS FALSE
    """


def daily_revenue_sql(fact_orders: str) -> str:
    """One row a day, region and currency from a SELECT of fact rows."""
    return f"""
        SELECT order_date, region_key AS region, currency,
               count(*) AS orders, count(*) FILTER (status = 'cancelled') AS cancelled_orders,
               sum(items) AS items, sum(revenue) AS revenue, sum(refunded) AS refunded
        FROM ({fact_orders}) GROUP BY ALL
    """
