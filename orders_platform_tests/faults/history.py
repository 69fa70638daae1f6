"""A history: what a seed makes of a recording. Which records come when, and what goes wrong meanwhile."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum

from orders_platform.fault_points import FaultPoint


class Fault(StrEnum):
    """What can go wrong in one step of a history. Each name is a method of `Player`."""

    NONE = "none"
    KILLED_AT_POINT = "killed-at-point"
    KILLED_AT_RANDOM = "killed-at-random"
    TWO_AT_ONCE = "two-at-once"
    FROZEN_AND_OVERTAKEN = "frozen-and-overtaken"
    DELIVERED_TWICE = "delivered-twice"
    ABORTED_TRANSACTION = "aborted-transaction"
    OPEN_TRANSACTION = "open-transaction"
    STAGED_FILE_DELETED = "staged-file-deleted"
    STAGED_FILE_TRUNCATED = "staged-file-truncated"
    STAGED_FILE_CORRUPTED = "staged-file-corrupted"
    BRONZE_ROLLED_BACK = "bronze-rolled-back"
    SNAPSHOTS_EXPIRED = "snapshots-expired"
    PAST_DAY_AGAIN = "past-day-again"
    DASHBOARD_LOST = "dashboard-lost"


@dataclass(frozen=True)
class Step:
    """A portion of the records (its share of the whole is drawn too) and the fault while it is carried."""

    fault: Fault
    point: FaultPoint | None = None
    times: int = 1
    seconds: float = 0.0
    chance: int = 0
    """A number for whatever the fault has to choose."""

    def __str__(self) -> str:
        at = f" {self.point}:{self.times}" if self.point else ""
        after = f" after {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.fault}{at}{after}"


@dataclass(frozen=True)
class History:
    """What happens, in order. Equal seeds make equal histories."""

    seed: int
    cuts: tuple[float, ...]
    steps: tuple[Step, ...] = field(default=())

    def __str__(self) -> str:
        return f"seed {self.seed}: {' → '.join(str(step) for step in self.steps)}"


def history(seed: int) -> History:
    """The history of a seed: two to four portions, each with a fault of its own.

    The point of one kill goes round with the seed: as many seeds as there are points pass them all.
    """
    chance = random.Random(seed)
    count = chance.randint(2, 4)
    cuts = tuple(sorted(chance.uniform(0.05, 0.95) for _ in range(count - 1)))
    points = list(FaultPoint)
    steps = [_step(chance.choice(list(Fault)), chance, chance.choice(points)) for _ in range(count)]
    steps[chance.randrange(count)] = _step(Fault.KILLED_AT_POINT, chance, points[seed % len(points)])
    return History(seed, cuts, tuple(steps))


def _step(fault: Fault, chance: random.Random, point: FaultPoint) -> Step:
    killed = fault is Fault.KILLED_AT_POINT
    timed = fault in (Fault.KILLED_AT_RANDOM, Fault.FROZEN_AND_OVERTAKEN)
    return Step(
        fault,
        point if killed else None,
        chance.choice([1, 1, 2, 3]) if killed else 1,
        round(chance.uniform(0.2, 6.0), 2) if timed else 0.0,
        chance.randrange(1 << 30),
    )
