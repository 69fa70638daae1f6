"""Lake maintenance: tables that somebody rewrites while they are written, and that are written for years."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from tenacity import wait_none

from orders_platform.contracts import Contract
from orders_platform.ingest import bronze as bronze_loads
from orders_platform.ingest.errors import CommitRefusedError
from orders_platform.lake import silver as silver_merges
from orders_platform.lake.audit import check_silver
from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.commits import ConflictError, commit, head
from orders_platform.lake.duckdb_engine import live_files
from orders_platform.lake.maintenance import COMMITS_BETWEEN_EXPIRIES, SNAPSHOTS_KEPT, expire_if_due
from orders_platform.lake.silver import merge_silver
from orders_platform.settings import Settings
from orders_platform_tests.cases.foreign_engine import REFUSED, compact, compacting
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.ingest.events import change, moment, produce
from orders_platform_tests.ingest.loads import assert_sound, ingest, rows
from orders_platform_tests.lake.changes import append, bronze, contract, order, silver_rows
from orders_platform_tests.lake.test_convergence import history
from orders_platform_tests.waiting import eventually

ORDERS, PRODUCTS = contract("orders"), contract("products")
DAY = date(2026, 3, 10)
Batches = list[list[dict[str, Any]]]
HISTORY: Batches = [
    [order(i, "c", i) for i in range(1, 9)],
    [order(2, "d", 20), order(3, "u", 21, status="paid")],
    [order(2, "c", 30), order(4, "d", 31), order(9, "c", 32)],
    [order(3, "d", 40), order(2, "u", 41, status="shipped"), order(4, "c", 42)],
]
CHANGES_WITHOUT_LONG_VALUES = history(seed=11, length=24)
HISTORIES = {
    "orders": HISTORY,
    "products": [CHANGES_WITHOUT_LONG_VALUES[first : first + 6] for first in range(0, 24, 6)],
}


class Lake:
    """A lake without Kafka; batches are appended to bronze and merged."""

    def __init__(self, home: Path, of: Contract = ORDERS) -> None:
        self.of = of
        self.settings = new_settings(home)
        self.catalog = open_catalog(self.settings)

    def append(self, batch: list[dict[str, Any]]) -> None:
        append(self.settings, self.catalog, self.of, batch)

    def merge(self) -> None:
        merge_silver(self.settings, self.catalog, self.of)

    def write(self, *batches: list[dict[str, Any]]) -> None:
        for batch in batches:
            self.append(batch)
            self.merge()

    def silver(self) -> Table:
        return self.catalog.load_table(self.of.silver_table)

    def state(self) -> list[dict[str, Any]]:
        """Silver's rows; PyIceberg writes an empty list where there was none, which says the same."""
        return [{**row, "_toast": row["_toast"] or None} for row in silver_rows(self.settings, self.catalog, self.of)]

    def assert_like(self, undisturbed: Lake) -> None:
        for row, other in zip(self.state(), undisturbed.state(), strict=True):
            assert row == other
        outcome = check_silver(self.settings, self.catalog, self.of)
        assert outcome.passed, outcome.description


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "home")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The same history, with nobody else at work."""
    found = Lake(tmp_path_factory.mktemp("undisturbed"))
    found.write(*HISTORY)
    return found


def before_commits(of: Any, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], times: int) -> list[int]:
    """Lets something happen between plan and commit of a module's next commits. Returns the list of those commits."""
    real, seen = of.commit, []

    def interrupted(*args: Any, **values: Any) -> int:
        if len(seen) < times:
            seen.append(len(seen))
            act()
        return int(real(*args, **values))

    monkeypatch.setattr(of, "commit", interrupted)
    return seen


@pytest.mark.parametrize("of", [ORDERS, PRODUCTS], ids=lambda of: of.table)
def test_case_32_a_merge_that_a_compaction_overtakes_is_planned_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: Contract
) -> None:
    """The files that the merge would replace are gone: it is refused, not committed beside the compacted ones."""
    lake, undisturbed = Lake(tmp_path / "lake", of), Lake(tmp_path / "undisturbed", of)
    for batch in HISTORIES[of.table]:
        undisturbed.write(batch)
        lake.append(batch)
        with monkeypatch.context() as patch:
            patch.setattr(silver_merges._merge.retry, "wait", wait_none())  # type: ignore[attr-defined]
            overtaken = before_commits(silver_merges, patch, lambda: compact(lake.silver()), times=1)
            lake.merge()
        assert overtaken == [0]
    lake.assert_like(undisturbed)


def test_case_32_a_compaction_brings_no_deleted_row_back(lake: Lake, undisturbed: Lake) -> None:
    """It read rows that a merge then deleted: the catalog refuses it, and the next one copies what is there."""
    lake.write(HISTORY[0])
    for batch in HISTORY[1:]:
        with pytest.raises(REFUSED):
            compact(lake.silver(), between=lambda batch=batch: lake.write(batch))  # type: ignore[misc]
        compact(lake.silver())
    lake.assert_like(undisturbed)


def test_case_32_merges_and_compactions_at_once_end_in_the_same_rows(lake: Lake, undisturbed: Lake) -> None:
    """Whichever wins each time; a merge that lost is done again from what the table then says."""
    with compacting(open_catalog(lake.settings), "silver.orders") as compactions:
        for batch in HISTORY:
            for change in batch:
                lake.append([change])
            with suppress(ConflictError):  # a run would try again later
                lake.merge()
            seen = compactions.made
            raced = eventually(lambda seen=seen: compactions.made > seen or compactions.errors)  # type: ignore[misc]
            assert raced, "this proves nothing"
    lake.merge()
    lake.assert_like(undisturbed)


