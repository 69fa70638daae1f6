"""The short version of the fault matrix: `make faults` plays as many histories as one likes."""

from __future__ import annotations

from pathlib import Path

import pytest

from orders_platform.contracts import load_contracts
from orders_platform.fault_points import FaultPoint
from orders_platform.settings import Settings
from orders_platform_tests.faults.history import history
from orders_platform_tests.faults.player import play
from orders_platform_tests.faults.recording import Recording

pytestmark = pytest.mark.timeout(600)
CONTRACTS = load_contracts()
SEEDS = range(5)


def test_equal_seeds_make_equal_histories() -> None:
    assert history(5) == history(5)
    assert history(5) != history(6)


def test_as_many_seeds_as_there_are_points_kill_a_run_at_each() -> None:
    killed = {step.point for seed in range(len(FaultPoint)) for step in history(seed).steps}
    assert killed >= set(FaultPoint)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_history_ends_in_the_tables_of_postgresql(
    seed: int, recording: Recording, live_stack: Settings, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    played = history(seed)
    server = request.getfixturevalue("s3_server") if played.on_s3 else None
    outcome = play(played, recording, live_stack, CONTRACTS, tmp_path, server)
    assert outcome.differences == [], f"{outcome.history}\n{outcome.ends}\n{outcome.log.read_text()[-3000:]}"
