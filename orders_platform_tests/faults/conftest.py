"""What the histories of the default run have in common."""

from __future__ import annotations

import pytest

from orders_platform.settings import Settings
from orders_platform_tests.faults.matrix import RECORDED_SEED, take_recording
from orders_platform_tests.faults.recording import Recording


@pytest.fixture(scope="session")
def recording(live_stack: Settings) -> Recording:
    """What Debezium made of a shop's changes on the live stack, once for all histories."""
    return take_recording(live_stack, RECORDED_SEED)
