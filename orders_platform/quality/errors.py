"""What keeps a comparison from being made at all. A comparison that was made and found differences is no error."""

from __future__ import annotations

from orders_platform.errors import PlatformError


class ReconcileError(PlatformError):
    """The tables could not be compared; the message says which, why, and what to do."""


class ShopUnreadableError(ReconcileError):
    """PostgreSQL cannot be reached, or a table cannot be read as its contract says."""


class NotLoadedError(ReconcileError):
    """A table that should be compared does not exist yet, or its server cannot be reached."""
