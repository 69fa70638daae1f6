"""Which errors may pass by themselves, and how long to wait before a step tries again.

What can pass: a broker, a store, a catalog or ClickHouse that does not answer, and a commit that lost its race. What
cannot pass is never tried again: a broken contract, a lost range, a failed check say the same thing a second time.
Classes are compared by name, so that judging an error imports none of the libraries that raise them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

MAX_RETRIES = 4
FIRST_WAIT_SECONDS = 2.0

PASSING = frozenset(
    {
        "builtins.ConnectionError",
        "builtins.TimeoutError",
        "botocore.exceptions.ConnectionError",
        "botocore.exceptions.HTTPClientError",
        "clickhouse_connect.driver.exceptions.OperationalError",
        "confluent_kafka.error.KafkaException",
        "cimpl.KafkaException",
        "orders_platform.ingest.errors.BrokerUnavailableError",
        "orders_platform.ingest.errors.CommitRefusedError",
        "orders_platform.lake.commits.CommitUnknownError",
        "orders_platform.lake.commits.ConflictError",
        "orders_platform.serving.daily_revenue.OvertakenError",
        "pyiceberg.exceptions.CommitFailedException",
        "pyiceberg.exceptions.CommitStateUnknownException",
        "pyiceberg.exceptions.ServerError",
        "pyiceberg.exceptions.ServiceUnavailableError",
        "requests.exceptions.ConnectionError",
        "requests.exceptions.Timeout",
        "sqlalchemy.exc.OperationalError",
        "urllib3.exceptions.HTTPError",
    }
)


def may_pass(error: BaseException) -> bool:
    """Whether the same step may succeed a little later."""
    return any(f"{cls.__module__}.{cls.__qualname__}" in PASSING for cls in type(error).__mro__)


@contextmanager
def retried(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> Iterator[None]:
    """Asks Dagster to try the step again, later each time, when the error may pass; raises all others as they are."""
    try:
        yield
    except Exception as error:
        if not may_pass(error):
            raise
        wait = FIRST_WAIT_SECONDS * 2.0**context.retry_number
        context.log.warning(f"{type(error).__name__} may pass, trying again in about {wait:.0f} s: {error}")
        raise dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=wait * random.uniform(0.75, 1.25)) from error
