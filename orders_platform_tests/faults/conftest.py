"""What the histories of the default run have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from orders_platform.settings import Settings
from orders_platform_tests.faults.matrix import RECORDED_SEED, take_recording
from orders_platform_tests.faults.recording import Recording
from orders_platform_tests.faults.remote_store import server
from orders_platform_tests.faults.store_proxy import StoreProxy


@pytest.fixture(scope="session")
def recording(live_stack: Settings) -> Recording:
    """What Debezium made of a shop's changes on the live stack, once for all histories."""
    return take_recording(live_stack, RECORDED_SEED)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Mapping[str, str]]:
    """The AWS SDK's variables of an S3 server, once for all histories that are on one."""
    with server() as variables:
        yield variables


@pytest.fixture
def proxy(s3_server: Mapping[str, str]) -> Iterator[StoreProxy]:
    """What stands before the server, and may be told to disturb."""
    proxy = StoreProxy(s3_server["AWS_ENDPOINT_URL_S3"])
    yield proxy
    proxy.close()
