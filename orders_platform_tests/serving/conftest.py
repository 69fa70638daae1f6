"""Serving tests work on gold of their own, and on the one ClickHouse of the session, emptied before each."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog

from orders_platform.lake.catalog import open_catalog
from orders_platform.serving.client import open_client
from orders_platform.settings import Settings
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.serving.gold_days import GoldDays


@pytest.fixture
def dashboards(clickhouse: Settings, tmp_path: Path) -> Settings:
    """A fresh home, and ClickHouse without any table."""
    with open_client(clickhouse) as client:
        for (table,) in client.query("SELECT name FROM system.tables WHERE database = currentDatabase()").result_rows:
            client.command(f"DROP TABLE {table} SYNC")
    return new_settings(tmp_path / "home", clickhouse_url=clickhouse.clickhouse)


@pytest.fixture
def catalog(dashboards: Settings) -> Catalog:
    return open_catalog(dashboards)


@pytest.fixture
def gold(dashboards: Settings, catalog: Catalog) -> GoldDays:
    """Gold's daily revenue, empty."""
    return GoldDays(dashboards, catalog)
