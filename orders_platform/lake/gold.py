"""Gold: what must be rebuilt (`plan`), from what (`prepare`), and how it becomes what readers see (`publish`).

Between `prepare` and `publish` dbt runs in the workspace: it writes the order dates to a branch and audits them there.
`gold_run.build_gold` puts the three together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from duckdb import DuckDBPyConnection
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from orders_platform.contracts import load_contracts
from orders_platform.fault_points import SituationPoint
from orders_platform.lake.audit import audited_snapshot
from orders_platform.lake.commits import CommitFaults, commit
from orders_platform.lake.dbt_store import use_business_days
from orders_platform.lake.duckdb_engine import connect
from orders_platform.lake.gold_files import date_sequences
from orders_platform.lake.gold_mark import GoldMark, read_mark
from orders_platform.lake.gold_models import GoldModel, load_models
from orders_platform.lake.gold_publish import (
    drop_abandoned_branches,
    drop_branch,
    fast_forward,
    main_head,
    new_branch_name,
)
from orders_platform.lake.gold_stale import SilverInput, stale_by_model, stale_by_silver
from orders_platform.lake.gold_views import views_of_dates
from orders_platform.lake.gold_workspace import Stored, TableTask, Workspace
from orders_platform.lake.maintenance import expire_if_due
from orders_platform.settings import Settings

_NOTING = CommitFaults(
    SituationPoint.NOTE_BEFORE_COMMIT, SituationPoint.NOTE_COMMIT_UNANSWERED, SituationPoint.NOTE_AFTER_COMMIT
)


@dataclass(frozen=True)
class TablePlan:
    """A gold table at main's `head` (None: no snapshot yet), its mark there, and the order dates that are stale."""

    model: GoldModel
    head: int | None
    mark: GoldMark | None
    stale: frozenset[date]


@dataclass(frozen=True)
class GoldPlan:
    """What gold is, beside what it should be. `inputs`: the audited snapshot of each silver table, by identifier."""

    tables: tuple[TablePlan, ...]
    inputs: Mapping[str, int]
    time_zone: str

    @property
    def stale_dates(self) -> tuple[date, ...]:
        """The order dates to rebuild, oldest first."""
        return tuple(sorted(frozenset().union(*(table.stale for table in self.tables))))

    @property
    def behind_only_by_mark(self) -> bool:
        """No date is stale, though silver has moved: gold has to note that it looked."""
        return self.has_news and not self.stale_dates

    @property
    def has_news(self) -> bool:
        """Silver has moved since gold noted what it read."""
        return any(
            table.mark is not None and not table.model.built_from and table.mark.inputs != self.inputs
            for table in self.tables
        )


def plan(settings: Settings, catalog: Catalog) -> GoldPlan:
    """Compares gold's marks with silver's audited snapshots.

    Raises:
        GoldMarkError: a gold table has snapshots without a mark.
        ForeignDeletesError: another engine left delete files.
    """
    models = load_models()
    inputs = _silver_inputs(catalog, models)
    tables: dict[str, tuple[GoldModel, Table | None]] = {m.name: (m, load(catalog, m.identifier)) for m in models}
    plans = []
    with connect(settings) as con:
        use_business_days(con, settings)
        for model, table in tables.values():
            head = main_head(table) if table else None
            mark = read_mark(table) if table else None
            if model.built_from is None:
                stale = stale_by_silver(con, model, mark, table, head, inputs, settings.business_time_zone)
            else:
                source = tables[model.built_from][1]
                own = date_sequences(table, head) if table else {}
                stale = stale_by_model(mark, own, source, main_head(source) if source else None)
            plans.append(TablePlan(model, head, mark, stale))
    read = {source.contract.silver_table: source.snapshot_id for source in inputs.values()}
    return GoldPlan(tuple(plans), read, settings.business_time_zone)


def prepare(
    settings: Settings,
    catalog: Catalog,
    planned: GoldPlan,
    dates: Collection[date],
    folder: Path,
    *,
    by_hand: bool = False,
) -> Workspace:
    """Lays out one dbt invocation that rebuilds `dates` from the plan's snapshots.

    `by_hand`: somebody chose the dates; what is stale stays so, and the mark where it is.
    """
    chosen = tuple(sorted(set(dates)))
    tasks = tuple(_task(table, planned, chosen, by_hand) for table in planned.tables)
    for task in tasks:
        drop_abandoned_branches(catalog, task.identifier)
    with connect(settings) as con:
        use_business_days(con, settings)
        views = _views(con, settings, catalog, planned, chosen)
    workspace = Workspace(folder, new_branch_name(), chosen, tasks, views)
    workspace.write(settings)
    return workspace


