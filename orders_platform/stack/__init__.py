"""The real parts on one machine, and the simulated shop: `up`, `down`, `status`, `doctor`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from orders_platform.stack.errors import StackError

if TYPE_CHECKING:
    from orders_platform.stack.captured import wait_until_captured
    from orders_platform.stack.diagnosis import Finding, doctor
    from orders_platform.stack.local_stack import PartStatus, StackStatus, connection, down, status, up

__all__ = [
    "Finding",
    "PartStatus",
    "StackError",
    "StackStatus",
    "connection",
    "doctor",
    "down",
    "status",
    "up",
    "wait_until_captured",
]

_ELSEWHERE = {"Finding": "diagnosis", "doctor": "diagnosis", "wait_until_captured": "captured"}


def __getattr__(name: str) -> Any:
    """Imports what is asked for, then: the programs of this package would pay for all of it at every start."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'local_stack')}"), name)
