"""What a shop does beside selling: prices and stock, customers who move, corrections, deletes, changes of a key."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from orders_platform.stack import shop_catalog
from orders_platform.stack.shop_catalog import CENT
from orders_platform.stack.shop_orders import set_total, sign_up
from orders_platform.stack.shop_state import COUNTED_SALES, ShopProduct
from orders_platform.stack.shop_transaction import (
    INSERT_STOCK,
    ShopMoment,
    SideTransaction,
    Statement,
    Transaction,
    move_stock,
)

WAREHOUSES = (1, 2, 3, 4, 5)
STOCKED_IN = 3
"""Warehouses that a new product is stocked in; a row may move to one of the others."""
REPRICED = 12
"""Most products that one repricing touches."""
ROLLED_BACK_SHARE = 0.2


def launch_product(moment: ShopMoment) -> Transaction:
    """A new product with its description, and its stock."""
    product, statements = new_product(moment)
    moment.state.products.append(product)
    return Transaction("product launched", tuple(statements), len(statements))


def new_product(moment: ShopMoment) -> tuple[ShopProduct, list[Statement]]:
    """A product, and the statements that write it and its stock. It is not for sale yet: the state does not hold it."""
    state, random, now = moment.state, moment.random, moment.now
    category = shop_catalog.category(random)
    product = ShopProduct(state.next_product, shop_catalog.price(random), category)
    product.warehouses = sorted(random.sample(WAREHOUSES, STOCKED_IN))
    state.next_product += 1
    name = shop_catalog.product_name(random, category)
    sku = f"{category[:3].upper()}-{product.product_id:06}"
    row = (product.product_id, sku, name, shop_catalog.description(random), category, product.price, True, now, now)
    statements: list[Statement] = [
        (
            "INSERT INTO products"
            " (product_id, sku, name, description, category, price, active, created_at, updated_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            row,
        )
    ]
    for warehouse in product.warehouses:
        statements.append((INSERT_STOCK, (warehouse, product.product_id, random.randrange(50, 500), now)))
    return product, statements


def reprice(moment: ShopMoment) -> SideTransaction:
    """Prices of some products change, in a transaction that takes its time; one in five is given up."""
    random, products = moment.random, moment.state.products
    commits = random.random() >= ROLLED_BACK_SHARE
    chosen = random.sample(products, min(random.randrange(2, REPRICED), len(products)))
    statements: list[Statement] = []
    for product in chosen:
        price = (product.price * Decimal(random.randrange(85, 118)) / 100).quantize(CENT)
        if commits:
            product.price = price
        statements.append(
            (
                "UPDATE products SET price = %s, updated_at = %s WHERE product_id = %s",
                (price, moment.now, product.product_id),
            )
        )
    rows = len(statements) if commits else 0
    return SideTransaction("repricing", tuple(statements), rows, commits, random.randrange(3, 30))


def restock(moment: ShopMoment) -> Transaction:
    """A delivery to one warehouse."""
    random = moment.random
    chosen = random.sample(moment.state.products, min(4, len(moment.state.products)))
    moves = [move_stock(moment, p, random.randrange(len(p.warehouses)), random.randrange(20, 200)) for p in chosen]
    return Transaction("restock", tuple(moves), len(moves))


def rewrite_description(moment: ShopMoment) -> Transaction | None:
    """A new long text; or only the flag beside it, which leaves the old text where it is."""
    position = moment.free_product(sold_at_most=10**9)
    if position is None:
        return None
    product_id = moment.state.products[position].product_id
    statement: Statement
    if moment.random.random() < 0.5:
        text = shop_catalog.description(moment.random)
        statement = (
            "UPDATE products SET description = %s, updated_at = %s WHERE product_id = %s",
            (text, moment.now, product_id),
        )
    else:
        statement = (
            "UPDATE products SET active = NOT active, updated_at = %s WHERE product_id = %s",
            (moment.now, product_id),
        )
    return Transaction("product edited", (statement,), 1)


def move_customer(moment: ShopMoment) -> Transaction:
    """A customer moves, often to another region: the region of all of this customer's orders changes with it."""
    customer = moment.random.choice(moment.state.customers)
    home = shop_catalog.residence(moment.random)
    customer.region = home.region
    statement: Statement = (
        "UPDATE customers SET address = %s, region = %s, updated_at = %s WHERE customer_id = %s",
        (home.address, home.region, moment.now, customer.customer_id),
    )
    return Transaction("customer moved", (statement,), 1)


def change_email(moment: ShopMoment) -> Transaction:
    customer = moment.random.choice(moment.state.customers)
    email = shop_catalog.email(moment.random, customer.name, customer.customer_id)
    statement: Statement = (
        "UPDATE customers SET email = %s, phone = %s, updated_at = %s WHERE customer_id = %s",
        (email, shop_catalog.phone(moment.random), moment.now, customer.customer_id),
    )
    return Transaction("e-mail changed", (statement,), 1)


