"""Compares two sides that may both be moving, without taking a delay for a difference or a difference for a delay.

The follower may be behind the leader's present, not beside its path: a key is equal once what is found is a state
that was expected at or after the start. A key that differs is looked at again on both sides. It is different for
certain when the follower holds all that the leader held at some moment, and the leader has not moved the key since.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from duckdb import DuckDBPyConnection

from orders_platform.lake.schemas import column_list
from orders_platform.quality.fingerprints import KeyStates, State, count, differing, fingerprint_select, states
from orders_platform.quality.report import Finding, RowDifference, TableComparison, Value
from orders_platform.quality.sides import Key, RowShape, Side

MAX_WATCHED_KEYS = 10_000
"""With more keys than this differing, the follower is behind as a whole: everything is compared again instead."""

_EXPECTED, _FOUND = "_expected", "_found"

Fence: TypeAlias = Callable[[], bool]
"""Answers whether the follower holds everything that the leader held when the fence was made."""


@dataclass(frozen=True)
class Patience:
    """How long keys that differ are looked at again, every `interval_seconds`, at most."""

    limit_seconds: float = 120.0
    interval_seconds: float = 0.5


@dataclass(frozen=True)
class Pair:
    """What is compared with what.

    `make_fence` marks the leader's present. `expected_table` is a table of fingerprints made before, with which the
    comparison starts; without it the expected side is read first.
    """

    shape: RowShape
    expected: Side
    found: Side
    make_fence: Callable[[], Fence] = lambda: lambda: True
    expected_table: str | None = None


def compare(con: DuckDBPyConnection, pair: Pair, patience: Patience, limit: int) -> TableComparison:
    """The comparison, with at most `limit` differing rows named."""
    start = time.monotonic()
    select = fingerprint_select(pair.shape)
    expected_table = pair.expected_table or _EXPECTED
    if pair.expected_table is None:
        pair.expected.load(con, expected_table, select)
    pair.found.load(con, _FOUND, select)
    differences = differing(con, pair.shape, expected_table, _FOUND)
    looks, passed = 1, False
    deadline = time.monotonic() + patience.limit_seconds
    if len(differences) > MAX_WATCHED_KEYS:
        fence = pair.make_fence()
        while len(differences) > MAX_WATCHED_KEYS and not passed and time.monotonic() < deadline:
            time.sleep(max(patience.interval_seconds, (time.monotonic() - start) / looks))
            passed = fence()
            expected_table = _EXPECTED
            pair.expected.load(con, expected_table, select)
            pair.found.load(con, _FOUND, select)
            differences = differing(con, pair.shape, expected_table, _FOUND)
            looks += 1
    rows, source_rows = count(con, _FOUND), count(con, expected_table)
    watch = _Watch({key: _Watched.of(both) for key, both in list(differences.items())[:MAX_WATCHED_KEYS]})
    looks += watch.until_decided(con, pair, patience, deadline)
    unwatched = max(0, len(differences) - MAX_WATCHED_KEYS)
    named = _describe(con, pair, watch, limit)
    undecided = sum(not watched.is_certain for watched in watch.keys.values())
    return TableComparison(
        table=pair.found.name,
        source=pair.expected.name,
        rows=rows,
        source_rows=source_rows,
        differing=len(watch.keys) + unwatched,
        differences=named,
        undecided=undecided + (0 if passed else unwatched),
        looks=looks,
        seconds=time.monotonic() - start,
    )


@dataclass
class _Watched:
    """A key that differs: every state that was expected since the start, and when the leader was last seen to move."""

    expected: set[State]
    latest: State
    moved_at: float = field(default_factory=time.monotonic)
    is_certain: bool = False

    @classmethod
    def of(cls, both: KeyStates) -> _Watched:
        return cls({both.expected}, both.expected)

    def agrees(self, both: KeyStates) -> bool:
        """Takes in what was seen, and says whether the follower is on the leader's path."""
        if both.expected != self.latest:
            self.moved_at = time.monotonic()
        self.latest = both.expected
        self.expected.add(both.expected)
        return both.found in self.expected


@dataclass
class _Watch:
    """The keys that differ; those that turn out to agree are let go."""

    keys: dict[Key, _Watched]

    def until_decided(self, con: DuckDBPyConnection, pair: Pair, patience: Patience, deadline: float) -> int:
        """Looks until every key agrees or differs for certain, or the time is over. Returns the number of looks."""
        looks = 0
        fence, fenced_at = None, 0.0
        while any(not watched.is_certain for watched in self.keys.values()) and time.monotonic() < deadline:
            if fence is None:
                fenced_at = time.monotonic()
                fence = pair.make_fence()
            passed = fence()
            self._look(con, pair)
            looks += 1
            if passed:
                for watched in self.keys.values():
                    watched.is_certain |= watched.moved_at <= fenced_at
                fence = None
            if any(not watched.is_certain for watched in self.keys.values()):
                time.sleep(patience.interval_seconds)
        return looks

    def _look(self, con: DuckDBPyConnection, pair: Pair) -> None:
        """Looks at both sides of each undecided key again.

        The follower is read first: had the leader moved before that, the second reading would show it.
        """
        keys = [key for key, watched in self.keys.items() if not watched.is_certain]
        select = fingerprint_select(pair.shape)
        pair.found.load(con, "_found_again", select, keys)
        pair.expected.load(con, "_expected_again", select, keys)
        seen = states(con, pair.shape, "_expected_again", "_found_again")
        for key in keys:
            if self.keys[key].agrees(seen.get(key, KeyStates(None, None))):
                del self.keys[key]


def _describe(con: DuckDBPyConnection, pair: Pair, watch: _Watch, limit: int) -> tuple[RowDifference, ...]:
    """The first rows that differ, as they are now, column by column. Those that agree by now are let go."""
    keys = list(watch.keys)[:limit]
    if not keys:
        return ()
    columns = column_list(pair.shape.columns)
    pair.found.load(con, "_found_rows", columns, keys)
    pair.expected.load(con, "_expected_rows", columns, keys)
    found, expected = (_rows(con, pair.shape, table) for table in ("_found_rows", "_expected_rows"))
    for key in keys:
        if found.get(key) == expected.get(key):
            del watch.keys[key]
    return tuple(
        _difference(pair.shape, key, expected.get(key, []), found.get(key, [])) for key in keys if key in watch.keys
    )


def _rows(con: DuckDBPyConnection, shape: RowShape, table: str) -> dict[Key, list[Key]]:
    width = len(shape.key)
    by_key: dict[Key, list[Key]] = {}
    for row in con.execute(f"SELECT {column_list((*shape.key, *shape.columns))} FROM {table}").fetchall():
        by_key.setdefault(row[:width], []).append(row[width:])
    return by_key


def _difference(shape: RowShape, key: Key, expected: Sequence[Key], found: Sequence[Key]) -> RowDifference:
    named = tuple(zip(shape.key, key, strict=True))
    if not found:
        return RowDifference(named, Finding.MISSING)
    if not expected:
        return RowDifference(named, Finding.UNEXPECTED)
    if len(found) != len(expected):
        return RowDifference(named, Finding.REPEATED)
    values = tuple(
        Value(column, wanted, got)
        for column, wanted, got in zip(shape.columns, expected[0], found[0], strict=True)
        if wanted != got
    )
    return RowDifference(named, Finding.DIFFERENT, values)
