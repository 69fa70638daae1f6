"""Ranges of offsets and the algebra on them: what has been read, what is missing, what is left to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, order=True)
class OffsetRange:
    """Offsets `first` up to but not including `next` of one partition."""

    partition: int
    first: int
    next: int

    def __post_init__(self) -> None:
        if self.partition < 0 or self.first < 0 or self.next < self.first:
            raise ValueError(f"not a range of offsets: {self}")

    def __str__(self) -> str:
        return (
            f"[{self.partition}] {self.first}–{self.next - 1}"
            if self.offsets
            else f"[{self.partition}] empty at {self.first}"
        )

    @property
    def offsets(self) -> int:
        """Number of offsets. Records may be fewer: aborted and control records take offsets too."""
        return self.next - self.first


@dataclass(frozen=True)
class Intervals:
    """A set of offsets of one partition as half-open intervals, sorted, apart from each other."""

    pairs: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairs", tuple(_coalesced(self.pairs)))

    def __bool__(self) -> bool:
        return bool(self.pairs)

    @cached_property
    def offsets(self) -> int:
        """Number of offsets in the set."""
        return sum(end - first for first, end in self.pairs)

    @property
    def next(self) -> int:
        """The offset behind the last one, 0 for the empty set."""
        return self.pairs[-1][1] if self.pairs else 0

    @property
    def first(self) -> int:
        """The lowest offset, 0 for the empty set."""
        return self.pairs[0][0] if self.pairs else 0

    def union(self, other: Intervals) -> Intervals:
        return Intervals(self.pairs + other.pairs)

    def subtract(self, other: Intervals) -> Intervals:
        """The offsets of this set that are not in the other."""
        left: list[tuple[int, int]] = []
        for first, end in self.pairs:
            for other_first, other_end in other.pairs:
                if other_end <= first or other_first >= end:
                    continue
                if first < other_first:
                    left.append((first, other_first))
                first = max(first, other_end)
                if first >= end:
                    break
            if first < end:
                left.append((first, end))
        return Intervals(tuple(left))

    def intersect(self, other: Intervals) -> Intervals:
        return self.subtract(self.subtract(other))

    def ranges(self, partition: int) -> tuple[OffsetRange, ...]:
        return tuple(OffsetRange(partition, first, end) for first, end in self.pairs)


def _coalesced(pairs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    current: tuple[int, int] | None = None
    for first, end in sorted(pairs):
        if first < 0 or end < first:
            raise ValueError(f"not an interval of offsets: {first}–{end}")
        if first == end:
            continue
        if current is None:
            current = (first, end)
        elif first <= current[1]:
            current = (current[0], max(current[1], end))
        else:
            yield current
            current = (first, end)
    if current is not None:
        yield current


def by_partition(ranges: Iterable[OffsetRange]) -> dict[int, Intervals]:
    """The offsets of ranges, as one set a partition."""
    pairs: dict[int, list[tuple[int, int]]] = {}
    for each in ranges:
        pairs.setdefault(each.partition, []).append((each.first, each.next))
    return {partition: Intervals(tuple(found)) for partition, found in sorted(pairs.items())}


def flatten(sets: Mapping[int, Intervals]) -> tuple[OffsetRange, ...]:
    """Sets by partition as ranges, in order."""
    return tuple(each for partition in sorted(sets) for each in sets[partition].ranges(partition))


def subtract(wanted: Mapping[int, Intervals], there: Mapping[int, Intervals]) -> dict[int, Intervals]:
    """What is wanted and not there, without the partitions of which nothing is left."""
    left = {partition: found.subtract(there.get(partition, Intervals())) for partition, found in wanted.items()}
    return {partition: found for partition, found in left.items() if found}
