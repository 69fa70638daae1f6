"""An S3 server as the place of a history's tables and staged files: a prefix of its own, reached through a proxy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pyarrow.fs import FileSystem, FileType, LocalFileSystem, S3FileSystem, copy_files

from orders_platform.settings import Settings
from orders_platform_tests.conftest import _free_ports
from orders_platform_tests.faults.store_proxy import StoreProxy
from orders_platform_tests.object_store import object_store

BUCKET = "histories"
VOLUMES = 200
"""Of 64 MB at most each: room for the histories of a matrix."""


@contextmanager
def server() -> Iterator[Mapping[str, str]]:
    """A server for all histories; yields the AWS SDK's variables."""
    with object_store(_free_ports(8), BUCKET, VOLUMES) as variables:
        yield variables


class SettingsOnS3(Settings):
    """Settings whose store is not that of the process's environment: several histories share this process."""

    variables: dict[str, str]
    prefix: str

    @cached_property
    def s3(self) -> Mapping[str, str]:
        return {
            "s3.endpoint": self.variables["AWS_ENDPOINT_URL_S3"],
            "s3.region": self.variables["AWS_REGION"],
            "s3.access-key-id": self.variables["AWS_ACCESS_KEY_ID"],
            "s3.secret-access-key": self.variables["AWS_SECRET_ACCESS_KEY"],
        }

    @cached_property
    def catalog_properties(self) -> Mapping[str, str]:
        return {**super().catalog_properties, "warehouse": f"s3://{self.prefix}/warehouse"}


class RemoteStore:
    """What one history has on the server. The history's processes go through the proxy, those who look on do not."""

    def __init__(self, variables: Mapping[str, str], name: str) -> None:
        self.proxy = StoreProxy(variables["AWS_ENDPOINT_URL_S3"])
        self.prefix = f"{BUCKET}/{name}"
        self.variables = dict(variables)

    @property
    def environment(self) -> Mapping[str, str]:
        """For the history's processes."""
        return {
            **self.variables,
            "AWS_ENDPOINT_URL_S3": self.proxy.url,
            "ORDERS_PLATFORM_STAGING_URL": f"s3://{self.prefix}/staging",
            "PYICEBERG_CATALOG__ORDERS__WAREHOUSE": f"s3://{self.prefix}/warehouse",
        }

    def settings(self, values: Mapping[str, Any]) -> Settings:
        """For those who look on."""
        url = f"s3://{self.prefix}/staging"
        return SettingsOnS3(_env_file=None, staging_url=url, variables=self.variables, prefix=self.prefix, **values)

    @cached_property
    def files(self) -> FileSystem:
        return S3FileSystem(
            access_key=self.variables["AWS_ACCESS_KEY_ID"],
            secret_key=self.variables["AWS_SECRET_ACCESS_KEY"],
            region=self.variables["AWS_REGION"],
            endpoint_override=urlsplit(self.variables["AWS_ENDPOINT_URL_S3"]).netloc,
            scheme="http",
            request_timeout=60,
            connect_timeout=10,
        )

    def keep(self, folder: Path) -> None:
        """Copies everything into a folder: what a history has left is its evidence."""
        copy_files(self.prefix, str(folder), source_filesystem=self.files, destination_filesystem=LocalFileSystem())

    def close(self) -> None:
        """Removes what the history has left."""
        self.proxy.close()
        if self.files.get_file_info(self.prefix).type is FileType.Directory:
            self.files.delete_dir(self.prefix)
