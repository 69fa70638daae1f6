"""What every asset and sensor works with: the settings, the catalog and the place of staging, opened at first use."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from orders_platform.contracts import Contract, load_contracts
from orders_platform.settings import Settings

if TYPE_CHECKING:
    from dagster_aws.s3 import S3Resource
    from pyiceberg.catalog import Catalog

    from orders_platform.ingest.staging_files import Storage


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

    @cached_property
    def s3(self) -> S3Resource | None:
        """dagster-aws's resource for the staged files, where they are on S3. Its import costs a second: else None."""
        if not self.settings.staging.startswith("s3://"):
            return None
        from dagster_aws.s3 import S3Resource

        properties = self.settings.s3
        return S3Resource(
            endpoint_url=properties.get("s3.endpoint"), region_name=properties.get("s3.region", "us-east-1")
        )

    @cached_property
    def staging_place(self) -> Storage:
        """Where the staged files are."""
        from orders_platform.ingest.staging_files import storage

        return storage(self.settings, self.s3.get_client() if self.s3 else None)
