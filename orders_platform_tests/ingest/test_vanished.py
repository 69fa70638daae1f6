"""Deletes that were lost are found in PostgreSQL and written down so that anything newer wins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pyiceberg.catalog import Catalog

from orders_platform.ingest.ledger import Ledger
from orders_platform.ingest.ledger_check import check_bronze
from orders_platform.ingest.vanished import Vanished, remove_vanished
from orders_platform.lake.audit import check_silver
from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.commits import commit, head
from orders_platform.lake.silver import merge_silver
from orders_platform.settings import Settings
from orders_platform.stack.shop import apply_schema
from orders_platform_tests.lake.changes import append, bronze, change, contract, silver_rows

INVENTORY = contract("inventory")
NOW = "2026-03-01 00:00:00+00"


class Lake:
    """Bronze and silver of `inventory`, whose key has two columns, beside a PostgreSQL."""

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        self.settings, self.catalog = settings, catalog
        self._rows = 0

    def write(self, *rows: dict[str, Any]) -> None:
        """Changes into bronze, with a ledger that knows them, and into silver."""
        self._append(*rows)
        merge_silver(self.settings, self.catalog, INVENTORY)

    def _append(self, *rows: dict[str, Any]) -> None:
        append(self.settings, self.catalog, INVENTORY, rows)
        self._rows += len(rows)
        table = bronze(self.catalog, INVENTORY)
        before = Ledger() if self._rows == len(rows) else Ledger.said_by(table, table.metadata.snapshots[-2])
        summary = replace(before, rows=before.rows + len(rows)).summary()
        commit(table, expected=head(table), add=(), summary=summary, tag="ledger")

    def shop(self, *statements: str) -> None:
        with psycopg.connect(self.settings.postgres, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def remove(self, since: int | None = None) -> Vanished:
        table = self.catalog.load_table(INVENTORY.silver_table)
        snapshot = table.current_snapshot()
        assert snapshot is not None
        found = remove_vanished(self.settings, self.catalog, INVENTORY, since or snapshot.sequence_number or 0, "ann")
        merge_silver(self.settings, self.catalog, INVENTORY)
        return found

    @property
    def stock(self) -> dict[tuple[int, int], int]:
        rows = silver_rows(self.settings, self.catalog, INVENTORY)
        return {(r["warehouse_id"], r["product_id"]): r["quantity"] for r in rows if not r["_deleted"]}


def stock(warehouse: int, product: int, at: int, quantity: int = 1, op: str = "c", **values: Any) -> dict[str, Any]:
    full = {} if op == "d" else {"quantity": quantity, "updated_at": datetime(2026, 3, 1, tzinfo=UTC)}
    return change({"warehouse_id": warehouse, "product_id": product}, op, at, **{**full, **values})


@pytest.fixture
def lake(shop_dsn: str, tmp_path: Path) -> Iterator[Lake]:
    apply_schema(shop_dsn)
    settings = Settings(_env_file=None, home=tmp_path, postgres_dsn=shop_dsn)  # type: ignore[call-arg]
    catalog = open_catalog(settings)
    lake = Lake(settings, catalog)
    lake.shop(
        f"INSERT INTO products SELECT i, 's', 'n', 'd', 'c', 1, true, '{NOW}', '{NOW}' FROM generate_series(1, 9) i",
        f"INSERT INTO inventory VALUES (1, 1, 1, '{NOW}'), (2, 1, 1, '{NOW}')",
    )
    yield lake
    catalog.close()


def test_rows_that_postgresql_does_not_have_are_removed_by_their_whole_key(lake: Lake) -> None:
    lake.write(stock(1, 1, 1), stock(2, 1, 2), stock(2, 2, 3), stock(1, 2, 4))
    assert lake.remove().removed == 2
    assert lake.stock == {(1, 1): 1, (2, 1): 1}
    assert lake.remove() == Vanished(2, 0, 0, None)
    outcome = check_silver(lake.settings, lake.catalog, INVENTORY)
    assert outcome.passed, outcome.description


def test_rows_that_changed_since_are_not_asked_for(lake: Lake) -> None:
    lake.write(stock(2, 2, 3))
    silver = lake.catalog.load_table(INVENTORY.silver_table).current_snapshot()
    assert silver is not None
    lake.write(stock(1, 2, 4))
    assert lake.remove(since=silver.sequence_number).asked == 1
    assert lake.stock == {(1, 2): 1}


@pytest.mark.parametrize("late", ["before the repair is merged", "after it"])
def test_a_change_that_comes_later_wins_whenever_it_comes(lake: Lake, late: str) -> None:
    lake.write(stock(2, 2, 3))
    if late == "after it":
        assert lake.remove().removed == 1
        assert lake.stock == {}
        lake.write(stock(2, 2, 4, quantity=7))
    else:
        lake._append(stock(2, 2, 4, quantity=7))
        assert lake.remove().removed == 1
    assert lake.stock == {(2, 2): 7}
    lake.catalog.drop_table(INVENTORY.silver_table)
    merge_silver(lake.settings, lake.catalog, INVENTORY)
    assert lake.stock == {(2, 2): 7}


@pytest.mark.parametrize("first", [0, 1], ids=["the elder ends first", "the younger ends first"])
def test_a_row_of_a_transaction_that_postgresql_does_not_show_yet_is_left(lake: Lake, first: int) -> None:
    """A commit that waits for its synchronous standby is delivered by Debezium before any query sees it."""
    with psycopg.connect(lake.settings.postgres) as elder, psycopg.connect(lake.settings.postgres) as younger:
        running = [elder, younger]
        for product, connection in enumerate(running):
            (xid,) = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone() or (0,)
            lake.write(stock(2, 2 + product, 3 + product, _tx_id=xid))
        found = lake.remove()
        assert (found.removed, found.left) == (0, 2)
        running[first].rollback()
        found = lake.remove()
        assert (found.removed, found.left) == (1, 1)
        assert lake.stock == {(2, 3 - first): 1}


@pytest.mark.parametrize("distance", [1000, 2**31 - 1, -(2**31), -(2**31) - 1000])
def test_rows_of_transactions_that_a_restore_has_undone_are_removed(lake: Lake, distance: int) -> None:
    """Their numbers are of the future, or so long past that they look like it."""
    with psycopg.connect(lake.settings.postgres) as connection:
        (xid,) = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone() or (0,)
    lake.write(stock(2, 2, 3, _tx_id=(xid + distance) % 2**32))
    found = lake.remove()
    assert (found.removed, found.left) == (1, 0)
    assert lake.stock == {}


def test_the_ledger_knows_what_a_repair_has_put_into_the_table(lake: Lake) -> None:
    lake.write(stock(2, 2, 3))
    found = lake.remove()
    ledger = Ledger.read(bronze(lake.catalog, INVENTORY))
    (accepted,) = ledger.accepted
    assert accepted.by == "ann"
    assert accepted.gap.log_id in ledger.closed
    assert ledger.of(accepted.gap.log_id, 0).pairs == ((0, 1),)
    assert ledger.snapshot_id == found.snapshot_id
    outcome = check_bronze(lake.settings, lake.catalog, INVENTORY, datetime.now(UTC).date())
    assert outcome.passed, outcome.description
