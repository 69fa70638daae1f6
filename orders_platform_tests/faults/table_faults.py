"""Faults of the tables: what other engines, operators and lost servers do to them between two runs."""

from __future__ import annotations

import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import clickhouse_connect
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError

from orders_platform.contracts import Contract
from orders_platform.ingest.ledger_rebuild import NotNeededError, rebuild
from orders_platform.lake.catalog import open_catalog
from orders_platform_tests.faults.history import Step
from orders_platform_tests.faults.player import Player
from orders_platform_tests.faults.work import Kind, Work

LAG = Work(Kind.LAG_SENSOR)


def bronze_rolled_back(player: Player, step: Step) -> None:
    """A table's last commit is taken back; silver has merged it already."""
    player.run(step, LAG)
    contract, catalog = _contract(player, step), open_catalog(player.settings)
    roll_back(catalog, contract)
    player.run(step, LAG)
    _rebuild_if_told(player, catalog, contract)


def snapshots_expired(player: Player, step: Step) -> None:
    """All snapshots but heads and refs are gone, of bronze and of silver."""
    player.run(step, LAG)
    for contract in player.contracts:
        expire(open_catalog(player.settings), contract)


def foreign_compaction(player: Player, step: Step) -> None:
    """Another engine rewrites the files of bronze and silver, and copies nothing of ours into its commit."""
    player.run(step, LAG)
    contract = _contract(player, step)
    for table in (contract.bronze_table, contract.silver_table):
        compact(open_catalog(player.settings), table)
    player.run(step, LAG)


def compacted_expired_rolled_back(player: Player, step: Step) -> None:
    """All three to one table of bronze, in an order of the history's own."""
    player.run(step, LAG)
    contract, catalog = _contract(player, step), open_catalog(player.settings)
    actions = [
        lambda: compact(catalog, contract.bronze_table),
        lambda: expire(catalog, contract),
        lambda: roll_back(catalog, contract),
    ]
    random.Random(step.chance).shuffle(actions)
    for act in actions:
        act()
    player.run(step, LAG)
    _rebuild_if_told(player, catalog, contract)


def dashboard_lost(player: Player, step: Step) -> None:
    """ClickHouse comes back empty."""
    player.run(step, Work())
    client = clickhouse_connect.get_client(dsn=player.settings.clickhouse)
    client.command("TRUNCATE TABLE IF EXISTS daily_revenue")
    client.close()


def compact(catalog: Catalog, name: str) -> None:
    """Rewrites a table as PyIceberg does it for anybody: read all, overwrite all."""
    with suppress(NoSuchTableError):
        table = catalog.load_table(name)
        if table.current_snapshot() is not None:
            table.overwrite(table.scan().to_arrow())


def expire(catalog: Catalog, contract: Contract) -> None:
    """Drops every snapshot of bronze and silver that neither a head nor a ref needs."""
    for name in (contract.bronze_table, contract.silver_table):
        with suppress(NoSuchTableError):
            table = catalog.load_table(name)
            table.maintenance.expire_snapshots().older_than(datetime.now(UTC) + timedelta(minutes=1)).commit()


def roll_back(catalog: Catalog, contract: Contract) -> None:
    """Takes the last commit of bronze back, if there is one to go back to."""
    with suppress(NoSuchTableError):
        table = catalog.load_table(contract.bronze_table)
        head = table.current_snapshot()
        before = head and head.parent_snapshot_id
        if before and table.metadata.snapshot_by_id(before):
            table.manage_snapshots().rollback_to_snapshot(before).commit()


def _rebuild_if_told(player: Player, catalog: Catalog, contract: Contract) -> None:
    """Whoever goes back to the middle of a compaction has a table without rows or ledger: it stops, and the operator
    does as the error says.
    """
    with suppress(NotNeededError, NoSuchTableError):
        rebuild(player.settings, catalog, contract)


def _contract(player: Player, step: Step) -> Contract:
    return player.contracts[step.chance % len(player.contracts)]
