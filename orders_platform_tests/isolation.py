"""Tests, benchmarks and histories work on parts of their own: the caller's settings are forgotten before they begin."""

from __future__ import annotations

import os
from pathlib import Path

from orders_platform.environment import ENV_FILE_VARIABLE

PREFIXES = ("ORDERS_PLATFORM_", "PYICEBERG_", "AWS_", "DBT_", "DAGSTER_HOME")
"""Beginnings of what we, PyIceberg, the AWS SDK, dbt and Dagster read."""

NO_ENV_FILE = ".env-of-no-test"
"""In place of `.env`, in the processes that tests start too."""

INSTEAD = {
    ENV_FILE_VARIABLE: NO_ENV_FILE,
    # The SDK's own files hold keys and endpoints as well.
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    # So does PyIceberg's.
    "PYICEBERG_HOME": str(Path(__file__).parent),
}


def forget_the_callers_settings() -> None:
    """Takes what names somebody's systems out of the environment, and `.env` out of sight.

    A process that a test has started keeps what that test gave it.
    """
    if os.environ.get(ENV_FILE_VARIABLE) == NO_ENV_FILE:
        return
    for name in [name for name in os.environ if name.upper().startswith(PREFIXES)]:
        del os.environ[name]
    os.environ.update(INSTEAD)
