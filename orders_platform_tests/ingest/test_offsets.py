"""Ranges and intervals behave as the sets of offsets that they stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders_platform.ingest.offsets import Intervals, OffsetRange, by_partition, flatten, subtract

pairs = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10)).map(lambda p: (p[0], p[0] + p[1])), max_size=8)


def offsets(intervals: Intervals) -> set[int]:
    return {offset for first, end in intervals.pairs for offset in range(first, end)}


@given(pairs, pairs)
def test_union_difference_and_intersection_are_those_of_sets(
    left: list[tuple[int, int]], right: list[tuple[int, int]]
) -> None:
    a, b = Intervals(tuple(left)), Intervals(tuple(right))
    assert offsets(a.union(b)) == offsets(a) | offsets(b)
    assert offsets(a.subtract(b)) == offsets(a) - offsets(b)
    assert offsets(a.intersect(b)) == offsets(a) & offsets(b)


@given(pairs)
def test_intervals_are_sorted_and_apart(given_pairs: list[tuple[int, int]]) -> None:
    intervals = Intervals(tuple(given_pairs))
    assert all(end < first for (_, end), (first, _) in zip(intervals.pairs, intervals.pairs[1:], strict=False))
    assert intervals.offsets == len(offsets(intervals))


def test_neighbours_become_one_interval() -> None:
    assert Intervals(((5, 9), (0, 5))).pairs == ((0, 9),)


def test_ranges_go_to_sets_by_partition_and_back() -> None:
    ranges = [OffsetRange(1, 5, 7), OffsetRange(0, 0, 3), OffsetRange(1, 7, 9)]
    assert flatten(by_partition(ranges)) == (OffsetRange(0, 0, 3), OffsetRange(1, 5, 9))
    assert subtract(by_partition(ranges), {1: Intervals(((6, 20),))}) == {
        0: Intervals(((0, 3),)),
        1: Intervals(((5, 6),)),
    }


@pytest.mark.parametrize(("partition", "first", "end"), [(-1, 0, 1), (0, -1, 1), (0, 5, 4)])
def test_what_is_no_range_is_refused(partition: int, first: int, end: int) -> None:
    with pytest.raises(ValueError, match="not a range of offsets"):
        OffsetRange(partition, first, end)
