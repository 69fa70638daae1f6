"""One order date of gold's daily revenue, read for ClickHouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from orders_platform.errors import PlatformError
from orders_platform.lake.gold_files import date_sequences
from orders_platform.lake.gold_publish import main_head
from orders_platform.serving.day_figures import DIMENSIONS, MEASURES, DayFigures

GOLD_TABLE = "gold.daily_revenue"
FIRST_DAY, LAST_DAY = date(1900, 1, 1), date(2299, 12, 31)
"""ClickHouse's Date32 ends there; a day beyond would be shown as another one."""


class DayOutOfRangeError(PlatformError):
    """An order date that ClickHouse cannot hold."""


@dataclass(frozen=True)
class GoldDay:
    """`sequence` is that of the commit that wrote the day last; 0 for a day without rows."""

    day: date
    rows: Sequence[Mapping[str, Any]]
    sequence: int

    @property
    def figures(self) -> DayFigures:
        return DayFigures.of_rows(self.rows, self.sequence)


def load_gold(catalog: Catalog) -> Table | None:
    """Gold's daily revenue; None before gold was first built."""
    try:
        return catalog.load_table(GOLD_TABLE)
    except NoSuchTableError:
        return None


def day_sequences(catalog: Catalog) -> dict[date, int]:
    """For each order date of gold, the sequence number of the commit that last wrote it."""
    table = load_gold(catalog)
    return date_sequences(table, main_head(table)) if table is not None else {}


def read_day(catalog: Catalog, day: date) -> GoldDay:
    """The day as readers of gold's main see it now; rows and sequence are of one snapshot.

    Raises:
        DayOutOfRangeError: for a day that ClickHouse cannot hold.
    """
    if not FIRST_DAY <= day <= LAST_DAY:
        raise DayOutOfRangeError(
            f"order date {day}: ClickHouse holds {FIRST_DAY} to {LAST_DAY}; correct created_at of the orders of that "
            f"day in the shop, they are in gold.fact_orders"
        )
    table = load_gold(catalog)
    head = main_head(table) if table is not None else None
    if table is None or head is None:
        return GoldDay(day, (), 0)
    scan = table.scan(
        row_filter=f"order_date = '{day.isoformat()}'", snapshot_id=head, selected_fields=(*DIMENSIONS, *MEASURES)
    )
    return GoldDay(day, scan.to_arrow().to_pylist(), date_sequences(table, head).get(day, 0))
