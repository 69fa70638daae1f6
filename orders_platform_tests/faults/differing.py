"""How differences are said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Rows = Mapping[tuple[Any, ...], Mapping[str, Any]]
"""Of a table, by key."""
SHOWN = 5


def named(layer: str, what: str, items: Iterable[Any]) -> list[str]:
    """One line, if there are any: how many, and the first of them."""
    items = list(items)
    if not items:
        return []
    shown = ", ".join(str(i) for i in items[:SHOWN])
    return [f"{layer}: {len(items)} {what}: {shown}{' …' if len(items) > SHOWN else ''}"]
