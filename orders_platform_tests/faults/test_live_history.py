"""Live histories: `make faults` plays one in ten of its seeds on a live stack of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orders_platform.contracts import load_contracts
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.faults.live_history import LiveFault, LiveHistory, live_history
from orders_platform_tests.faults.live_player import play_live


def test_as_many_seeds_as_there_are_faults_have_each() -> None:
    assert {fault for seed in range(len(LiveFault)) for fault in live_history(seed).faults} == set(LiveFault)


@pytest.mark.timeout(600)
def test_a_slot_and_offsets_lost_and_then_records_end_in_the_tables_of_postgresql(
    new_home: Callable[[str], Path], tmp_path: Path
) -> None:
    played = LiveHistory(10_004, (LiveFault.OFFSETS_AND_SLOT_LOST, LiveFault.RECORDS_LOST))
    outcome = play_live(played, new_settings(new_home("live history")), load_contracts(), tmp_path)
    assert outcome.differences == [], f"{outcome.ends}\n{outcome.log.read_text()[-3000:]}"
