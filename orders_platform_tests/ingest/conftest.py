"""A topic of each test's own on the shared broker, with tables and staging of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from pyiceberg.catalog import Catalog

from orders_platform.contracts import Contract
from orders_platform.ingest.topics import topic_name
from orders_platform.lake.catalog import open_catalog
from orders_platform.settings import Settings
from orders_platform_tests.conftest import _free_ports
from orders_platform_tests.ingest.broker_admin import make_topic
from orders_platform_tests.ingest.events import contract
from orders_platform_tests.object_store import object_store


@pytest.fixture
def shop_topic(broker: Settings, tmp_path: Path) -> Settings:
    """Settings of an installation whose topic of `orders` has 3 partitions and its producers' timestamps."""
    prefix = f"t{uuid.uuid4().hex[:12]}"
    settings = Settings(_env_file=None, home=tmp_path / "home", ports=broker.ports, topic_prefix=prefix)  # type: ignore[call-arg]
    make_topic(settings)
    return settings


@pytest.fixture
def topic(shop_topic: Settings) -> str:
    """The name of the topic of `orders`."""
    return topic_name(shop_topic, contract())


@pytest.fixture
def orders() -> Contract:
    return contract("orders")


@pytest.fixture
def catalog(shop_topic: Settings) -> Iterator[Catalog]:
    catalog = open_catalog(shop_topic)
    yield catalog
    catalog.close()


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB as the platform configures it, in UTC."""
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


@pytest.fixture(scope="session")
def s3_variables() -> Iterator[dict[str, str]]:
    """The AWS SDK's variables of a running S3 server with the bucket `staging`."""
    with object_store(_free_ports(8), "staging") as variables:
        yield variables
