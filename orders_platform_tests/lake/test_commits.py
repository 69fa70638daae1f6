"""A commit is all or nothing, made on what was read, and leaves the table readable whatever becomes of its answer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.update import TableRequirement, TableUpdate

from orders_platform.lake import commits
from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.commits import CommitUnknownError, ConflictError, commit, head, own_properties
from orders_platform.lake.duckdb_engine import connect, live_files, write_files
from orders_platform.lake.maintenance import expire, expire_if_due
from orders_platform.settings import Settings
from orders_platform_tests.lake.changes import DAY, append, bronze, contract, order, read

ORDERS = contract("orders")


@pytest.fixture
def catalog(settings: Settings) -> Catalog:
    return open_catalog(settings)


def orders(settings: Settings, catalog: Catalog, count: int = 1) -> Table:
    """Bronze with that many commits of one order each."""
    for i in range(1, count + 1):
        append(settings, catalog, ORDERS, [order(i, "c", i)])
    return bronze(catalog, ORDERS)


def ids(settings: Settings, table: Table) -> list[int]:
    return [row["order_id"] for row in read(settings, table, "order_id")]


def test_a_commit_on_an_older_snapshot_is_refused_and_adds_nothing(settings: Settings, catalog: Catalog) -> None:
    mine, theirs = orders(settings, catalog), bronze(catalog, ORDERS)
    file = live_files(mine)[0]
    commit(theirs, expected=head(theirs), add=[], summary={})
    with pytest.raises(ConflictError):
        commit(mine, expected=head(mine), add=[file], summary={})
    assert ids(settings, bronze(catalog, ORDERS)) == [1]


def test_a_conflict_is_not_the_exception_on_which_pyiceberg_would_retry_or_clean_up() -> None:
    assert not issubclass(ConflictError, CommitFailedException)


def test_files_are_replaced_in_one_snapshot_and_its_manifests_stay_few(settings: Settings, catalog: Catalog) -> None:
    table = orders(settings, catalog)
    with connect(settings) as connection:
        for i in range(45):
            row = "SELECT 1::BIGINT AS order_id, 'u' AS _op, DATE '2026-03-01' AS _ingest_day"
            others = ", ".join(
                f"NULL AS {f.name}" for f in table.schema().fields if f.name not in ("order_id", "_op", "_ingest_day")
            )
            new = write_files(connection, table, f"{row}, {others}".replace("SELECT", "SELECT ", 1), partition=DAY)
            commit(table, expected=head(table), add=new, remove=live_files(table), summary={"n": str(i)})
            assert len(live_files(table)) == 1
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert len(snapshot.manifests(table.io)) <= 3
    assert bronze(catalog, ORDERS).scan().to_arrow().num_rows == 1


def test_small_appends_are_merged_into_few_manifests(settings: Settings, catalog: Catalog) -> None:
    table = orders(settings, catalog)
    file = live_files(table)[0]
    for i in range(60):
        again = file.from_args(**{**_arguments(file), "file_path": file.file_path.replace(".parquet", f"-{i}.parquet")})
        again.spec_id = file.spec_id
        commit(table, expected=head(table), add=[again], summary={})
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert len(snapshot.manifests(table.io)) <= 21
    assert len(live_files(table)) == 61


def _arguments(file: object) -> dict[str, object]:
    names = (
        "content file_path file_format partition record_count file_size_in_bytes column_sizes value_counts "
        "null_value_counts nan_value_counts lower_bounds upper_bounds key_metadata split_offsets equality_ids "
        "sort_order_id"
    )
    return {name: getattr(file, name) for name in names.split()}


def test_own_properties_are_carried_forward_but_those_of_a_commit_are_not(settings: Settings, catalog: Catalog) -> None:
    table = orders(settings, catalog)
    commit(
        table,
        expected=head(table),
        add=[],
        summary={"orders-platform.ledger": "all", "orders-platform.ledger-commit": "this"},
    )
    commit(table, expected=head(table), add=[], summary={"orders-platform.other": "x"})
    assert own_properties(table, head(table)) == {"orders-platform.ledger": "all", "orders-platform.other": "x"}


def test_a_tag_moves_in_the_same_commit(settings: Settings, catalog: Catalog) -> None:
    table = orders(settings, catalog)
    for _ in range(2):
        snapshot = commit(table, expected=head(table), add=[], summary={}, tag="ledger")
        assert bronze(catalog, ORDERS).metadata.refs["ledger"].snapshot_id == snapshot


def test_a_branch_is_created_where_it_was_forked_and_main_stays(settings: Settings, catalog: Catalog) -> None:
    table = orders(settings, catalog)
    fork = head(table)
    file = live_files(table)[0]
    on_branch = commit(table, expected=fork, add=[], remove=[file], summary={}, branch="rebuild")
    assert head(table) == fork
    assert live_files(table, on_branch) == []
    assert len(live_files(table)) == 1


class LostAnswer:
    """A catalog whose next commit lands, and is answered by an error."""

    def __init__(self, catalog: Catalog, error: Exception) -> None:
        self._commit, self._error = catalog.commit_table, error

    def __call__(
        self, table: Table, requirements: Sequence[TableRequirement], updates: Sequence[TableUpdate]
    ) -> CommitTableResponse:
        self._commit(table, tuple(requirements), tuple(updates))
        raise self._error


@pytest.mark.parametrize(
    ("error", "seen"),
    [(ConnectionError("reset"), CommitUnknownError), (CommitFailedException("409"), ConflictError)],
    ids=["connection lost", "a retried request answered 409"],
)
def test_a_commit_that_landed_stays_readable_when_its_answer_is_lost(
    settings: Settings, catalog: Catalog, monkeypatch: pytest.MonkeyPatch, error: Exception, seen: type[Exception]
) -> None:
    table = orders(settings, catalog)
    snapshots = len(table.metadata.snapshots)
    with monkeypatch.context() as patch:
        patch.setattr(table.catalog, "commit_table", LostAnswer(table.catalog, error))
        with pytest.raises(seen):
            commit(table, expected=head(table), add=[], summary={"orders-platform.mark": "landed"})
    after = bronze(open_catalog(settings), ORDERS)
    assert len(after.metadata.snapshots) == snapshots + 1
    assert own_properties(after, head(after)) == {"orders-platform.mark": "landed"}
    assert after.scan().to_arrow().num_rows == 1


def test_expiry_keeps_the_head_its_recent_ancestors_and_what_refs_point_to(
    settings: Settings, catalog: Catalog
) -> None:
    table = orders(settings, catalog, 3)
    first = table.metadata.snapshots[0].snapshot_id
    commits.move_ref(table, "kept", first)
    for _ in range(5):
        commit(table, expected=head(table), add=[], summary={})
    assert expire(table, keep=2) == 8 - 2 - 1
    left = {snapshot.snapshot_id for snapshot in bronze(catalog, ORDERS).metadata.snapshots}
    assert first in left
    assert head(table) in left
    assert ids(settings, bronze(catalog, ORDERS)) == [1, 2, 3]


def test_the_writer_expires_at_every_fiftieth_commit_only(settings: Settings, catalog: Catalog) -> None:
    table = orders(settings, catalog)
    for _ in range(160):
        commit(table, expected=head(table), add=[], summary={})
        expire_if_due(table)
    assert 100 <= len(table.metadata.snapshots) <= 150
