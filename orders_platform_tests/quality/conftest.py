"""A shop with some rows, and silver equal to it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog

from orders_platform.lake.catalog import open_catalog
from orders_platform.settings import Settings
from orders_platform.stack.shop import apply_schema, run_shop
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.quality.copied_silver import copy_shop


@pytest.fixture
def shop_settings(tmp_path: Path, shop_dsn: str) -> Settings:
    """Settings whose PostgreSQL holds a shop of three days and some hundred changes."""
    settings = new_settings(tmp_path / "home", postgres_dsn=shop_dsn)
    apply_schema(shop_dsn)
    now = datetime(2026, 3, 10, 12, tzinfo=UTC)
    run_shop(
        shop_dsn, rate=100_000, minutes=1, seed=3, history_days=3, max_changes=600, orders_a_day=30, clock=lambda: now
    )
    return settings


@pytest.fixture
def catalog(shop_settings: Settings) -> Catalog:
    """The catalog of these settings, its silver equal to the shop."""
    catalog = open_catalog(shop_settings)
    copy_shop(shop_settings, catalog)
    return catalog
