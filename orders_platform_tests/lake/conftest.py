"""Lake tests work on a catalog of their own."""

from __future__ import annotations

import pytest
from pyiceberg.catalog import Catalog

from orders_platform.lake.catalog import open_catalog
from orders_platform.settings import Settings
from orders_platform_tests.lake.shop_in_silver import ShopInSilver


@pytest.fixture
def catalog(settings: Settings) -> Catalog:
    """An empty catalog in a fresh home."""
    return open_catalog(settings)


@pytest.fixture
def shop(settings: Settings, catalog: Catalog) -> ShopInSilver:
    """A shop without anything."""
    return ShopInSilver(settings, catalog)
