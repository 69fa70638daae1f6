"""What can go wrong with the stack, in words for whoever started it."""

from __future__ import annotations


class StackError(Exception):
    """The stack cannot do what was asked; the message says what happened, where, and what to do next."""
