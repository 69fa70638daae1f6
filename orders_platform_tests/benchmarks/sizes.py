"""How much a run of the benchmark does."""

from __future__ import annotations

from dataclasses import dataclass

from orders_platform_tests.benchmarks.events import Shape


@dataclass(frozen=True)
class Sizes:
    """`keys` orders are created and `first_updates` of them changed at once; then `updates` keys are changed.

    `line_items` belong to the orders of one date, which gold then builds. `commits` micro-batches of `commit_rows` rows
    go into a table of their own; `small_batches` of `small_batch_rows` changes each go into the large one.
    """

    keys: int
    first_updates: int
    updates: int
    order_dates: int
    customers: int
    commits: int
    commit_rows: int
    small_batches: int
    small_batch_rows: int

    @property
    def shape(self) -> Shape:
        return Shape(orders_per_day=self.keys // self.order_dates, customers=self.customers)

    @property
    def line_items(self) -> int:
        return self.shape.orders_per_day * self.shape.lines_per_order


FULL = Sizes(
    keys=1_000_000,
    first_updates=500_000,
    updates=500_000,
    order_dates=10,
    customers=50_000,
    commits=3_000,
    commit_rows=50,
    small_batches=5,
    small_batch_rows=1_000,
)
QUICK = Sizes(
    keys=20_000,
    first_updates=10_000,
    updates=10_000,
    order_dates=4,
    customers=500,
    commits=12,
    commit_rows=50,
    small_batches=1,
    small_batch_rows=200,
)
