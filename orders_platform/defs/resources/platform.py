"""What every asset and sensor works with: the settings and the catalog, which is opened when it is first used."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from orders_platform.contracts import Contract, load_contracts
from orders_platform.settings import Settings

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog


class Platform:
    """One installation, as a Dagster resource. Making it opens nothing."""

    def __init__(self, settings: Settings, contracts: tuple[Contract, ...] | None = None) -> None:
        self.settings = settings
        self.contracts = contracts or load_contracts()

    @cached_property
    def catalog(self) -> Catalog:
        """The Iceberg catalog, opened once a process."""
        from orders_platform.lake.catalog import open_catalog

        return open_catalog(self.settings)
