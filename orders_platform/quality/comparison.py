"""Compares two sides that may both be moving, until they agree or have stood still.

A key counts as equal once what is found is something that was expected at or after the start: the follower may be
behind the leader's present, not beside its path. A key that differs is looked at again on both sides. It is reported
when the follower has everything from before the start and neither side has moved for a while, or when the time is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from duckdb import DuckDBPyConnection

from orders_platform.lake.schemas import column_list
from orders_platform.quality.fingerprints import KeyStates, State, count, differing, fingerprint_select, states
from orders_platform.quality.report import Finding, RowDifference, TableComparison, Value
from orders_platform.quality.sides import Key, RowShape, Side

MAX_WATCHED_KEYS = 10_000
"""With more keys than this differing, the follower is behind as a whole: everything is compared again instead."""

STILL_LOOKS = 3
"""A key has stood still when it was seen unmoved so many times, however much time passed between two looks."""

_EXPECTED, _FOUND = "_expected", "_found"


@dataclass(frozen=True)
class Patience:
    """How long a difference may last before it is one.

    `settle_seconds`: without movement, once the follower has caught up. `limit_seconds`: altogether, for a follower
    that does not catch up, or keys that never stand still. `interval_seconds`: between two looks.
    """

    settle_seconds: float = 3.0
    limit_seconds: float = 120.0
    interval_seconds: float = 0.5


@dataclass(frozen=True)
class Pair:
    """What is compared with what.

    `caught_up` says whether `found` holds everything that `expected` held when the comparison began. `expected_table`
    is a table of fingerprints made before, at that beginning; without it the expected side is read first.
    """

    shape: RowShape
    expected: Side
    found: Side
    caught_up: Callable[[], bool] = lambda: True
    expected_table: str | None = None


def compare(con: DuckDBPyConnection, pair: Pair, patience: Patience, limit: int) -> TableComparison:
    """The comparison, with at most `limit` differing rows named."""
    start = time.monotonic()
    deadline = start + patience.limit_seconds
    select = fingerprint_select(pair.shape)
    expected_table = pair.expected_table or _EXPECTED
    if pair.expected_table is None:
        pair.expected.load(con, expected_table, select)
    pair.found.load(con, _FOUND, select)
    differences = differing(con, pair.shape, expected_table, _FOUND)
    looks = 1
    while len(differences) > MAX_WATCHED_KEYS and time.monotonic() < deadline and not pair.caught_up():
        time.sleep(max(patience.interval_seconds, time.monotonic() - start))
        expected_table = _EXPECTED
        pair.expected.load(con, expected_table, select)
        pair.found.load(con, _FOUND, select)
        differences = differing(con, pair.shape, expected_table, _FOUND)
        looks += 1
    rows, source_rows = count(con, _FOUND), count(con, expected_table)
    watch = _Watch({key: _Watched.of(both) for key, both in list(differences.items())[:MAX_WATCHED_KEYS]})
    while watch.undecided(patience, deadline, pair.caught_up):
        time.sleep(patience.interval_seconds)
        watch.look(con, pair)
        looks += 1
    unwatched = max(0, len(differences) - MAX_WATCHED_KEYS)
    named = _describe(con, pair, watch, limit)
    return TableComparison(
        table=pair.found.name,
        source=pair.expected.name,
        rows=rows,
        source_rows=source_rows,
        differing=len(watch.keys) + unwatched,
        differences=named,
        looks=looks,
        seconds=time.monotonic() - start,
    )


@dataclass
class _Watched:
    """A key that differs: every state that was expected since the start, and what was found last."""

    expected: set[State]
    found: State
    latest: State
    moved_at: float = field(default_factory=time.monotonic)
    seen_still: int = 0

    @classmethod
    def of(cls, both: KeyStates) -> _Watched:
        return cls({both.expected}, both.found, both.expected)

    def see(self, both: KeyStates) -> None:
        self.seen_still += 1
        if (both.found, both.expected) != (self.found, self.latest):
            self.moved_at, self.seen_still = time.monotonic(), 0
        self.expected.add(both.expected)
        self.found, self.latest = both.found, both.expected

    @property
    def agrees(self) -> bool:
        return self.found in self.expected


@dataclass
class _Watch:
    """The keys that still differ."""

    keys: dict[Key, _Watched]
    caught_up_at: float | None = None

    def undecided(self, patience: Patience, deadline: float, caught_up: Callable[[], bool]) -> bool:
        """Whether to look again."""
        now = time.monotonic()
        if not self.keys or now >= deadline:
            return False
        if self.caught_up_at is None:
            if not caught_up():
                return True
            self.caught_up_at = time.monotonic()
            for watched in self.keys.values():
                watched.seen_still = 0
        still_since = max(self.caught_up_at, *(watched.moved_at for watched in self.keys.values()))
        seen_still = min(watched.seen_still for watched in self.keys.values())
        return now - still_since < patience.settle_seconds or seen_still < STILL_LOOKS

    def look(self, con: DuckDBPyConnection, pair: Pair) -> None:
        """Looks at both sides of each key again, and lets go of those that agree.

        The found side is read first: what it holds was expected before, and may have been seen by an earlier look.
        """
        keys = list(self.keys)
        select = fingerprint_select(pair.shape)
        pair.found.load(con, "_found_again", select, keys)
        pair.expected.load(con, "_expected_again", select, keys)
        seen = states(con, pair.shape, "_expected_again", "_found_again")
        for key in keys:
            watched = self.keys[key]
            watched.see(seen.get(key, KeyStates(None, None)))
            if watched.agrees:
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
