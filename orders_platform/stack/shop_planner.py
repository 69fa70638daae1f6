"""Decides what happens next in the shop: a stream of transactions, the same for the same seed, start and rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from random import Random
from typing import TypeAlias

from orders_platform.stack import shop_orders, shop_upkeep
from orders_platform.stack.shop_state import ShopState
from orders_platform.stack.shop_transaction import ShopMoment, SideEnd, SideTransaction, Step, Transaction

UPKEEP_SHARE = 0.3
"""Of all transactions; the others are orders placed or going on."""

_Planned: TypeAlias = Callable[[ShopMoment], Transaction | None]
_UPKEEP: dict[_Planned, float] = {
    shop_upkeep.restock: 10,
    shop_upkeep.reprice: 4,
    shop_orders.change_quantity: 8,
    shop_orders.refund: 8,
    shop_upkeep.move_customer: 5,
    shop_upkeep.change_email: 5,
    shop_upkeep.new_customer: 3,
    shop_upkeep.rewrite_description: 5,
    shop_upkeep.launch_product: 1.5,
    shop_upkeep.correct_discount: 2,
    shop_upkeep.correct_date: 2,
    shop_upkeep.delete_order: 1,
    shop_upkeep.delete_customer: 1,
    shop_upkeep.delete_product: 0.5,
    shop_upkeep.renumber_product: 1,
    shop_upkeep.move_warehouse: 1,
    shop_upkeep.renumber_line: 1,
}

OPENING_PRODUCTS = 200
OPENING_CUSTOMERS = 600


class ShopPlanner:
    """Plans transactions against a working set that it keeps up to date, as if each had been carried out.

    Shop time is the number of planned changes divided by the rate, not the wall clock: how fast a machine is does not
    change what is planned.
    """

    def __init__(self, state: ShopState, seed: int, start: datetime, rate: float) -> None:
        self._moment = ShopMoment(state, Random(seed), start, 0.0)
        self._start = start
        self._rate = rate
        self._rows = 0
        self._open_for = 0
        self._kinds = tuple(_UPKEEP)
        self._weights = tuple(_UPKEEP.values())

    @property
    def moment(self) -> ShopMoment:
        return self._moment

    def opening(self, days_ago: int) -> Iterator[Transaction]:
        """The first products, stock and customers of an empty shop."""
        self._moment.now = self._start - timedelta(days=days_ago + 1)
        for _ in range(OPENING_PRODUCTS):
            yield shop_upkeep.launch_product(self._moment)
        for _ in range(OPENING_CUSTOMERS):
            yield shop_upkeep.new_customer(self._moment)
        self._moment.now = self._start

    def next(self) -> Step:
        """The next step; time has moved on by the rows of the one before."""
        self._moment.advance(self._start, self._rows / self._rate)
        if self._moment.held:
            self._open_for -= 1
            if self._open_for < 0:
                return self._end_side()
        transaction = self._choose()
        if isinstance(transaction, SideTransaction):
            self._moment.held = frozenset(int(values[-1]) for _, values in transaction.statements)
            self._open_for = transaction.stays_open_for
        self._rows += transaction.rows
        return transaction

    def finish(self) -> list[Step]:
        """Ends what is still open."""
        return [self._end_side()] if self._moment.held else []

    @property
    def rows(self) -> int:
        """Rows that all steps so far change, the opening not counted."""
        return self._rows

    def _end_side(self) -> SideEnd:
        self._moment.held = frozenset()
        return SideEnd()

    def _choose(self) -> Transaction:
        random = self._moment.random
        if random.random() < UPKEEP_SHARE:
            (kind,) = random.choices(self._kinds, self._weights)
            waits = kind is shop_upkeep.reprice and self._moment.held
            planned = None if waits else kind(self._moment)
            if planned is not None:
                return planned
        if self._moment.state.is_due(self._moment.second):
            return shop_orders.go_on(self._moment)
        return shop_orders.place(self._moment)