def publish(catalog: Catalog, workspace: Workspace) -> tuple[Stored, ...]:
    """Moves main of each table that dbt has written to what was audited, the table that others are built from first.

    A death in between leaves the second table stale by its own mark, and so it is rebuilt.

    Raises:
        ConflictError: somebody published meanwhile; what was not published has to be rebuilt.
    """
    published = []
    for task in workspace.tasks:
        stored = workspace.stored(task.model)
        if stored is None:
            continue
        table = catalog.load_table(task.identifier)
        fast_forward(table, workspace.branch, forked_at=task.forked_at, to=stored.snapshot_id)
        expire_if_due(table)
        published.append(stored)
    return tuple(published)


def discard(catalog: Catalog, workspace: Workspace) -> None:
    """Removes what is left of the workspace's branches; after a publication there are none."""
    for task in workspace.tasks:
        drop_branch(catalog, task.identifier, workspace.branch)


def note(catalog: Catalog, planned: GoldPlan) -> None:
    """Records what was found, without building anything: the snapshots compared, and the stale dates as pending.

    The next comparison starts from there. Otherwise silver would expire the snapshot that the mark names while nothing
    is stale, or while no build succeeds, and then all dates would be.

    Raises:
        ConflictError: somebody published meanwhile, and with that said more than this.
    """
    noted: dict[str, tuple[str, int]] = {}
    for each in planned.tables:
        if each.mark is None:
            continue
        table = catalog.load_table(each.model.identifier)
        inputs = dict([noted[each.model.built_from]]) if each.model.built_from else planned.inputs
        summary = each.mark.advanced(inputs, each.stale, ()).summary
        snapshot = commit(table, expected=each.head, add=(), summary=summary, faults=_NOTING)
        noted[each.model.name] = (each.model.identifier, snapshot)
        expire_if_due(table)


def load(catalog: Catalog, identifier: str) -> Table | None:
    """The table, or None before its first commit."""
    try:
        return catalog.load_table(identifier)
    except NoSuchTableError:
        return None


def _task(table: TablePlan, planned: GoldPlan, dates: tuple[date, ...], by_hand: bool) -> TableTask:
    model, mark = table.model, table.mark or GoldMark(time_zone=planned.time_zone)
    source = next((other.model.identifier for other in planned.tables if other.model.name == model.built_from), None)
    if source is None and by_hand:
        after = mark.held(table.stale, dates)
    else:
        after = GoldMark({}, frozenset(), planned.time_zone).advanced(
            planned.inputs if source is None else {}, table.stale, dates
        )
    return TableTask(model.name, model.identifier, table.head, after, model.sort_by, source)


def _views(
    con: DuckDBPyConnection, settings: Settings, catalog: Catalog, planned: GoldPlan, dates: tuple[date, ...]
) -> dict[str, str]:
    inputs = {
        contract.table: SilverInput(contract, catalog.load_table(contract.silver_table), snapshot)
        for contract in load_contracts()
        if (snapshot := planned.inputs.get(contract.silver_table)) is not None
    }
    gold = {
        table.model.name: (loaded, table.head)
        for table in planned.tables
        if (loaded := load(catalog, table.model.identifier)) is not None
    }
    used = {query.table for table in planned.tables for query in table.model.changes}
    contracts = [contract for contract in load_contracts() if contract.table in used]
    return views_of_dates(con, settings, contracts, inputs, gold, dates)


def _silver_inputs(catalog: Catalog, models: Collection[GoldModel]) -> dict[str, SilverInput]:
    """The silver tables that the models read, each at its audited snapshot, where there is one."""
    wanted = {query.table for model in models for query in model.changes}
    inputs = {}
    for contract in load_contracts():
        if contract.table not in wanted or (table := load(catalog, contract.silver_table)) is None:
            continue
        if (snapshot := audited_snapshot(table)) is not None:
            inputs[contract.table] = SilverInput(contract, table, snapshot)
    return inputs
