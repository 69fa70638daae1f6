"""A shop with some rows and silver equal to it, made once; each test has a copy of the database."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg
import pytest
from pyiceberg.catalog import Catalog

from orders_platform.lake.catalog import open_catalog
from orders_platform.settings import Settings
from orders_platform.stack.postgres import local_dsn
from orders_platform.stack.shop import apply_schema, run_shop
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.quality.copied_silver import copy_shop

TEMPLATE = "shop_to_reconcile"
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def copied_shop(postgres: Settings, new_home: Callable[[str], object]) -> Settings:
    """Three days and some hundred changes in PostgreSQL, and the same in silver. Not to be changed."""
    with psycopg.connect(postgres.postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {TEMPLATE}")
    dsn = local_dsn(postgres, TEMPLATE)
    apply_schema(dsn)
    run_shop(dsn, 100_000, 1, seed=3, history_days=3, max_changes=600, orders_a_day=30, clock=lambda: NOON)
    settings = new_settings(new_home("reconcile"), postgres_dsn=dsn)  # type: ignore[arg-type]
    copy_shop(settings, open_catalog(settings))
    return settings


@pytest.fixture(scope="session")
def catalog(copied_shop: Settings) -> Catalog:
    """The catalog of silver."""
    return open_catalog(copied_shop)


@pytest.fixture
def shop_settings(postgres: Settings, copied_shop: Settings) -> Settings:
    """The same lake, beside a copy of the database that the test may change."""
    name = f"copy_{random.randrange(10**12)}"
    with psycopg.connect(postgres.postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    return new_settings(copied_shop.home, postgres_dsn=local_dsn(postgres, name))
