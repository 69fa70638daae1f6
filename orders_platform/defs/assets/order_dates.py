"""Which order dates a run builds: those of its config, or else its partitions."""

from collections.abc import Sequence
from datetime import date

import dagster as dg
from pydantic import Field

from orders_platform.defs.partitions import run_days


class OrderDatesConfig(dg.Config):
    """Order dates to build, ISO. Automation gives a set that need not be contiguous; a person selects partitions."""

    order_dates: list[str] = Field(default_factory=list)

    def dates_of(self, context: dg.AssetExecutionContext) -> Sequence[date]:
        """The order dates of the run, the run's own partitions among them, oldest first."""
        given = {date.fromisoformat(text) for text in self.order_dates}
        return sorted(given | set(run_days(context)))
