"""Time in tests: waiting for what is bound to come, as long as a slow machine may take; and leaping over it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 120.0
PAUSE_SECONDS = 0.1


def eventually(
    ask: Callable[[], T], good: Callable[[T], object] = bool, patience_seconds: float = PATIENCE_SECONDS
) -> T:
    """Asks until the answer is good or patience is over. The last answer, good or not, is for the test to judge."""
    deadline = time.monotonic() + patience_seconds
    while not good(answer := ask()) and time.monotonic() < deadline:
        time.sleep(PAUSE_SECONDS)
    return answer


class LeapingClock:
    """In the place of the module `time`: the real time, and what was leapt over."""

    leapt_seconds = 0.0
    sleep = staticmethod(time.sleep)

    def monotonic(self) -> float:
        return time.monotonic() + self.leapt_seconds
