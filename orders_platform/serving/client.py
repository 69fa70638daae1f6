"""A connection to ClickHouse: a server, the local stack's front, or the engine inside this process (`chdb:///path`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import clickhouse_connect
from clickhouse_connect.driver.client import Client

from orders_platform.settings import Settings


@contextmanager
def open_client(settings: Settings) -> Iterator[Client]:
    """A client for one load or one question.

    Raises:
        clickhouse_connect.driver.exceptions.OperationalError: if nothing answers at the address in the settings.
    """
    dsn = settings.clickhouse
    # A server refuses a second question in a session while it answers the first; nothing here needs a session.
    options: dict[str, Any] = {} if dsn.startswith("chdb:") else {"autogenerate_session_id": False}
    client = clickhouse_connect.get_client(dsn=dsn, **options)
    try:
        yield client
    finally:
        client.close()
