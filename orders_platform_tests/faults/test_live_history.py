"""One history on a live stack of its own: its parts die, its records are lost, and the tables are PostgreSQL's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orders_platform.contracts import load_contracts
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.faults.live_history import LiveFault, LiveHistory, live_history, play_live

pytestmark = pytest.mark.timeout(900)


def test_as_many_seeds_as_there_are_faults_have_each() -> None:
    assert {fault for seed in range(len(LiveFault)) for fault in live_history(seed).faults} == set(LiveFault)


def test_a_live_history_ends_in_the_tables_of_postgresql(new_home: Callable[[str], Path], tmp_path: Path) -> None:
    faults = (LiveFault.INCREMENTAL_SNAPSHOT, LiveFault.CONNECT_KILLED, LiveFault.RECORDS_LOST)
    outcome = play_live(LiveHistory(1, faults), new_settings(new_home("live")), load_contracts(), tmp_path)
    assert outcome.differences == [], f"{outcome.ends}\n{outcome.log.read_text()[-3000:]}"