def new_customer(moment: ShopMoment) -> Transaction:
    """Somebody signs up without ordering."""
    _, statement = sign_up(moment)
    return Transaction("customer signed up", (statement,), 1)


def correct_date(moment: ShopMoment) -> Transaction | None:
    """An order turns out to have been placed on another, earlier day."""
    order = moment.closed_order()
    if order is None:
        return None
    order.created_at -= timedelta(days=moment.random.randrange(1, 4))
    statement: Statement = (
        "UPDATE orders SET created_at = %s, updated_at = %s WHERE order_id = %s",
        (order.created_at, moment.now, order.order_id),
    )
    return Transaction("order date corrected", (statement,), 1)


def correct_discount(moment: ShopMoment) -> Transaction | None:
    """A forgotten discount is entered into an old order, whose total falls; never below what was paid back."""
    order = moment.closed_order()
    if order is None:
        return None
    line = moment.random.choice(order.lines)
    discount = min((line.amount / 20).quantize(CENT), order.total - order.refunded)
    if discount <= 0:
        return None
    line.discount += discount
    statement: Statement = (
        "UPDATE line_items SET discount = %s, updated_at = %s WHERE line_item_id = %s",
        (line.discount, moment.now, line.line_item_id),
    )
    return Transaction("discount corrected", (statement, set_total(moment, order)), 2)


def delete_order(moment: ShopMoment) -> Transaction | None:
    """An old order is removed for good, with its lines."""
    if not moment.state.closed:
        return None
    position = moment.random.randrange(len(moment.state.closed))
    order = moment.state.closed[position]
    del moment.state.closed[position]
    for line in order.lines:
        line.product.sold -= 1
    statements: tuple[Statement, ...] = (
        ("DELETE FROM line_items WHERE order_id = %s", (order.order_id,)),
        ("DELETE FROM orders WHERE order_id = %s", (order.order_id,)),
    )
    return Transaction("order deleted", statements, 1 + len(order.lines))


def delete_customer(moment: ShopMoment) -> Transaction | None:
    """A customer who never ordered asks to be forgotten."""
    customers = moment.state.customers
    for _ in range(20):
        position = moment.random.randrange(len(customers))
        if customers[position].orders == 0 and len(customers) > 1:
            customer = customers.pop(position)
            statement: Statement = ("DELETE FROM customers WHERE customer_id = %s", (customer.customer_id,))
            return Transaction("customer deleted", (statement,), 1)
    return None


def delete_product(moment: ShopMoment) -> Transaction | None:
    """A product that never sold is taken out; its stock goes with it, by cascade."""
    position = moment.free_product(sold_at_most=0)
    if position is None or len(moment.state.products) < 2:
        return None
    product = moment.state.products.pop(position)
    statement: Statement = ("DELETE FROM products WHERE product_id = %s", (product.product_id,))
    return Transaction("product deleted", (statement,), 1 + len(product.warehouses))


def renumber_product(moment: ShopMoment) -> Transaction | None:
    """A product gets another key. Its description does not change; its stock and few line items follow by cascade."""
    position = moment.free_product(sold_at_most=COUNTED_SALES)
    if position is None:
        return None
    product = moment.state.products[position]
    old, product.product_id = product.product_id, moment.state.next_product
    moment.state.next_product += 1
    statement: Statement = (
        "UPDATE products SET product_id = %s, updated_at = %s WHERE product_id = %s",
        (product.product_id, moment.now, old),
    )
    return Transaction("product renumbered", (statement,), 1 + len(product.warehouses) + product.sold)


def move_warehouse(moment: ShopMoment) -> Transaction | None:
    """The stock of a product moves to another warehouse: one part of a two-column key changes."""
    product = moment.random.choice(moment.state.products)
    empty = [warehouse for warehouse in WAREHOUSES if warehouse not in product.warehouses]
    if not empty:
        return None
    position = moment.random.randrange(len(product.warehouses))
    old, product.warehouses[position] = product.warehouses[position], moment.random.choice(empty)
    statement: Statement = (
        "UPDATE inventory SET warehouse_id = %s, updated_at = %s WHERE warehouse_id = %s AND product_id = %s",
        (product.warehouses[position], moment.now, old, product.product_id),
    )
    return Transaction("stock moved", (statement,), 1)


def renumber_line(moment: ShopMoment) -> Transaction | None:
    """A line item of an old order gets another key."""
    order = moment.closed_order()
    if order is None:
        return None
    line = moment.random.choice(order.lines)
    old, line.line_item_id = line.line_item_id, moment.state.next_line
    moment.state.next_line += 1
    statement: Statement = (
        "UPDATE line_items SET line_item_id = %s, updated_at = %s WHERE line_item_id = %s",
        (line.line_item_id, moment.now, old),
    )
    return Transaction("line item renumbered", (statement,), 1)
