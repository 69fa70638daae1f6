"""How differences are said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

Rows = Mapping[tuple[Any, ...], Mapping[str, Any]]
"""Of a table, by key."""
SHOWN = 5


def utc(value: Any) -> Any:
    """A time that names its zone, in UTC; anything else as it is."""
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value


def named(layer: str, what: str, items: Iterable[Any]) -> list[str]:
    """One line, if there are any: how many, and the first of them."""
    items = list(items)
    if not items:
        return []
    shown = ", ".join(str(i) for i in items[:SHOWN])
    return [f"{layer}: {len(items)} {what}: {shown}{' …' if len(items) > SHOWN else ''}"]
