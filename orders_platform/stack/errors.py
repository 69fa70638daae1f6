"""What can go wrong with the stack, in words for whoever started it."""

from __future__ import annotations

from orders_platform.errors import PlatformError


class StackError(PlatformError):
    """The stack cannot do what was asked; the message says what happened, where, and what to do next."""
