"""Which order dates of a build dbt's tests have refused: each test that failed is asked again, one date at a time.

dbt's tests read all dates of a build together, and what they return need not say of which date it is. So their SQL, as
dbt has compiled it, runs once more on what the branch holds of each date alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import duckdb
from pyiceberg.catalog import Catalog

from orders_platform.lake.dbt_store import lay_out, show_dates
from orders_platform.lake.gold_workspace import Workspace
from orders_platform.settings import Settings

FAILED = "fail"
BROKEN = frozenset({"error", "runtime error"})


@dataclass(frozen=True)
class FailedNode:
    """A model or test that dbt calls failed (a test's rows are there) or broken. `sql` is what it ran, if it did."""

    unique_id: str
    status: str
    message: str
    sql: str | None

    @property
    def name(self) -> str:
        return self.unique_id.split(".")[2]


def failed_nodes(workspace: Workspace) -> list[FailedNode]:
    """What failed in a workspace in which dbt has run; nothing if it did not get as far as its results."""
    file = workspace.target / "run_results.json"
    if not file.exists():
        return []
    return [
        FailedNode(each["unique_id"], each["status"], each["message"] or "", each.get("compiled_code"))
        for each in json.loads(file.read_text(encoding="utf-8"))["results"]
        if each["status"] == FAILED or each["status"] in BROKEN
    ]


def refused_dates(settings: Settings, catalog: Catalog, workspace: Workspace) -> Mapping[str, frozenset[date]]:
    """By dbt's id of each test that failed: the dates that it refuses.

    Empty if that cannot be said of each failure: a model or a test did not run, or a test refuses no date by itself.
    Then nothing is known to be good.
    """
    failed = failed_nodes(workspace)
    if not failed or any(node.status != FAILED or not node.sql for node in failed):
        return {}
    if len(workspace.dates) == 1:
        return dict.fromkeys((node.unique_id for node in failed), frozenset(workspace.dates))
    try:
        found = _ask_again(settings, catalog, workspace, failed)
    except duckdb.Error:
        return {}
    return found if all(found.values()) else {}


def _ask_again(
    settings: Settings, catalog: Catalog, workspace: Workspace, failed: Sequence[FailedNode]
) -> dict[str, frozenset[date]]:
    tables = {
        stored.model: (catalog.load_table(stored.identifier), stored.snapshot_id)
        for task in workspace.tasks
        if (stored := workspace.stored(task.model)) is not None
    }
    refused: dict[str, set[date]] = {node.unique_id: set() for node in failed}
    with duckdb.connect(":memory:") as con:  # named as dbt's database is, which its SQL says
        lay_out(con, settings, workspace)
        con.execute("CREATE SCHEMA IF NOT EXISTS gold")
        for day in workspace.dates:
            con.execute("DELETE FROM gold_run.order_dates")
            con.execute("INSERT INTO gold_run.order_dates VALUES (?)", [day])
            for model, (table, snapshot_id) in tables.items():
                show_dates(con, model, table, snapshot_id, [day])
            for node in failed:
                if con.execute(f"SELECT 1 FROM ({node.sql}) LIMIT 1").fetchone():
                    refused[node.unique_id].add(day)
    return {test: frozenset(days) for test, days in refused.items()}
