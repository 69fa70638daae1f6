"""The life of an order as transactions: placed, paid, shipped, delivered; or changed, cancelled, refunded."""

from __future__ import annotations

from decimal import Decimal
from typing import LiteralString

from orders_platform.stack import shop_catalog
from orders_platform.stack.shop_catalog import CENT
from orders_platform.stack.shop_state import ShopCustomer, ShopLine, ShopOrder
from orders_platform.stack.shop_transaction import ShopMoment, Statement, Transaction, move_stock

NEXT_STATUS = {"placed": "paid", "paid": "shipped", "shipped": "delivered"}
MEAN_SECONDS = {"placed": 4.0, "paid": 10.0, "shipped": 15.0}
"""How long an order stays in a status, on average: a shop's days, in seconds."""
CANCELLED_SHARE = 0.04
NEW_CUSTOMER_SHARE = 0.1
MAX_LINES = 5

INSERT_CUSTOMER: LiteralString = (
    "INSERT INTO customers (customer_id, email, full_name, phone, address, region, created_at, updated_at)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
)
INSERT_ORDER: LiteralString = (
    "INSERT INTO orders (order_id, customer_id, status, currency, total, refunded, created_at, updated_at)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
)
_INSERT_LINES: LiteralString = (
    "INSERT INTO line_items"
    " (line_item_id, order_id, product_id, quantity, unit_price, discount, created_at, updated_at) VALUES "
)
_LINE: LiteralString = "(%s, %s, %s, %s, %s, %s, %s, %s)"
INSERT_LINES: tuple[LiteralString, ...] = tuple(_INSERT_LINES + ", ".join([_LINE] * n) for n in range(MAX_LINES + 1))
"""By the number of lines."""


def place(moment: ShopMoment) -> Transaction:
    """A new order with its lines, the stock they take, and now and then a new customer: one transaction."""
    state, random = moment.state, moment.random
    statements: list[Statement] = []
    if random.random() < NEW_CUSTOMER_SHARE:
        customer, statement = sign_up(moment)
        statements.append(statement)
    else:
        customer = random.choice(state.customers)
    order = draft_order(moment, customer)
    customer.orders += 1
    statements += [insert_order(moment, order), insert_lines(moment, order)]
    statements += [move_stock(moment, line.product, line.slot, -line.quantity) for line in order.lines]
    _schedule(moment, order)
    return Transaction("order placed", tuple(statements), len(statements) - 1 + len(order.lines))


def sign_up(moment: ShopMoment) -> tuple[ShopCustomer, Statement]:
    """A new customer, and the statement that writes it."""
    state, random, now = moment.state, moment.random, moment.now
    home = shop_catalog.residence(random)
    customer = ShopCustomer(state.next_customer, home.region, shop_catalog.full_name(random))
    state.next_customer += 1
    state.customers.append(customer)
    email = shop_catalog.email(random, customer.name, customer.customer_id)
    phone = shop_catalog.phone(random)
    row = (customer.customer_id, email, customer.name, phone, home.address, home.region, now, now)
    return customer, (INSERT_CUSTOMER, row)


def draft_order(moment: ShopMoment, customer: ShopCustomer) -> ShopOrder:
    """An order of one to five products, its keys taken from the state."""
    state, random = moment.state, moment.random
    order = ShopOrder(state.next_order, customer, "placed", Decimal("0.00"), moment.now)
    state.next_order += 1
    for _ in range(min(MAX_LINES, 1 + int(random.expovariate(0.6)))):
        product = random.choice(state.products)
        quantity = 1 + int(random.expovariate(1.0))
        discount = Decimal("0.00")
        if random.random() < 0.2:
            discount = (product.price * quantity / 10).quantize(CENT)
        slot = random.randrange(len(product.warehouses))
        order.lines.append(ShopLine(state.next_line, product, slot, quantity, product.price, discount))
        product.sold += 1
        state.next_line += 1
    return order


def insert_order(moment: ShopMoment, order: ShopOrder) -> Statement:
    currency = shop_catalog.currency(order.customer.region)
    row = (order.order_id, order.customer.customer_id, order.status, currency)
    return INSERT_ORDER, (*row, order.total, order.refunded, order.created_at, moment.now)


def insert_lines(moment: ShopMoment, order: ShopOrder) -> Statement:
    row = [
        value
        for line in order.lines
        for value in (
            *(line.line_item_id, order.order_id, line.product.product_id),
            *(line.quantity, line.unit_price, line.discount, order.created_at, moment.now),
        )
    ]
    return INSERT_LINES[len(order.lines)], row


def go_on(moment: ShopMoment) -> Transaction:
    """The next step of the open order that is due: paid, shipped or delivered; a few are cancelled before they ship."""
    order = moment.state.pop_due()
    if order.status != "shipped" and moment.random.random() < CANCELLED_SHARE:
        return _cancel(moment, order)
    order.status = NEXT_STATUS[order.status]
    if order.status == "delivered":
        moment.state.closed.append(order)
    else:
        _schedule(moment, order)
    return Transaction(f"order {order.status}", (_set_status(moment, order),), 1)


def _cancel(moment: ShopMoment, order: ShopOrder) -> Transaction:
    order.status = "cancelled"
    moment.state.closed.append(order)
    back = [move_stock(moment, line.product, line.slot, line.quantity) for line in order.lines]
    return Transaction("order cancelled", (_set_status(moment, order), *back), 1 + len(back))


def _set_status(moment: ShopMoment, order: ShopOrder) -> Statement:
    return (
        "UPDATE orders SET status = %s, updated_at = %s WHERE order_id = %s",
        (order.status, moment.now, order.order_id),
    )


def _schedule(moment: ShopMoment, order: ShopOrder) -> None:
    stay = moment.random.expovariate(1 / MEAN_SECONDS[order.status])
    moment.state.schedule(order, moment.second + stay)


def change_quantity(moment: ShopMoment) -> Transaction | None:
    """The customer wants another number of pieces before paying: line, order and stock change together."""
    if not moment.state.due or moment.state.due[0][2].status != "placed":
        return None
    order = moment.state.due[0][2]
    line = moment.random.choice(order.lines)
    more = 1 if line.quantity == 1 else moment.random.choice((-1, 1))
    line.quantity += more
    statements = (
        (
            "UPDATE line_items SET quantity = %s, updated_at = %s WHERE line_item_id = %s",
            (line.quantity, moment.now, line.line_item_id),
        ),
        set_total(moment, order),
        move_stock(moment, line.product, line.slot, -more),
    )
    return Transaction("quantity changed", statements, 3)


def set_total(moment: ShopMoment, order: ShopOrder) -> Statement:
    return (
        "UPDATE orders SET total = %s, updated_at = %s WHERE order_id = %s",
        (order.total, moment.now, order.order_id),
    )


def refund(moment: ShopMoment) -> Transaction | None:
    """A part of what is left of a delivered order's total is paid back."""
    order = moment.closed_order()
    if order is None or order.status != "delivered" or order.total - order.refunded < 1:
        return None
    share = Decimal(moment.random.randrange(10, 90)) / 100
    order.refunded += ((order.total - order.refunded) * share).quantize(CENT)
    statement: Statement = (
        "UPDATE orders SET refunded = %s, updated_at = %s WHERE order_id = %s",
        (order.refunded, moment.now, order.order_id),
    )
    return Transaction("refund", (statement,), 1)
