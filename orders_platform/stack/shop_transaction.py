"""A transaction of the shop as a value: its statements and how many rows they change; and what it is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any, LiteralString, TypeAlias

from orders_platform.stack.shop_state import ShopOrder, ShopProduct, ShopState

Statement: TypeAlias = tuple[LiteralString, Sequence[Any]]


@dataclass(frozen=True)
class Transaction:
    """Statements that commit together. `rows` counts every row they change, by cascades too."""

    kind: str
    statements: tuple[Statement, ...]
    rows: int


@dataclass(frozen=True)
class SideTransaction(Transaction):
    """Runs on a second connection and stays open while other transactions begin and commit beside it.

    It writes to the WAL before them and commits after them, or does not commit at all.
    """

    commits: bool = True
    stays_open_for: int = 10
    """Transactions of the first connection."""


@dataclass(frozen=True)
class SideEnd:
    """The open side transaction commits, or is given up, here."""


Step: TypeAlias = Transaction | SideEnd


@dataclass
class ShopMoment:
    """What a transaction is made from: the shop as it is, and the time.

    `now` is the time that rows carry, `second` the seconds of shop time since the run began. `held` are the products
    that an open side transaction has locked: changing their key, or deleting them, would wait for it for ever.
    """

    state: ShopState
    random: Random
    now: datetime
    second: float
    held: frozenset[int] = frozenset()

    def advance(self, start: datetime, second: float) -> None:
        self.second = second
        self.now = start + timedelta(seconds=second)

    def closed_order(self) -> ShopOrder | None:
        return self.random.choice(self.state.closed) if self.state.closed else None

    def free_product(self, sold_at_most: int) -> int | None:
        """Position of a product that nobody holds and few line items refer to; None after some misses."""
        products = self.state.products
        for _ in range(20):
            position = self.random.randrange(len(products))
            if products[position].sold <= sold_at_most and products[position].product_id not in self.held:
                return position
        return None


INSERT_STOCK: LiteralString = (
    "INSERT INTO inventory (warehouse_id, product_id, quantity, updated_at) VALUES (%s, %s, %s, %s)"
)
_MOVE_STOCK: LiteralString = (
    "UPDATE inventory SET quantity = quantity + %s, updated_at = %s WHERE warehouse_id = %s AND product_id = %s"
)


def move_stock(moment: ShopMoment, product: ShopProduct, slot: int, pieces: int) -> Statement:
    """Pieces that come into (or, negative, leave) the warehouse at that position of the product's."""
    return _MOVE_STOCK, (pieces, moment.now, product.warehouses[slot], product.product_id)
