"""Live histories: `make faults` plays one in ten of its seeds on a live stack of their own."""

from __future__ import annotations

from orders_platform_tests.faults.live_history import LiveFault, live_history


def test_as_many_seeds_as_there_are_faults_have_each() -> None:
    assert {fault for seed in range(len(LiveFault)) for fault in live_history(seed).faults} == set(LiveFault)
