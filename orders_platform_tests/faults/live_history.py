"""A live history: what happens to PostgreSQL, Connect and Kafka while a shop writes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum


class LiveFault(StrEnum):
    """What can go wrong in one step of a live history."""

    NONE = "none"
    CONNECT_KILLED = "connect-killed"
    BROKER_KILLED = "broker-killed"
    POSTGRES_CRASHED = "postgres-crashed"
    ALL_KILLED = "all-killed"
    OFFSETS_LOST_SLOT_KEPT = "offsets-lost-slot-kept"
    OFFSETS_AND_SLOT_LOST = "offsets-and-slot-lost"
    SLOT_LOST = "slot-lost"
    INCREMENTAL_SNAPSHOT = "incremental-snapshot"
    RECORDS_LOST = "records-lost"
    POSTGRES_RESTORED = "postgres-restored"
    CONNECTOR_WITHOUT_EXACTLY_ONCE = "connector-without-exactly-once"


@dataclass(frozen=True)
class LiveHistory:
    """Faults in their order, each while the shop makes some more changes. Equal seeds make equal histories."""

    seed: int
    faults: tuple[LiveFault, ...]

    @property
    def kinds(self) -> tuple[LiveFault, ...]:
        return self.faults

    def __str__(self) -> str:
        return f"live seed {self.seed}: {' → '.join(self.faults)}"


def live_history(seed: int) -> LiveHistory:
    """Two or three faults; one of them goes round with the seed."""
    chance = random.Random(seed)
    faults = [chance.choice(list(LiveFault)) for _ in range(chance.randint(2, 3))]
    faults[chance.randrange(len(faults))] = list(LiveFault)[seed % len(LiveFault)]
    return LiveHistory(seed, tuple(faults))
