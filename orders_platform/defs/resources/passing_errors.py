"""Which errors may pass by themselves, and how long to wait before a step tries again.

What can pass: a broker, a store, a catalog or ClickHouse that does not answer, and a commit that lost its race. What
cannot pass is never tried again: a broken contract, a lost range, a failed check say the same thing a second time.
Classes are compared by name, so that judging an error imports none of the libraries that raise them. The object store's
clients raise one class for all that it may answer; there its status tells what passes, or what the message quotes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
        "orders_platform.defs.resources.dbt.DbtCutOffError",
        "orders_platform.ingest.errors.BrokerUnavailableError",
        "orders_platform.ingest.errors.CommitRefusedError",
        "orders_platform.lake.commits.CommitUnknownError",
        "orders_platform.lake.commits.ConflictError",
        "orders_platform.serving.daily_revenue.OvertakenError",
        "pyiceberg.exceptions.CommitFailedException",
        "pyiceberg.exceptions.CommitStateUnknownException",
        "pyiceberg.exceptions.ServerError",
        "pyiceberg.exceptions.ServiceUnavailableError",
        "requests.exceptions.ChunkedEncodingError",
        "requests.exceptions.ConnectionError",
        "requests.exceptions.Timeout",
        "sqlalchemy.exc.OperationalError",
        "urllib3.exceptions.HTTPError",
    }
)

AWS_ANSWER = "botocore.exceptions.ClientError"
TOLD_BY_MESSAGE = frozenset({"builtins.OSError", "_duckdb.IOException", "duckdb.IOException"})
"""What PyArrow and DuckDB raise for the object store and for a local disk alike."""
STORE_IS_AWAY = re.compile(
    r"AWS Error (?:NETWORK_CONNECTION|SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|THROTTLING|REQUEST_TIMEOUT)\b"
    r"|\bHTTP (?:status |code )?(?:429|5\d\d)\b"
    r"|error for HTTP [A-Z]+ to "
)
"""PyArrow's codes, both libraries' HTTP status, and DuckDB's words for a request that was not answered."""


def may_pass(error: BaseException) -> bool:
    """Whether the same step may succeed a little later."""
    names = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(error).__mro__}
    if AWS_ANSWER in names:
        return _is_for_now(getattr(error, "response", {}))
    return bool(names & PASSING) or (bool(names & TOLD_BY_MESSAGE) and store_is_away(str(error)))


def store_is_away(message: str) -> bool:
    """Whether an error's message says that the object store did not answer, or has too much to do."""
    return STORE_IS_AWAY.search(message) is not None


def _is_for_now(answer: dict[str, Any]) -> bool:
    """Whether S3 answered "not now"; a request that it received too slowly is called a wrong one (400)."""
    status: int = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    too_slow: bool = answer.get("Error", {}).get("Code") == "RequestTimeout"
    return status == 429 or status >= 500 or too_slow


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
