"""Carries planned transactions out: the ordinary ones in a pipeline, the slow ones on a second connection beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import psycopg

from orders_platform.stack.shop_transaction import SideEnd, SideTransaction, Step, Transaction


class ShopWriter:
    """Writes, and counts what has been committed."""

    def __init__(self, main: psycopg.Connection, side: psycopg.Connection) -> None:
        """Both connections in autocommit mode: transactions are begun and ended by name."""
        self._main = main
        self._side = side
        self._open: SideTransaction | None = None
        self.changes: Counter[str] = Counter()
        self.transactions = 0
        self.rolled_back = 0

    def write(self, steps: Sequence[Step]) -> None:
        """Each transaction is one in PostgreSQL too; they are sent together, because a round trip each costs more.

        Raises:
            psycopg.Error: when one fails; those before it may have been committed.
        """
        written: list[Transaction] = []
        with self._main.pipeline() as pipeline, self._main.cursor() as cursor:
            for step in steps:
                if isinstance(step, SideTransaction):
                    # What was sent before may hold locks on the same rows: let it commit first.
                    pipeline.sync()
                    self._begin_side(step)
                elif isinstance(step, SideEnd):
                    self._end_side()
                else:
                    cursor.execute("BEGIN")
                    for statement, values in step.statements:
                        cursor.execute(statement, values)
                    cursor.execute("COMMIT")
                    written.append(step)
        # Leaving the pipeline has waited for every answer: all of them are committed now.
        for transaction in written:
            self._count(transaction)

    def _begin_side(self, transaction: SideTransaction) -> None:
        self._open = transaction
        self._side.execute("BEGIN")
        with self._side.pipeline():
            for statement, values in transaction.statements:
                self._side.execute(statement, values)

    def _end_side(self) -> None:
        transaction, self._open = self._open, None
        if transaction is None:
            return
        if transaction.commits:
            self._side.execute("COMMIT")
            self._count(transaction)
        else:
            self._side.execute("ROLLBACK")
            self.rolled_back += 1

    def _count(self, transaction: Transaction) -> None:
        self.changes[transaction.kind] += transaction.rows
        self.transactions += 1
