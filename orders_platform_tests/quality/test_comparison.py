"""Two sides that move while they are compared: a delay is no difference, and a difference is not taken for a delay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pytest
from duckdb import DuckDBPyConnection

from orders_platform.lake.schemas import quoted
from orders_platform.quality import comparison
from orders_platform.quality.comparison import Pair, Patience, compare
from orders_platform.quality.report import Finding
from orders_platform.quality.sides import Key, QuerySide, RowShape, with_keys
from orders_platform_tests.waiting import LeapingClock

SHAPE = RowShape(("id",), ("id", "value"))
QUICK = Patience(limit_seconds=300, interval_seconds=0.01)

State = dict[str, str | None]


@dataclass
class Script:
    """A side that is in the next state at each load, and stays in the last one."""

    name: str
    states: list[State]

    def load(self, con: DuckDBPyConnection, target: str, select: str, keys: Sequence[Key] | None = None) -> None:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        rows = [f"({key}::VARCHAR, {'NULL' if v is None else repr(v)}::VARCHAR)" for key, v in state.items()]
        query = f"SELECT * FROM (VALUES {', '.join(rows)}) AS v(id, value)" if rows else "SELECT '', '' WHERE false"
        side = QuerySide(self.name, SHAPE, lambda _: f"SELECT * FROM ({query}) AS s(id, value)")
        side.load(con, target, select, keys)


@pytest.fixture
def con() -> Iterator[DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def pair(expected: list[State], found: list[State], fence: Callable[[], bool] = lambda: True) -> Pair:
    return Pair(SHAPE, Script("leader", [*expected]), Script("follower", [*found]), lambda: fence)


def passes_at(call: int) -> Callable[[], bool]:
    """A fence that has passed when it is asked so often."""
    asked = iter(range(1, 10_000))
    return lambda: next(asked) >= call


def test_sides_that_agree_are_looked_at_once(con: DuckDBPyConnection) -> None:
    result = compare(con, pair([{"1": "a", "2": None}], [{"1": "a", "2": None}]), QUICK, 10)
    assert (result.equal, result.looks, result.rows) == (True, 1, 2)


def test_null_and_empty_text_differ(con: DuckDBPyConnection) -> None:
    assert not compare(con, pair([{"1": None}], [{"1": ""}]), QUICK, 10).equal


def test_a_follower_that_arrives_later_is_equal(con: DuckDBPyConnection) -> None:
    new, old = {"1": "new"}, {"1": "old"}
    assert compare(con, pair([new], [old, old, new], passes_at(2)), QUICK, 10).equal


def test_a_follower_that_is_ahead_of_the_snapshot_is_equal(con: DuckDBPyConnection) -> None:
    assert compare(con, pair([{"1": "a"}, {"1": "b"}], [{"1": "b"}]), QUICK, 10).equal


def test_a_row_that_never_rests_is_equal_when_the_follower_takes_its_path(con: DuckDBPyConnection) -> None:
    leader: list[State] = [{"1": str(n)} for n in range(40)]
    follower: list[State] = [{"1": str(n - 3)} for n in range(40)]
    assert compare(con, pair(leader, follower, passes_at(100)), QUICK, 10).equal


def test_a_row_that_agrees_when_it_would_be_named_is_not(con: DuckDBPyConnection) -> None:
    at_once = Patience(limit_seconds=0)
    assert compare(con, pair([{"1": "a", "2": "b"}], [{"1": "a"}, {"1": "a", "2": "b"}]), at_once, 10).equal


def test_a_state_from_before_the_start_is_no_state_of_the_path(con: DuckDBPyConnection) -> None:
    result = compare(con, pair([{"1": "b"}], [{"1": "a"}]), QUICK, 10)
    assert [difference.finding for difference in result.differences] == [Finding.DIFFERENT]


def test_a_row_that_comes_and_goes_is_followed(con: DuckDBPyConnection) -> None:
    assert compare(con, pair([{}, {"7": "x"}, {}], [{"7": "x"}]), QUICK, 10).equal
    assert compare(con, pair([{"7": "x"}], [{}, {}, {"7": "x"}], passes_at(2)), QUICK, 10).equal


def test_a_difference_is_named_as_soon_as_the_follower_has_caught_up(con: DuckDBPyConnection) -> None:
    result = compare(con, pair([{"1": "a", "2": "b"}], [{"1": "a", "2": "x", "3": "c"}], passes_at(3)), QUICK, 10)
    assert [str(difference) for difference in result.differences] == [
        "id=2: different (value is 'x', expected 'b')",
        "id=3: unexpected",
    ]
    assert result.looks == 4


def test_a_row_that_the_leader_moved_after_the_fence_needs_another_one(con: DuckDBPyConnection) -> None:
    # The follower holds "b", a state between two looks at the leader; only the next fence tells it from a wrong value.
    leader: list[State] = [{"1": "a"}, {"1": "c"}]
    assert compare(con, pair(leader, [{"1": "b"}, {"1": "b"}, {"1": "c"}]), QUICK, 10).equal
    result = compare(con, pair(leader, [{"1": "b"}]), QUICK, 10)
    assert (result.differing, result.looks) == (1, 3)


def test_a_follower_that_never_catches_up_is_not_waited_for_without_end(con: DuckDBPyConnection) -> None:
    short = Patience(limit_seconds=0.2, interval_seconds=0.01)
    result = compare(con, pair([{"1": "new"}], [{"1": "old"}], lambda: False), short, 10)
    assert result.differing == 1
    assert result.seconds >= 0.2


def test_the_first_look_may_take_longer_than_the_others_together(
    con: DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large table: it is read before the patience with what differs in it begins."""
    clock = LeapingClock()
    monkeypatch.setattr(comparison, "time", clock)
    both = pair([{"1": "new"}], [{"1": "old"}, {"1": "old"}, {"1": "new"}], passes_at(2))
    read = both.found.load

    def slowly(*arguments: Any) -> None:
        clock.leapt_seconds += QUICK.limit_seconds if clock.leapt_seconds == 0 else 0
        read(*arguments)

    monkeypatch.setattr(both.found, "load", slowly)
    assert compare(con, both, QUICK, 10).equal


def test_a_follower_that_is_behind_as_a_whole_is_compared_as_a_whole_again(
    con: DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "MAX_WATCHED_KEYS", 5)
    rows: State = {str(n): "x" for n in range(50)}
    result = compare(con, pair([rows], [{}, {}, rows], passes_at(9)), QUICK, 10)
    assert (result.equal, result.looks, result.rows) == (True, 3, 50)


def test_more_differences_than_are_watched_are_all_counted(
    con: DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "MAX_WATCHED_KEYS", 5)
    rows: State = {str(n): "x" for n in range(50)}
    result = compare(con, pair([rows], [{}]), QUICK, 3)
    assert (result.differing, len(result.differences)) == (50, 3)


def test_keys_are_looked_up_by_all_their_columns(con: DuckDBPyConnection) -> None:
    shape = RowShape(("a", "b"), ("a", "b"))
    with_keys(con, shape, [("1", "2"), ("2", "1")])
    con.execute("CREATE TABLE t AS SELECT * FROM (VALUES ('1', '1'), ('1', '2'), ('2', '1')) AS v(a, b)")
    QuerySide("t", shape, lambda _: "FROM t").load(con, "found", "*", [("1", "2"), ("2", "1")])
    assert con.execute(f"FROM {quoted('found')} ORDER BY ALL").fetchall() == [("1", "2"), ("2", "1")]
