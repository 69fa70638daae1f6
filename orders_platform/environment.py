"""The process's environment: lines of `.env` join it, and a name of ours that nobody reads is found."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection
from pathlib import Path

from dotenv import load_dotenv

ENV_FILE = ".env"
ENV_FILE_VARIABLE = "ORDERS_PLATFORM_ENV_FILE"
"""Names another file than `.env`; one that is not there means none, as for the tests."""

SERVICE_LINK = re.compile(r"(.*_)?(SERVICE_(HOST|PORT.*)|PORT(_\d+_(TCP|UDP|SCTP).*)?)")
"""What Kubernetes adds to every container for a Service that is called `orders-platform` (its "service links")."""


def read_env_file() -> None:
    """Adds the lines of `.env` in the working directory to the environment; a variable that is there already wins.

    To the environment, since PyIceberg, the AWS SDK and the processes that we start read theirs there, and since
    `dagster dev` does the same: the command line and Dagster see one installation.
    """
    load_dotenv(Path.cwd() / os.environ.get(ENV_FILE_VARIABLE, ENV_FILE), override=False)


def unknown_variables(prefix: str, names: Collection[str], groups: Collection[str]) -> list[str]:
    """Variables with our prefix that are not of `names` and begin with none of `groups`, each with the nearest."""
    problems = []
    for name in sorted(os.environ):
        wanted = name.upper()
        if not wanted.startswith(prefix) or wanted in names or SERVICE_LINK.fullmatch(wanted.removeprefix(prefix)):
            continue
        if any(wanted.startswith(group) and wanted != group for group in groups):
            continue
        nearest = difflib.get_close_matches(wanted, [*names, *groups], n=1)
        problems.append(f"{name} is no setting" + (f"; did you mean {nearest[0]}?" if nearest else ""))
    return problems
