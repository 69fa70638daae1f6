"""Live histories: `make faults` plays one in ten of its seeds on a live stack of their own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from orders_platform.contracts import load_contracts
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.faults.live_history import LiveFault, LiveHistory, live_history
from orders_platform_tests.faults.live_player import play_live
from orders_platform_tests.faults.true_history import Seen, without_version


def test_as_many_seeds_as_there_are_faults_have_each() -> None:
    assert {fault for seed in range(len(LiveFault)) for fault in live_history(seed).faults} == set(LiveFault)


@pytest.mark.timeout(600)
def test_a_slot_and_offsets_lost_and_then_records_end_in_the_tables_of_postgresql(
    new_home: Callable[[str], Path], tmp_path: Path
) -> None:
    played = LiveHistory(10_004, (LiveFault.OFFSETS_AND_SLOT_LOST, LiveFault.RECORDS_LOST))
    outcome = play_live(played, new_settings(new_home("live history")), load_contracts(), tmp_path)
    assert outcome.differences == [], f"{outcome.ends}\n{outcome.log.read_text()[-3000:]}"
    said = re.search(r"customers: (\d+) changes in PostgreSQL, (\d+) of them captured by nobody", str(outcome.notes))
    assert said is not None, "the oracle says what happened while nobody looked"
    assert 0 < int(said[2]) < int(said[1])


def test_a_change_that_no_version_tells_of_is_seen() -> None:
    contract = next(each for each in load_contracts() if each.table == "customers")
    seen = [Seen(1, False, {"customer_id": 1, "region": "EU"}), Seen(2, False, {"customer_id": 1, "region": "US"})]
    version = {"customer_id": 1, "region": "EU", "_deleted": False, "_unavailable": None}
    assert without_version(contract, seen, [version]) == [seen[1]]
    assert without_version(contract, seen, [version, version | {"region": "US"}]) == []
    assert without_version(contract, seen, [version, version | {"region": None, "_unavailable": ["region"]}]) == []
    gone = Seen(3, True, {"customer_id": 1, "region": "US"})
    assert without_version(contract, [gone], [version]) == [gone]
    assert without_version(contract, [gone], [version, version | {"_deleted": True}]) == []
