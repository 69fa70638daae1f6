"""Two histories in which together everything goes wrong that does not have a test of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from orders_platform.contracts import load_contracts
from orders_platform.fault_points import FaultPoint
from orders_platform.settings import Settings
from orders_platform_tests.faults.history import AT_A_POINT, ON_S3, TIMED, Fault, History, Step
from orders_platform_tests.faults.player import play
from orders_platform_tests.faults.recording import Recording

pytestmark = pytest.mark.timeout(600)
ELSEWHERE = (
    *ON_S3,
    Fault.NONE,
    Fault.KILLED_AT_POINT,
    Fault.RECORDS_DELETED,
    Fault.RECORDS_EXPIRED,
    Fault.TOPIC_RECREATED,
    Fault.MIDNIGHT_IN_A_RUN,
)
"""test_store_faults, test_every_point and test_kafka_faults."""
HERE = [fault for fault in Fault if fault not in ELSEWHERE]


def _step(fault: Fault) -> Step:
    point = FaultPoint.SILVER_BEFORE_COMMIT if fault in AT_A_POINT else None
    return Step(fault, point, seconds=1.0 if fault in TIMED else 0.0, chance=HERE.index(fault))


@pytest.mark.parametrize("faults", [HERE[::2], HERE[1::2]], ids=["even", "odd"])
def test_a_history_of_many_faults_ends_in_the_tables_of_postgresql(
    faults: Sequence[Fault], recording: Recording, live_stack: Settings, tmp_path: Path
) -> None:
    cuts = tuple((i + 1) / len(faults) for i in range(len(faults) - 1))
    played = History(10_003, cuts, tuple(_step(fault) for fault in faults))
    outcome = play(played, recording, live_stack, load_contracts(), tmp_path)
    assert outcome.differences == [], f"{outcome.ends}\n{outcome.log.read_text()[-3000:]}"
    assert {end.split(" ")[0].rstrip(":") for end in outcome.ends} == set(faults)
