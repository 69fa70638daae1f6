"""The dashboard table as its readers see it, and as somebody damages it."""

from __future__ import annotations

from datetime import date

from orders_platform.serving.client import open_client
from orders_platform.settings import Settings


def shown(settings: Settings, day: date | None = None) -> list[tuple[object, ...]]:
    """What a dashboard sees."""
    where = f"WHERE order_date = '{day}'" if day else ""
    with open_client(settings) as client:
        return list(
            client.query(
                f"SELECT region, orders, revenue FROM daily_revenue {where} ORDER BY order_date, region"
            ).result_rows
        )


def tables(settings: Settings) -> set[str]:
    with open_client(settings) as client:
        return {name for (name,) in client.query("SHOW TABLES").result_rows}


def alter(settings: Settings, command: str) -> None:
    with open_client(settings) as client:
        client.command(command, settings={"mutations_sync": 2})
