"""A stack of these tests' own: they kill its parts and take away what it remembers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orders_platform.settings import Settings
from orders_platform.stack import down, up
from orders_platform_tests.conftest import new_settings


@pytest.fixture(scope="session")
def troubled_stack(new_home: Callable[[str], Path]) -> Iterator[Settings]:
    """Everything, running; each test leaves it running."""
    settings = new_settings(new_home("troubled"))
    try:
        up(settings, print)
        yield settings
    finally:
        down(settings, print)
