"""Every durable step of a run, by name: the places at which a process may die and at which the tests kill it.

`reach` does nothing unless `ORDERS_PLATFORM_FAULT` names the point (`bronze-after-commit`, or `bronze-after-commit:3`
for the third time it is passed); then the process ends at once with SIGKILL, as if the machine had lost power.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from enum import StrEnum

VARIABLE = "ORDERS_PLATFORM_FAULT"


class FaultPoint(StrEnum):
    """The durable steps in the order in which a change passes them."""

    STAGING_BEFORE_NAME = "staging-before-name"
    STAGING_AFTER_NAME = "staging-after-name"
    BRONZE_BEFORE_COMMIT = "bronze-before-commit"
    BRONZE_COMMIT_UNANSWERED = "bronze-commit-unanswered"
    BRONZE_AFTER_COMMIT = "bronze-after-commit"
    VERSIONS_BEFORE_COMMIT = "versions-before-commit"
    VERSIONS_AFTER_COMMIT = "versions-after-commit"
    SILVER_BEFORE_COMMIT = "silver-before-commit"
    SILVER_COMMIT_UNANSWERED = "silver-commit-unanswered"
    SILVER_AFTER_COMMIT = "silver-after-commit"
    SILVER_BEFORE_AUDITED = "silver-before-audited"
    SILVER_AFTER_AUDITED = "silver-after-audited"
    GOLD_BEFORE_BRANCH = "gold-before-branch"
    GOLD_AFTER_BRANCH = "gold-after-branch"
    GOLD_BEFORE_PUBLISH = "gold-before-publish"
    GOLD_AFTER_PUBLISH = "gold-after-publish"
    CLICKHOUSE_BEFORE_LOAD = "clickhouse-before-load"
    CLICKHOUSE_BEFORE_SWAP = "clickhouse-before-swap"
    CLICKHOUSE_AFTER_SWAP = "clickhouse-after-swap"
    CLICKHOUSE_AFTER_DROP = "clickhouse-after-drop"


_passed: Counter[FaultPoint] = Counter()


def reach(point: FaultPoint) -> None:
    """Dies here if the environment says so."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    name, _, count = wanted.partition(":")
    if name != point:
        return
    _passed[point] += 1
    if _passed[point] == int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)
