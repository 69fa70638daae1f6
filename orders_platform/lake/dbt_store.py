"""Replaces order dates of a gold table on the branch of a run, and shows dbt's tests what the branch then holds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import date

from duckdb import DuckDBPyConnection
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import NestedField

from orders_platform.errors import PlatformError
from orders_platform.fault_points import FaultPoint
from orders_platform.lake.catalog import ensure_table, open_catalog
from orders_platform.lake.commits import CommitFaults, commit
from orders_platform.lake.duckdb_engine import configure, scan_files_sql, write_files
from orders_platform.lake.gold_files import files_of_dates, live_files, partition_date
from orders_platform.lake.gold_mark import GoldMark
from orders_platform.lake.gold_publish import main_head
from orders_platform.lake.gold_types import column_type
from orders_platform.lake.gold_workspace import Stored, TableTask, Workspace
from orders_platform.settings import Settings

PARTITION = "order_date"
_FAULTS = CommitFaults(FaultPoint.GOLD_BEFORE_BRANCH, FaultPoint.GOLD_BRANCH_UNANSWERED, FaultPoint.GOLD_AFTER_BRANCH)


class ForeignDateError(PlatformError):
    """A model returned rows of order dates that are not being rebuilt; they would stand in their partitions twice."""


def lay_out(con: DuckDBPyConnection, settings: Settings, workspace: Workspace) -> None:
    """Makes what the models read: silver and gold as views, and the order dates being rebuilt as a table."""
    configure(con, settings)
    use_business_days(con, settings)
    con.execute("CREATE SCHEMA gold_run")
    con.execute("CREATE TABLE gold_run.order_dates (order_date DATE)")
    con.executemany("INSERT INTO gold_run.order_dates VALUES (?)", [[day] for day in workspace.dates])
    for name, select in workspace.views.items():
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {name.partition('.')[0]}")
        con.execute(f"CREATE VIEW {name} AS {select}")


def use_business_days(con: DuckDBPyConnection, settings: Settings) -> None:
    """Lets `cast(timestamp as date)` give the day in the business time zone, in this session."""
    con.execute(f"SET TimeZone = '{settings.business_time_zone}'")


def store_model(con: DuckDBPyConnection, settings: Settings, workspace: Workspace, model: str, rows: str) -> Stored:
    """Commits the rows of the relation `rows` to the branch, in place of all rows of the workspace's dates.

    Afterwards the view `gold.<model>` reads the branch's files of those dates, so that what is tested is what will be
    published. A date without rows loses its files.

    Raises:
        ForeignDateError: naming the dates; nothing is written.
    """
    task = workspace.task(model)
    _refuse_foreign_dates(con, model, rows)
    catalog = open_catalog(settings)
    table = ensure_table(catalog, task.identifier, _schema(con, rows), partition_by=PARTITION, sort=task.sort_by)
    added = [file for day in workspace.dates for file in _write_date(con, table, task, rows, day)]
    snapshot_id = commit(
        table,
        expected=task.forked_at,
        add=added,
        remove=files_of_dates(live_files(table, task.forked_at), workspace.dates),
        summary=_mark(catalog, workspace, task).summary,
        branch=workspace.branch,
        faults=_FAULTS,
    )
    live = show_dates(con, model, table, snapshot_id, workspace.dates)
    counts = dict.fromkeys(workspace.dates, 0)
    for file in live:
        counts[partition_date(file)] += file.record_count
    stored = Stored(model, task.identifier, snapshot_id, counts, sum(file.file_size_in_bytes for file in added))
    workspace.record(stored)
    return stored


def show_dates(
    con: DuckDBPyConnection, model: str, table: Table, snapshot_id: int, dates: Collection[date]
) -> list[DataFile]:
    """Lets the view `gold.<model>` read these dates of a snapshot. Returns their files."""
    files = files_of_dates(live_files(table, snapshot_id), dates)
    con.execute(f"CREATE OR REPLACE VIEW gold.{model} AS SELECT * FROM {scan_files_sql(table, files)}")
    return files


def _refuse_foreign_dates(con: DuckDBPyConnection, model: str, rows: str) -> None:
    foreign = con.execute(
        f"SELECT DISTINCT {PARTITION} FROM {rows} ANTI JOIN gold_run.order_dates USING ({PARTITION}) "
        "ORDER BY ALL LIMIT 5"
    ).fetchall()
    if foreign:
        days = ", ".join(str(row[0]) for row in foreign)
        raise ForeignDateError(
            f"{model} returned rows of order dates that are not being rebuilt: {days}; join it with order_dates()"
        )


def _schema(con: DuckDBPyConnection, rows: str) -> Schema:
    """The Iceberg schema of a relation: what the model selects is the one place where its columns are defined."""
    columns = con.execute(f"DESCRIBE {rows}").fetchall()
    return Schema(
        *(
            NestedField(field_id=at, name=column[0], field_type=column_type(column[1]), required=False)
            for at, column in enumerate(columns, start=1)
        )
    )


def _write_date(con: DuckDBPyConnection, table: Table, task: TableTask, rows: str, day: date) -> list[DataFile]:
    select = f"SELECT * FROM {rows} WHERE {PARTITION} = DATE '{day.isoformat()}'"
    return write_files(con, table, select, order_by=task.sort_by, partition=day)


def _mark(catalog: Catalog, workspace: Workspace, task: TableTask) -> GoldMark:
    """The mark of the commit. A table built from another one names that one's snapshot: the branch's, where it was
    written in this run, since publication makes just that snapshot main's."""
    if task.built_from is None:
        return task.mark
    for other in workspace.tasks:
        if other.identifier == task.built_from and (stored := workspace.stored(other.model)) is not None:
            return replace(task.mark, inputs={task.built_from: stored.snapshot_id})
    try:
        head = main_head(catalog.load_table(task.built_from))
    except NoSuchTableError:
        head = None
    return replace(task.mark, inputs={task.built_from: head} if head is not None else {})
