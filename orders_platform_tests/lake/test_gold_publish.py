"""Publication is a fast-forward of main, or it is nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from orders_platform.lake.catalog import ensure_table
from orders_platform.lake.commits import CommitUnknownError, ConflictError, commit
from orders_platform.lake.gold_publish import (
    ABANDONED_AFTER,
    drop_abandoned_branches,
    drop_branch,
    fast_forward,
    is_published,
    made_at,
    main_head,
    new_branch_name,
)
from orders_platform.lake.schemas import silver_schema
from orders_platform_tests.lake.shop_in_silver import contract_of


@pytest.fixture
def table(catalog: Catalog) -> Table:
    return ensure_table(catalog, "gold.anything", silver_schema(contract_of("inventory")))


def on_branch(table: Table, branch: str) -> tuple[int | None, int]:
    """Commits to a branch forked from main. Returns the fork point and the branch's head."""
    forked_at = main_head(table)
    return forked_at, commit(table, expected=forked_at, add=(), summary={}, branch=branch)


@pytest.mark.parametrize("earlier_commits", [0, 1])
def test_main_moves_to_the_branch_and_the_branch_is_gone(table: Table, earlier_commits: int) -> None:
    for _ in range(earlier_commits):
        commit(table, expected=main_head(table), add=(), summary={})
    branch = new_branch_name()
    forked_at, written = on_branch(table, branch)
    assert main_head(table) == forked_at
    fast_forward(table, branch, forked_at=forked_at, to=written)
    assert (main_head(table), set(table.metadata.refs)) == (written, {"main"})


def test_the_second_of_two_branches_is_refused_and_the_first_ones_rows_stay(table: Table) -> None:
    commit(table, expected=None, add=(), summary={})
    first, second = new_branch_name(), new_branch_name()
    forked_at, one = on_branch(table, first)
    _, two = on_branch(table, second)
    fast_forward(table, first, forked_at=forked_at, to=one)
    with pytest.raises(ConflictError, match="nothing was published"):
        fast_forward(table, second, forked_at=forked_at, to=two)
    assert main_head(table) == one


def test_two_first_commits_to_an_empty_table_are_not_both_published(table: Table) -> None:
    first, second = new_branch_name(), new_branch_name()
    _, one = on_branch(table, first)
    _, two = on_branch(table, second)
    fast_forward(table, first, forked_at=None, to=one)
    with pytest.raises(ConflictError):
        fast_forward(table, second, forked_at=None, to=two)
    assert main_head(table) == one


@pytest.mark.parametrize("answer", [CommitFailedException("409 to a retried request"), ConnectionError("cut off")])
def test_a_lost_answer_counts_as_published_if_main_says_so(
    table: Table, answer: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    forked_at, written = on_branch(table, branch := new_branch_name())
    really = table.catalog.commit_table

    def lose(*arguments: object) -> None:
        really(*arguments)  # type: ignore[arg-type]
        raise answer

    monkeypatch.setattr(table.catalog, "commit_table", lose)
    fast_forward(table, branch, forked_at=forked_at, to=written)
    assert is_published(table, written)


def test_no_answer_and_no_commit_is_an_error(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    forked_at, written = on_branch(table, branch := new_branch_name())

    def fail(*_: object) -> None:
        raise ConnectionError("cut off")

    monkeypatch.setattr(table.catalog, "commit_table", fail)
    with pytest.raises(CommitUnknownError):
        fast_forward(table, branch, forked_at=forked_at, to=written)
    assert main_head(table) == forked_at


def test_branches_of_killed_runs_go_by_age_and_nothing_else_goes(table: Table, catalog: Catalog) -> None:
    commit(table, expected=None, add=(), summary={}, tag="audited")
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    old, young = new_branch_name(now - ABANDONED_AFTER - timedelta(seconds=1)), new_branch_name(now)
    for branch in (old, young, "gold-of-somebody-else"):
        on_branch(table, branch)
    assert drop_abandoned_branches(catalog, "gold.anything", now) == (old,)
    assert set(table.refresh().metadata.refs) == {"main", "audited", young, "gold-of-somebody-else"}


def test_dropping_what_is_not_there_is_no_error(catalog: Catalog, table: Table) -> None:
    drop_branch(catalog, "gold.anything", "gold-none")
    drop_branch(catalog, "gold.missing", "gold-none")
    assert drop_abandoned_branches(catalog, "gold.missing") == ()
    assert main_head(table) is None


def test_a_branch_says_when_it_was_made() -> None:
    now = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)
    assert made_at(new_branch_name(now)) == now
    assert made_at("main") is None
    assert made_at("gold-x-y") is None
