"""A history: what a seed makes of a recording. Which records come when, and what goes wrong meanwhile."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum

from orders_platform.fault_points import FaultPoint


class Fault(StrEnum):
    """What can go wrong in one step of a history on recorded topics."""

    NONE = "none"
    # the run
    KILLED_AT_POINT = "killed-at-point"
    KILLED_AT_RANDOM = "killed-at-random"
    TWO_AT_ONCE = "two-at-once"
    FROZEN_AT_POINT = "frozen-at-point"
    FROZEN_AND_OVERTAKEN = "frozen-and-overtaken"
    RANGE_BACKFILL_WHILE_LIVE = "range-backfill-while-live"
    TWO_PUBLICATIONS_AT_ONCE = "two-publications-at-once"
    PAST_DAY_AGAIN = "past-day-again"
    # the catalog
    COMMIT_ANSWER_LOST = "commit-answer-lost"
    COMMIT_ANSWERED_409 = "commit-answered-409"
    CATALOG_ERROR_BEFORE = "catalog-error-before"
    CATALOG_UNREACHABLE_AFTER = "catalog-unreachable-after"
    # the tables
    BRONZE_ROLLED_BACK = "bronze-rolled-back"
    SNAPSHOTS_EXPIRED = "snapshots-expired"
    FOREIGN_COMPACTION = "foreign-compaction"
    COMPACTED_EXPIRED_ROLLED_BACK = "compacted-expired-rolled-back"
    DASHBOARD_LOST = "dashboard-lost"
    # the store
    STAGED_FILE_DELETED = "staged-file-deleted"
    STAGED_FILE_TRUNCATED = "staged-file-truncated"
    STAGED_FILE_CORRUPTED = "staged-file-corrupted"
    DISK_FULL = "disk-full"
    STORE_503 = "store-503"
    STORE_SLOW = "store-slow"
    UPLOAD_CUT = "upload-cut"
    # Kafka
    DELIVERED_TWICE = "delivered-twice"
    ABORTED_TRANSACTION = "aborted-transaction"
    TRANSACTION_OVER_MIDNIGHT = "transaction-over-midnight"
    PARTITIONS_INCREASED = "partitions-increased"
    TOPIC_RECREATED = "topic-recreated"
    RECORDS_DELETED = "records-deleted"
    RECORDS_EXPIRED = "records-expired"
    MIDNIGHT_IN_A_RUN = "midnight-in-a-run"


AT_A_POINT = (Fault.KILLED_AT_POINT, Fault.FROZEN_AT_POINT)
TIMED = (Fault.KILLED_AT_RANDOM, Fault.FROZEN_AND_OVERTAKEN)
ON_S3 = (Fault.STORE_503, Fault.STORE_SLOW, Fault.UPLOAD_CUT)
"""These come by their turn only: all that a history does takes three times as long on an S3 server."""

MOVES = {"orders": 1.0, "customers": 0.5}
"""How likely records of a table come in a step: all that is beyond silver hangs on orders."""
MOVES_OTHERWISE = 0.3


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

    @property
    def kinds(self) -> tuple[Fault, ...]:
        return tuple(step.fault for step in self.steps)

    @property
    def days(self) -> int:
        """How many it takes: each portion has a day of its own, and those with a midnight in them have two."""
        return len(self.steps) + self.kinds.count(Fault.MIDNIGHT_IN_A_RUN)

    def moving(self, table: str) -> list[int]:
        """The steps in which records of the table come; topics know nothing of each other. At least one."""
        chance = random.Random(f"{self.seed} {table}")
        steps = [
            number
            for number, step in enumerate(self.steps)
            if chance.random() < MOVES.get(table, MOVES_OTHERWISE)
            or (table == "customers" and (step.point or "").startswith("versions-"))
        ]
        return steps or [chance.randrange(len(self.steps))]

    @property
    def on_s3(self) -> bool:
        """Whether staged files and tables are on an S3 server; otherwise they are in a folder."""
        return any(kind in ON_S3 for kind in self.kinds)

    def __str__(self) -> str:
        return f"seed {self.seed}: {' → '.join(str(step) for step in self.steps)}"


def history(seed: int) -> History:
    """The history of a seed: two to four portions, each with a fault of its own.

    The point of one kill and the fault of one step go round with the seed: as many seeds in a row as there are points
    pass them all, and as many as there are faults have each.
    """
    chance = random.Random(seed)
    count = chance.randint(2, 4)
    cuts = tuple(sorted(percent / 100 for percent in chance.sample(range(5, 96), count - 1)))
    points, faults = list(FaultPoint), list(Fault)
    anytime = [fault for fault in faults if fault not in ON_S3]
    steps = [_step(chance.choice(anytime), chance, chance.choice(points)) for _ in range(count)]
    killed, turn = chance.sample(range(count), 2)
    steps[killed] = _step(Fault.KILLED_AT_POINT, chance, points[seed % len(points)])
    steps[turn] = _step(faults[seed % len(faults)], chance, chance.choice(points))
    return History(seed, cuts, tuple(steps))


def _step(fault: Fault, chance: random.Random, point: FaultPoint) -> Step:
    return Step(
        fault,
        point if fault in AT_A_POINT else None,
        chance.choice([1, 1, 2, 3]) if fault in AT_A_POINT else 1,
        round(chance.uniform(0.2, 4.0), 2) if fault in TIMED else 0.0,
        chance.randrange(1 << 30),
    )
