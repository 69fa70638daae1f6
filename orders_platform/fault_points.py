"""Every durable step, by name: the places at which a process may die and at which the tests kill it.

`FaultPoint` has the steps that every change passes on its way to the dashboards, `SituationPoint` those that some
situation brings about: a table's first load, a column that is new, snapshots that are old. Each has its points before
and after it; a commit has a third, when the catalog has it and the process has not heard so yet.

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
    """The durable steps of every run, in the order in which a change passes them.

    What is remembered of a topic is where it was first seen, and where each of its days begins.
    """

    MEMORY_BEFORE_NAME = "memory-before-name"
    MEMORY_AFTER_NAME = "memory-after-name"
    STAGING_BEFORE_NAME = "staging-before-name"
    STAGING_AFTER_NAME = "staging-after-name"
    BRONZE_BEFORE_COMMIT = "bronze-before-commit"
    BRONZE_COMMIT_UNANSWERED = "bronze-commit-unanswered"
    BRONZE_AFTER_COMMIT = "bronze-after-commit"
    VERSIONS_BEFORE_COMMIT = "versions-before-commit"
    VERSIONS_COMMIT_UNANSWERED = "versions-commit-unanswered"
    VERSIONS_AFTER_COMMIT = "versions-after-commit"
    SILVER_BEFORE_COMMIT = "silver-before-commit"
    SILVER_COMMIT_UNANSWERED = "silver-commit-unanswered"
    SILVER_AFTER_COMMIT = "silver-after-commit"
    SILVER_BEFORE_AUDITED = "silver-before-audited"
    SILVER_AUDITED_UNANSWERED = "silver-audited-unanswered"
    SILVER_AFTER_AUDITED = "silver-after-audited"
    GOLD_BEFORE_BRANCH = "gold-before-branch"
    GOLD_BRANCH_UNANSWERED = "gold-branch-unanswered"
    GOLD_AFTER_BRANCH = "gold-after-branch"
    GOLD_BEFORE_PUBLISH = "gold-before-publish"
    GOLD_PUBLISH_UNANSWERED = "gold-publish-unanswered"
    GOLD_AFTER_PUBLISH = "gold-after-publish"
    CLICKHOUSE_BEFORE_LOAD = "clickhouse-before-load"
    CLICKHOUSE_BEFORE_SWAP = "clickhouse-before-swap"
    CLICKHOUSE_AFTER_SWAP = "clickhouse-after-swap"
    CLICKHOUSE_AFTER_DROP = "clickhouse-after-drop"


class SituationPoint(StrEnum):
    """The durable steps that only some situation brings about, in the order in which a change would pass them."""

    # a table's first load
    TABLE_BEFORE_CREATION = "table-before-creation"
    TABLE_AFTER_CREATION = "table-after-creation"
    # a staged file that cannot be read; on an object store it is copied, then removed
    STAGED_FILE_BEFORE_SET_ASIDE = "staged-file-before-set-aside"
    STAGED_FILE_COPIED_ASIDE = "staged-file-copied-aside"
    STAGED_FILE_AFTER_SET_ASIDE = "staged-file-after-set-aside"
    # a table that is given columns or wider types, of any layer
    SCHEMA_BEFORE_COMMIT = "schema-before-commit"
    SCHEMA_COMMIT_UNANSWERED = "schema-commit-unanswered"
    SCHEMA_AFTER_COMMIT = "schema-after-commit"
    # every 50th commit of a table, of any layer
    EXPIRY_BEFORE_COMMIT = "expiry-before-commit"
    EXPIRY_COMMIT_UNANSWERED = "expiry-commit-unanswered"
    EXPIRY_AFTER_COMMIT = "expiry-after-commit"
    # a build of gold that was not published
    BRANCH_BEFORE_DROP = "branch-before-drop"
    BRANCH_DROP_UNANSWERED = "branch-drop-unanswered"
    BRANCH_AFTER_DROP = "branch-after-drop"
    # silver has moved and no order date is stale
    NOTE_BEFORE_COMMIT = "note-before-commit"
    NOTE_COMMIT_UNANSWERED = "note-commit-unanswered"
    NOTE_AFTER_COMMIT = "note-after-commit"
    # an operator's `ledger rebuild`
    REBUILD_BEFORE_COMMIT = "rebuild-before-commit"
    REBUILD_COMMIT_UNANSWERED = "rebuild-commit-unanswered"
    REBUILD_AFTER_COMMIT = "rebuild-after-commit"
    # an operator's `drift accept`; what `gaps` and `dead-letters` commit has the points of bronze's commits
    DRIFT_BEFORE_ACCEPTANCE = "drift-before-acceptance"
    DRIFT_ACCEPTANCE_UNANSWERED = "drift-acceptance-unanswered"
    DRIFT_AFTER_ACCEPTANCE = "drift-after-acceptance"


Point = FaultPoint | SituationPoint

_passed: Counter[Point] = Counter()


def reach(point: Point) -> None:
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
