"""Proves that all copies are equal: silver to PostgreSQL row by row, gold to silver, ClickHouse to gold.

The shop may write, and the platform may load, while this runs. PostgreSQL is read once, in one snapshot, by COPY, and
the checksums are made here: tried with a million orders, that takes half the processor time of PostgreSQL's own sums
of `hashtextextended` over the rows, and a third of sums of `md5`; and masked columns can be compared at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace

import psycopg
from duckdb import DuckDBPyConnection
from pyiceberg.catalog import Catalog

from orders_platform.contracts import Contract, load_contracts
from orders_platform.lake.duckdb_engine import connect
from orders_platform.lake.shop_keys import column_types
from orders_platform.quality import gold_rows, lake_sides
from orders_platform.quality.comparison import Pair, Patience, compare
from orders_platform.quality.errors import ReconcileError
from orders_platform.quality.fences import ClickHouseFence, SilverFence
from orders_platform.quality.fingerprints import fingerprint_select
from orders_platform.quality.gold_inputs import GoldInputs
from orders_platform.quality.key_range import EVERYTHING, KeyRange
from orders_platform.quality.report import ReconcileReport, TableComparison
from orders_platform.quality.shop_snapshot import ShopSide, ShopSnapshot, shop_snapshot
from orders_platform.settings import Settings

__all__ = ["LIMIT", "ReconcileError", "ReconcileReport", "reconcile", "reconcile_range", "reconcile_silver"]

LIMIT = 20
"""Differing rows that are named a table."""


def reconcile(
    settings: Settings,
    catalog: Catalog,
    limit: int = LIMIT,
    progress: Callable[[str], None] | None = None,
    patience: Patience | None = None,
) -> ReconcileReport:
    """Compares every table with its source.

    Args:
        limit: differing rows that are named a table; all are counted.
        progress: told in a sentence what is being compared.
        patience: how long a difference may last while things move (see `Patience`).

    Raises:
        ShopUnreadableError: PostgreSQL cannot be read.
        NotLoadedError: a table of the lake, or ClickHouse's, does not exist or cannot be reached.
    """
    start = time.monotonic()
    comparisons = reconcile_silver(settings, catalog, limit, progress, patience)
    comparisons += _compare_all(settings, lambda _: _gold_pairs(settings, catalog), limit, progress, patience)
    return ReconcileReport(tuple(comparisons), time.monotonic() - start)


def reconcile_silver(
    settings: Settings,
    catalog: Catalog,
    limit: int = LIMIT,
    progress: Callable[[str], None] | None = None,
    patience: Patience | None = None,
) -> list[TableComparison]:
    """Compares silver's tables with PostgreSQL's alone. Arguments and errors as `reconcile`."""
    tell = progress or (lambda _: None)
    return _compare_all(settings, lambda con: _silver_pairs(settings, catalog, con, tell), limit, progress, patience)


def reconcile_range(
    settings: Settings,
    catalog: Catalog,
    contract: Contract,
    within: KeyRange,
    limit: int = LIMIT,
    patience: Patience | None = None,
) -> TableComparison:
    """Compares a range of a silver table's keys with PostgreSQL's. Other arguments and errors as `reconcile`."""
    with closing(connect(settings)) as con:
        with shop_snapshot(settings.postgres) as snapshot:
            pair = _silver_pair(settings, catalog, con, contract, snapshot, within)
        return _compare(con, pair, limit, patience)


def _compare_all(
    settings: Settings,
    pairs: Callable[[DuckDBPyConnection], Iterable[Pair | TableComparison]],
    limit: int,
    progress: Callable[[str], None] | None,
    patience: Patience | None,
) -> list[TableComparison]:
    comparisons = []
    with closing(connect(settings)) as con:
        for pair in pairs(con):
            if progress and isinstance(pair, Pair):
                progress(f"Comparing {pair.found.name} with {pair.expected.name}")
            comparisons.append(_compare(con, pair, limit, patience))
    return comparisons


def _compare(
    con: DuckDBPyConnection, pair: Pair | TableComparison, limit: int, patience: Patience | None
) -> TableComparison:
    return compare(con, pair, patience or Patience(), limit) if isinstance(pair, Pair) else pair


def _silver_pairs(
    settings: Settings, catalog: Catalog, con: DuckDBPyConnection, tell: Callable[[str], None]
) -> list[Pair | TableComparison]:
    """Silver and the shop, whose tables are all read here, in one snapshot."""
    with shop_snapshot(settings.postgres) as snapshot:
        pairs: list[Pair | TableComparison] = []
        for contract in load_contracts():
            tell(f"Reading {contract.table} from PostgreSQL")
            pairs.append(_silver_pair(settings, catalog, con, contract, snapshot))
    return pairs


def _silver_pair(
    settings: Settings,
    catalog: Catalog,
    con: DuckDBPyConnection,
    contract: Contract,
    snapshot: ShopSnapshot,
    within: KeyRange = EVERYTHING,
) -> Pair | TableComparison:
    """What is to be compared, or that PostgreSQL refuses this table: it is gone, say, or may not be read."""
    contract, gone = _of_columns_that_exist(lake_sides.as_loaded(catalog, contract), snapshot)
    shop = ShopSide(settings.postgres, contract, settings.masking_key, within=within, gone=gone)
    table = f"_shop_{contract.table}"
    try:
        with snapshot.connection.transaction():
            replace(shop, held=snapshot).load(con, table, fingerprint_select(shop.shape))
    except psycopg.ProgrammingError as error:
        problem = str(error).partition("\n")[0]
        return TableComparison(contract.silver_table, f"PostgreSQL's {contract.source}", 0, 0, problem=problem)
    return Pair(
        shape=shop.shape,
        expected=shop,
        found=lake_sides.silver_side(catalog, contract, within),
        make_fence=lambda: SilverFence(settings, catalog, contract),
        expected_table=table,
    )


def _of_columns_that_exist(contract: Contract, snapshot: ShopSnapshot) -> tuple[Contract, tuple[str, ...]]:
    """The contract without the columns that PostgreSQL no longer has, and their names; those of the key stay.

    Silver keeps what such a column held, beside which there is nothing to compare.
    """
    there = column_types(snapshot.connection, contract)
    kept = tuple(c for c in contract.columns if c.source_name in there or c.name in contract.key)
    return replace(contract, columns=kept), tuple(c.source_name for c in contract.columns if c not in kept)


def _gold_pairs(settings: Settings, catalog: Catalog) -> list[Pair]:
    facts, revenue = (
        lake_sides.gold_side(catalog, "gold.fact_orders", gold_rows.FACT_ORDERS),
        lake_sides.gold_side(catalog, "gold.daily_revenue", gold_rows.DAILY_REVENUE),
    )
    of_facts, of_revenue = (GoldInputs(catalog, side.name) for side in (facts, revenue))
    return [
        Pair(
            facts.shape,
            lake_sides.expected_facts(settings, catalog, of_facts),
            facts,
            make_fence=lambda: of_facts.has_come,
        ),
        Pair(
            revenue.shape,
            lake_sides.expected_revenue(settings, catalog, of_revenue),
            revenue,
            make_fence=lambda: of_revenue.has_come,
        ),
        Pair(
            revenue.shape,
            revenue,
            lake_sides.clickhouse_side(settings),
            make_fence=lambda: ClickHouseFence(settings, catalog),
        ),
    ]
