"""The short version of the fault matrix: `make faults` plays as many histories as one likes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import pytest

from orders_platform.contracts import load_contracts
from orders_platform.fault_points import FaultPoint
from orders_platform.settings import Settings
from orders_platform_tests.faults.history import history
from orders_platform_tests.faults.player import play
from orders_platform_tests.faults.recording import Record, Recording

pytestmark = pytest.mark.timeout(600)
CONTRACTS = load_contracts()
SEEDS = range(1)


def test_equal_seeds_make_equal_histories() -> None:
    assert history(5) == history(5)
    assert history(5) != history(6)


def test_as_many_seeds_as_there_are_points_kill_a_run_at_each() -> None:
    killed = {step.point for seed in range(len(FaultPoint)) for step in history(seed).steps}
    assert killed >= set(FaultPoint)


def test_the_portions_of_a_history_hold_each_record_once_and_in_the_order_of_its_partition(
    recording: Recording,
) -> None:
    def by_log(records: Iterable[Record]) -> dict[tuple[str, int], list[Record]]:
        logs: dict[tuple[str, int], list[Record]] = {}
        for each in records:
            logs.setdefault((each.table, each.partition), []).append(each)
        return logs

    for seed in range(20):
        played = history(seed)
        portions = recording.portions(played.cuts, played.moving)
        assert by_log(chain.from_iterable(portions)) == by_log(recording.records)
        assert all(portions), "a fault that meets no record is none"
        for table in recording.state:
            moved = {i for i, portion in enumerate(portions) if any(each.table == table for each in portion)}
            assert moved <= set(played.moving(table))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_history_ends_in_the_tables_of_postgresql(
    seed: int, recording: Recording, live_stack: Settings, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    played = history(seed)
    server = request.getfixturevalue("s3_server") if played.on_s3 else None
    outcome = play(played, recording, live_stack, CONTRACTS, tmp_path, server)
    assert outcome.differences == [], f"{outcome.history}\n{outcome.ends}\n{outcome.log.read_text()[-3000:]}"
