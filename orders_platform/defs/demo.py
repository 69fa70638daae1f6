"""The main job on one machine, from nothing to the daily revenue beside PostgreSQL's own figures."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import psycopg

from orders_platform import stack
from orders_platform.defs.resources.platform import Platform
from orders_platform.defs.sync import SyncReport, sync
from orders_platform.errors import PlatformError
from orders_platform.settings import Settings
from orders_platform.stack.shop import ShopReport, apply_schema, run_shop

if TYPE_CHECKING:
    from orders_platform.quality.report import ReconcileReport

Key = tuple[str, str, str]
"""Order date, region, currency."""

REVENUE_IN_CLICKHOUSE = """
SELECT toString(order_date), region, currency, orders, revenue FROM daily_revenue
"""
REVENUE_IN_POSTGRES = """
SELECT (o.created_at AT TIME ZONE %(zone)s)::date::text, coalesce(c.region, 'UNKNOWN'), o.currency, count(*),
       sum(CASE WHEN o.status = 'cancelled' THEN 0 ELSE o.total - o.refunded END)
FROM orders o LEFT JOIN customers c USING (customer_id)
GROUP BY 1, 2, 3
"""


class DemoError(PlatformError):
    """The demo could not be shown; the message says why."""


@dataclass(frozen=True)
class RevenueRow:
    """A row of daily revenue as ClickHouse has it, beside PostgreSQL's (0 orders where one has no such row)."""

    key: Key
    orders: int
    clickhouse: Decimal
    postgres: Decimal
    postgres_orders: int

    @property
    def equal(self) -> bool:
        return (self.orders, self.clickhouse) == (self.postgres_orders, self.postgres)


@dataclass(frozen=True)
class DemoReport:
    """What was written, carried, compared, and what came of it."""

    shop: ShopReport
    sync: SyncReport
    reconciled: ReconcileReport
    revenue: tuple[RevenueRow, ...]

    @property
    def equal(self) -> bool:
        return self.reconciled.equal and all(row.equal for row in self.revenue)


def run_demo(
    settings: Settings, *, rate: float, seconds: float, history_days: int, progress: Callable[[str], None]
) -> DemoReport:
    """Starts the stack, lets a shop write while changes are carried, then compares. Stops what it started in any case.

    Parts that ran before go on running, with the rows that the demo's shop wrote.

    Raises:
        DemoError: the settings are not those of one machine, or name parts that somebody else runs.
        StackError, SyncError, …: what a part said.
    """
    if not settings.is_local:
        raise DemoError(f"the demo starts a stack of its own: ORDERS_PLATFORM_ENV must be local, not {settings.env}")
    if yours := settings.parts_elsewhere:
        raise DemoError(
            f"nothing was started and nothing written: {', '.join(yours)} name{'s' if len(yours) == 1 else ''} parts "
            "of your own, and the demo's shop is made up: it makes tables, changes keys and deletes rows, and what it "
            "sold would stand beside your figures. Unset them (in the environment, and in `.env`) for the demo"
        )
    running = {part.name: part.title for part in stack.status(settings).parts if part.pid is not None}
    if running:
        progress(f"left running, as it was found: {', '.join(running.values())}")
    try:
        stack.up(settings, progress)
        return show(settings, rate=rate, seconds=seconds, history_days=history_days, progress=progress)
    finally:
        stack.down(settings, progress, keep=running)


def show(
    settings: Settings, *, rate: float, seconds: float, history_days: int, progress: Callable[[str], None]
) -> DemoReport:
    """The demo on a stack that runs already."""
    from orders_platform.quality.reconcile import reconcile

    apply_schema(settings.postgres)
    with _Shop(settings, rate, seconds, history_days, progress) as shop:
        shop.wait_until_live()
        while_it_writes = sync(settings, lambda text: progress(f"sync, while the shop writes: {text}"))
        written = shop.finish()
    progress("waiting until Debezium has delivered every commit")
    stack.wait_until_captured(settings)
    report = while_it_writes.followed_by(sync(settings, lambda text: progress(f"sync: {text}")))
    reconciled = reconcile(settings, Platform(settings).catalog, progress=lambda text: progress(f"reconcile: {text}"))
    progress("daily revenue")
    return DemoReport(written, report, reconciled, daily_revenue(settings))


def daily_revenue(settings: Settings) -> tuple[RevenueRow, ...]:
    """ClickHouse's daily revenue beside the same figures from PostgreSQL's own tables."""
    import clickhouse_connect

    client = clickhouse_connect.get_client(dsn=settings.clickhouse)
    try:
        served = client.query(REVENUE_IN_CLICKHOUSE).result_rows
    finally:
        client.close()
    with psycopg.connect(settings.postgres) as connection:
        source = connection.execute(REVENUE_IN_POSTGRES, {"zone": settings.business_time_zone}).fetchall()
    dashboards = {(str(r[0]), str(r[1]), str(r[2])): (int(r[3]), Decimal(r[4])) for r in served}
    shop = {(str(r[0]), str(r[1]), str(r[2])): (int(r[3]), Decimal(r[4])) for r in source}
    nothing = (0, Decimal(0))
    return tuple(
        RevenueRow(
            key,
            orders=dashboards.get(key, nothing)[0],
            clickhouse=dashboards.get(key, nothing)[1],
            postgres=shop.get(key, nothing)[1],
            postgres_orders=shop.get(key, nothing)[0],
        )
        for key in sorted(dashboards.keys() | shop.keys())
    )


class _Shop:
    """The shop in a thread of its own; leaving the block stops it."""

    def __init__(
        self, settings: Settings, rate: float, seconds: float, history_days: int, progress: Callable[[str], None]
    ) -> None:
        self._stop = threading.Event()
        self._live = threading.Event()
        self._report = ShopReport()
        self._error: Exception | None = None
        self._thread = threading.Thread(
            target=self._write, args=(settings.postgres, rate, seconds, history_days), name="shop"
        )
        self._seconds = seconds
        progress(f"the shop: {history_days} days of history, then {seconds:g} s live at {rate:g} changes a second")

    def __enter__(self) -> _Shop:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait_until_live(self) -> None:
        """Returns when the past is written and the first changes of today are."""
        self._live.wait()
        self._raise()

    def finish(self) -> ShopReport:
        """What the shop wrote, once its time is over."""
        self._thread.join()
        self._raise()
        return self._report

    def _write(self, dsn: str, rate: float, seconds: float, history_days: int) -> None:
        try:
            self._report = run_shop(
                dsn, rate, seconds / 60, history_days=history_days, progress=self._progressed, stop=self._stop
            )
        except Exception as error:  # noqa: BLE001 raised again in the thread that waits
            self._error = error
        finally:
            self._live.set()

    def _progressed(self, report: ShopReport) -> None:
        if report.total:
            self._live.set()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
