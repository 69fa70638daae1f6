"""The short version of the fault matrix: each durable step is died at once, and the oracle is shown to see."""

from __future__ import annotations

import copy
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orders_platform.contracts import load_contracts
from orders_platform.fault_points import FaultPoint
from orders_platform.settings import Settings
from orders_platform_tests.faults.history import Fault, History, Step, history
from orders_platform_tests.faults.oracle import differences
from orders_platform_tests.faults.player import Player, play
from orders_platform_tests.faults.recording import Recording

pytestmark = pytest.mark.timeout(600)
CONTRACTS = load_contracts()
SEEDS = range(4)


def test_equal_seeds_make_equal_histories() -> None:
    assert history(5) == history(5)
    assert history(5) != history(6)


def test_as_many_seeds_as_there_are_points_kill_a_run_at_each() -> None:
    killed = {step.point for seed in range(len(FaultPoint)) for step in history(seed).steps}
    assert killed >= set(FaultPoint)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_history_ends_in_the_tables_of_postgresql(
    seed: int, recording: Recording, live_stack: Settings, tmp_path: Path
) -> None:
    outcome = play(history(seed), recording, live_stack, CONTRACTS, tmp_path)
    assert outcome.differences == [], f"{outcome.history}\n{outcome.ends}\n{outcome.log.read_text()[-3000:]}"


def test_a_run_that_dies_at_every_durable_step_in_turn_loses_and_doubles_nothing(
    recording: Recording, live_stack: Settings, tmp_path: Path
) -> None:
    points = list(FaultPoint)
    steps = tuple(Step(Fault.KILLED_AT_POINT, point) for point in points)
    cuts = tuple((i + 1) / len(points) for i in range(len(points) - 1))
    outcome = play(History(10_000, cuts, steps), recording, live_stack, CONTRACTS, tmp_path)
    assert outcome.differences == [], f"{outcome.ends}\n{outcome.log.read_text()[-3000:]}"
    # Gold's branch is written by dbt's own process: when that dies, the run that waits for it fails.
    lived = [end for end in outcome.ends if not end.endswith(": 1" if "-branch:" in end else ": -9")]
    assert lived == [], "a named point at which no run died is not on the way of a run"


@pytest.fixture(scope="module")
def undisturbed(recording: Recording, live_stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    player = Player(20_000, recording, live_stack, CONTRACTS, tmp_path_factory.mktemp("undisturbed"))
    player.prepare()
    player.write(recording.records)
    assert player.heal() == []
    return player.settings


def _alter(state: dict[str, Any], table: str, column: str, value: Any) -> None:
    row = next(iter(state[table].values()))
    row[column] = value


def _drop(state: dict[str, Any], table: str) -> None:
    del state[table][next(iter(state[table]))]


@pytest.mark.parametrize(
    ("damage", "layer"),
    [
        (lambda s: _alter(s, "products", "name", "altered"), "silver.products"),
        (lambda s: _alter(s, "customers", "email", "altered"), "silver.customers"),
        (lambda s: _alter(s, "orders", "refunded", Decimal("-0.01")), "gold.fact_orders"),
        (lambda s: _alter(s, "orders", "refunded", Decimal("-0.01")), "clickhouse.daily_revenue"),
        (lambda s: _drop(s, "inventory"), "silver.inventory"),
        (lambda s: _drop(s, "orders"), "gold.daily_revenue"),
    ],
)
def test_the_oracle_sees_one_row_that_differs(
    damage: Callable[[dict[str, Any]], None], layer: str, recording: Recording, undisturbed: Settings
) -> None:
    state: dict[str, Any] = copy.deepcopy(dict(recording.state))
    damage(state)
    found = differences(undisturbed, CONTRACTS, state)
    assert [line for line in found if line.startswith(layer)] != [], found