def test_case_32_bronze_compacted_while_it_is_loaded_has_each_record_once(
    shop_topic: Settings, topic: str, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load that a compaction overtakes, and one that overtakes a compaction; the ledger survives both."""
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(10)])
    ingest(shop_topic, DAY)
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(10, 20)])
    with monkeypatch.context() as patch:
        load = lambda: compact(catalog.load_table("bronze.orders"))  # noqa: E731
        overtaken = before_commits(bronze_loads, patch, load, times=1)
        assert ingest(shop_topic, DAY).rows == 10
        assert overtaken == [0]
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(20, 30)])
    with pytest.raises(REFUSED):
        compact(catalog.load_table("bronze.orders"), between=lambda: ingest(shop_topic, DAY))
    compact(catalog.load_table("bronze.orders"))
    assert ingest(shop_topic, DAY).rows == 0
    assert sorted(row[0] for row in rows(shop_topic)) == list(range(30))  # type: ignore[type-var]
    assert_sound(shop_topic, catalog, DAY)


def test_case_33_a_merge_that_never_wins_gives_up_and_says_so(
    lake: Lake, undisturbed: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts have an end; what was not merged is merged as soon as the others pause."""
    lake.write(HISTORY[0])
    for batch in HISTORY[1:]:
        lake.append(batch)
    with monkeypatch.context() as patch:
        patch.setattr(silver_merges._merge.retry, "wait", wait_none())  # type: ignore[attr-defined]
        overtaken = before_commits(silver_merges, patch, lambda: compact(lake.silver()), times=1000)
        with pytest.raises(
            ConflictError, match=r"silver\.orders: 5 attempts to merge did not succeed.*Nothing is lost"
        ):
            lake.merge()
    assert len(overtaken) == 5
    lake.merge()
    lake.assert_like(undisturbed)


def test_case_33_a_load_that_never_wins_gives_up_and_says_so(
    shop_topic: Settings, topic: str, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The records stay staged, and the next run takes them."""
    produce(shop_topic, topic, [change(0, 0, at=moment(DAY))])
    ingest(shop_topic, DAY)
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(1, 11)])

    def another_writer() -> None:
        fresh = catalog.load_table("bronze.orders")
        commit(fresh, expected=head(fresh), add=[], summary={})

    with monkeypatch.context() as patch:
        overtaken = before_commits(bronze_loads, patch, another_writer, times=1000)
        with pytest.raises(CommitRefusedError, match=r"bronze\.orders: 8 attempts .* Nothing is lost"):
            ingest(shop_topic, DAY)
    assert len(overtaken) == 8
    assert ingest(shop_topic, DAY).rows == 10
    assert_sound(shop_topic, catalog, DAY)


def test_case_33_expiry_yields_to_a_writer_and_is_done_fifty_commits_later(lake: Lake) -> None:
    """It is not worth an attempt more: the load that it follows is done, and the next one that is due does it."""
    lake.append([order(1, "c", 1)])
    table = bronze(lake.catalog, ORDERS)

    def snapshots_after(commits: int) -> int:
        for _ in range(commits):
            commit(table, expected=head(table), add=[], summary={})
            expire_if_due(table)
        return len(table.metadata.snapshots)

    first_due = SNAPSHOTS_KEPT + COMMITS_BETWEEN_EXPIRIES
    assert snapshots_after(first_due - 2) == first_due - 1
    commit(table, expected=head(table), add=[], summary={})
    other = lake.catalog.load_table("bronze.orders")
    commit(other, expected=head(other), add=[], summary={})
    expire_if_due(table)
    table = lake.catalog.load_table("bronze.orders")
    assert len(table.metadata.snapshots) == first_due + 1, "nothing was removed, and the writer's commit stands"
    assert head(table) == head(other)
    assert snapshots_after(COMMITS_BETWEEN_EXPIRIES - 1) == SNAPSHOTS_KEPT


def test_a_late_commit_reads_and_writes_as_little_as_an_early_one(lake: Lake) -> None:
    """What a commit has to read and write is bounded: manifests, snapshots, and the metadata file's size."""
    lake.append([order(1, "c", 1)])
    table = bronze(lake.catalog, ORDERS)
    (file,) = live_files(table)
    sizes, manifests, copied = {}, {}, 0
    for number in range(2, 301):
        commit(table, expected=head(table), add=[_another(file, number)], summary={})
        expire_if_due(table)
        current = table.current_snapshot()
        assert current is not None
        listed = current.manifests(table.io)
        manifests[number] = len(listed)
        copied += sum(m.existing_files_count or 0 for m in listed if m.added_snapshot_id == current.snapshot_id)
        sizes[number] = len(table.io.new_input(table.metadata_location).open().read()) if number % 50 == 49 else 0
    assert max(manifests.values()) <= 2 * 20, "two tiers of manifests, each merged at 20"
    assert copied <= 2 * 300, "an entry is copied once a tier"
    assert len(table.metadata.snapshots) <= SNAPSHOTS_KEPT + COMMITS_BETWEEN_EXPIRIES
    assert sizes[299] < 1.2 * sizes[149]
    assert len(live_files(table)) == 300


def _another(file: Any, number: int) -> Any:
    """The entry of a file that only the manifests know."""
    names = (
        "content file_format partition record_count file_size_in_bytes column_sizes value_counts null_value_counts "
        "nan_value_counts lower_bounds upper_bounds key_metadata split_offsets equality_ids sort_order_id"
    )
    path = file.file_path.replace(".parquet", f"-{number}.parquet")
    copy = file.from_args(file_path=path, **{name: getattr(file, name) for name in names.split()})
    copy.spec_id = file.spec_id
    return copy
