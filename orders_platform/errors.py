"""What our errors have in common: a message for the person who reads it, and who needs no traceback."""

from __future__ import annotations


class PlatformError(Exception):
    """Something that we foresaw; the message says what happened, where, and what to do next."""
