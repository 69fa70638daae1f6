"""What the simulated shop remembers between transactions: a bounded working set, read from the database at start."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import LiteralString

import psycopg

REMEMBERED_CUSTOMERS = 20_000
REMEMBERED_ORDERS = 5_000
COUNTED_SALES = 20
"""A product's sales are counted up to this many: those that sold less may get another key (see `ShopProduct.sold`)."""
UNCOUNTED = 10**9
SECONDS_BETWEEN_OLD_ORDERS = 0.05
"""Orders found open go on one after the other, not all at once."""

OPEN_STATUSES = ("placed", "paid", "shipped")


@dataclass(slots=True)
class ShopCustomer:
    customer_id: int
    region: str
    name: str
    orders: int = 0


@dataclass(slots=True)
class ShopProduct:
    """`sold` is the number of line items that refer to it, and bounds what a change of its key cascades to."""

    product_id: int
    price: Decimal
    category: str
    warehouses: list[int] = field(default_factory=list)
    sold: int = 0


@dataclass(slots=True)
class ShopLine:
    line_item_id: int
    product: ShopProduct
    slot: int
    """Which of the product's warehouses the pieces come from, by position: the stock may have moved since."""
    quantity: int
    unit_price: Decimal
    discount: Decimal

    @property
    def amount(self) -> Decimal:
        return self.quantity * self.unit_price - self.discount


@dataclass(slots=True)
class ShopOrder:
    order_id: int
    customer: ShopCustomer
    status: str
    refunded: Decimal
    created_at: datetime
    lines: list[ShopLine] = field(default_factory=list)

    @property
    def total(self) -> Decimal:
        return sum((line.amount for line in self.lines), Decimal(0))


@dataclass
class ShopState:
    """The working set. Lists, not dictionaries: a random member is drawn by position, the same for the same seed."""

    customers: list[ShopCustomer] = field(default_factory=list)
    products: list[ShopProduct] = field(default_factory=list)
    closed: deque[ShopOrder] = field(default_factory=lambda: deque(maxlen=REMEMBERED_ORDERS))
    """Orders delivered or cancelled, the ones closed last."""
    due: list[tuple[float, int, ShopOrder]] = field(default_factory=list)
    """A heap of open orders by the second of the run (shop time) at which their next step is due."""
    next_customer: int = 1
    next_product: int = 1
    next_order: int = 1
    next_line: int = 1

    @property
    def is_empty(self) -> bool:
        """Whether the shop has not opened yet."""
        return not self.products

    def schedule(self, order: ShopOrder, second: float) -> None:
        """The next step of the order's life comes at that second of the run."""
        heapq.heappush(self.due, (second, order.order_id, order))

    def is_due(self, second: float) -> bool:
        return bool(self.due) and self.due[0][0] <= second

    def pop_due(self) -> ShopOrder:
        return heapq.heappop(self.due)[2]


def read_state(connection: psycopg.Connection) -> ShopState:
    """The working set: all products in stock, the newest customers and orders. Read by key, newest first."""
    state = ShopState(
        next_customer=_next(connection, "SELECT max(customer_id) FROM customers"),
        next_product=_next(connection, "SELECT max(product_id) FROM products"),
        next_order=_next(connection, "SELECT max(order_id) FROM orders"),
        next_line=_next(connection, "SELECT max(line_item_id) FROM line_items"),
    )
    products = _products(connection)
    state.products = [product for product in products.values() if product.warehouses]  # the others cannot be sold
    customers = _customers(connection)
    state.customers = list(customers.values())
    for position, order in enumerate(_orders(connection, products, customers)):
        if order.status in OPEN_STATUSES:
            state.schedule(order, position * SECONDS_BETWEEN_OLD_ORDERS)
        else:
            state.closed.append(order)
    return state


def _next(connection: psycopg.Connection, query: LiteralString) -> int:
    row = connection.execute(query).fetchone()
    return 1 + (row[0] or 0 if row else 0)


def _products(connection: psycopg.Connection) -> dict[int, ShopProduct]:
    rows = connection.execute(
        """
        SELECT product_id, price, category,
               (SELECT count(*) FROM (SELECT FROM line_items l WHERE l.product_id = p.product_id LIMIT %s) AS sales),
               ARRAY(SELECT warehouse_id FROM inventory i WHERE i.product_id = p.product_id ORDER BY warehouse_id)
        FROM products p ORDER BY product_id
        """,
        [COUNTED_SALES + 1],
    )
    return {
        r[0]: ShopProduct(r[0], r[1], r[2], sold=r[3] if r[3] <= COUNTED_SALES else UNCOUNTED, warehouses=r[4])
        for r in rows
    }


def _customers(connection: psycopg.Connection) -> dict[int, ShopCustomer]:
    rows = connection.execute(
        """
        SELECT customer_id, region, full_name,
               (SELECT count(*) FROM (SELECT FROM orders o WHERE o.customer_id = c.customer_id LIMIT 1) AS one)
        FROM (SELECT * FROM customers ORDER BY customer_id DESC LIMIT %s) AS c ORDER BY customer_id
        """,
        [REMEMBERED_CUSTOMERS],
    )
    return {r[0]: ShopCustomer(*r) for r in rows}


def _orders(
    connection: psycopg.Connection, products: dict[int, ShopProduct], customers: dict[int, ShopCustomer]
) -> list[ShopOrder]:
    """The newest orders with their lines; those of customers who are not remembered are left alone."""
    orders: dict[int, ShopOrder] = {}
    rows = connection.execute(
        """
        SELECT o.order_id, o.customer_id, o.status, o.refunded, o.created_at,
               l.line_item_id, l.product_id, l.quantity, l.unit_price, l.discount
        FROM (SELECT * FROM orders ORDER BY order_id DESC LIMIT %s) AS o JOIN line_items l USING (order_id)
        ORDER BY o.order_id, l.line_item_id
        """,
        [REMEMBERED_ORDERS],
    )
    for order_id, customer_id, status, refunded, created_at, line_id, product_id, quantity, price, discount in rows:
        customer = customers.get(customer_id)
        product = products[product_id]
        if customer is None or not product.warehouses:
            continue
        order = orders.setdefault(order_id, ShopOrder(order_id, customer, status, refunded, created_at))
        order.lines.append(ShopLine(line_id, product, 0, quantity, price, discount))
    return list(orders.values())
