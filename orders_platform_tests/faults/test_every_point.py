"""A run dies at each durable step in turn, on its way from Kafka to ClickHouse."""

from __future__ import annotations

from pathlib import Path

import pytest

from orders_platform.contracts import load_contracts
from orders_platform.fault_points import FaultPoint
from orders_platform.settings import Settings
from orders_platform_tests.faults.history import Fault, History, Step
from orders_platform_tests.faults.player import play
from orders_platform_tests.faults.recording import Recording

pytestmark = pytest.mark.timeout(900)
CONTRACTS = load_contracts()


def test_a_run_that_dies_at_every_durable_step_in_turn_loses_and_doubles_nothing(
    recording: Recording, live_stack: Settings, tmp_path: Path
) -> None:
    points = list(FaultPoint)
    steps = tuple(Step(Fault.KILLED_AT_POINT, point) for point in points)
    cuts = tuple((i + 1) / len(points) for i in range(len(points) - 1))
    outcome = play(History(10_000, cuts, steps), recording, live_stack, CONTRACTS, tmp_path)
    assert outcome.differences == [], f"{outcome.ends}\n{outcome.log.read_text()[-3000:]}"
    # Gold's branch is written by dbt's own process: when that dies, the run that waits for it fails.
    lived = [end for end in outcome.ends if not end.endswith(": 1" if "-branch" in end else ": -9")]
    assert lived == [], "a named point at which no run died is not on the way of a run"


def test_a_run_that_freezes_while_dbt_writes_gold_is_overtaken_and_adds_nothing_when_it_goes_on(
    recording: Recording, live_stack: Settings, tmp_path: Path
) -> None:
    points = (FaultPoint.GOLD_BEFORE_BRANCH, FaultPoint.GOLD_AFTER_BRANCH)
    steps = tuple(Step(Fault.FROZEN_AT_POINT, point) for point in points)
    outcome = play(History(10_002, (0.5,), steps), recording, live_stack, CONTRACTS, tmp_path)
    assert outcome.differences == [], f"{outcome.ends}\n{outcome.log.read_text()[-3000:]}"
    ends = [end for point in points for end in outcome.ends if str(point) in end]
    assert len(ends) == 4, f"only a run that froze is overtaken by another: {outcome.ends}"
