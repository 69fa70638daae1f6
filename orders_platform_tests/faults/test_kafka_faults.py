"""Faults of the log that a history may meet by chance only, each of them for certain."""

from __future__ import annotations

from pathlib import Path

import pytest

from orders_platform.contracts import load_contracts
from orders_platform.settings import Settings
from orders_platform_tests.faults.history import Fault, History, Step
from orders_platform_tests.faults.player import play
from orders_platform_tests.faults.recording import Recording

pytestmark = pytest.mark.timeout(600)


def test_topics_that_lose_what_was_loaded_or_are_made_anew_end_in_the_tables_of_postgresql(
    recording: Recording, live_stack: Settings, tmp_path: Path
) -> None:
    faults = (Fault.RECORDS_DELETED, Fault.TOPIC_RECREATED, Fault.RECORDS_EXPIRED, Fault.MIDNIGHT_IN_A_RUN)
    steps = tuple(Step(fault, chance=4) for fault in faults)
    outcome = play(History(10_002, (0.4, 0.6, 0.7), steps), recording, live_stack, load_contracts(), tmp_path)
    log = outcome.log.read_text()
    assert outcome.differences == [], f"{outcome.ends}\n{log[-3000:]}"
    said = {fault: [end.rpartition(": ")[2] for end in outcome.ends if end.startswith(fault)] for fault in faults}
    assert said[Fault.RECORDS_DELETED] == ["0", "0"], "nothing stops when what was loaded is deleted"
    assert said[Fault.TOPIC_RECREATED] == ["0", "1", "0", "0"], "it stops, is accepted, and goes on"
    assert said[Fault.RECORDS_EXPIRED] == ["0", "1", "0", "0"], "it stops, is accepted, and goes on"
