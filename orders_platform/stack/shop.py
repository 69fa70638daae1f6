"""A simulated shop that writes to PostgreSQL as a real one does, at a steady rate, the same for the same seed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files

import psycopg
from psycopg.conninfo import conninfo_to_dict

from orders_platform.settings import Settings
from orders_platform.stack.errors import StackError
from orders_platform.stack.shop_history import fill_history
from orders_platform.stack.shop_planner import ShopPlanner
from orders_platform.stack.shop_state import read_state
from orders_platform.stack.shop_transaction import Step
from orders_platform.stack.shop_writer import ShopWriter

TICK_SECONDS = 0.2
MAX_ROWS_PER_BATCH = 2000
"""However far behind its rate the shop is, it looks at the clock again after this many rows."""
PROGRESS_SECONDS = 1.0
ORDERS_A_DAY = 150
"""Of the past, on average."""
_LOCK = 0x5_80_9
"""Advisory lock: one shop a database, or two would give out the same keys."""


class ShopError(StackError):
    """The shop cannot write; the message says why."""


@dataclass(frozen=True)
class ShopReport:
    """What the shop has written.

    `changes` are rows changed, cascades included, by kind of transaction (`order placed`); `transactions` those that
    were committed; `history_rows` the rows of past days and of an empty shop's opening, which neither `seconds` nor
    `cpu_seconds` (this process's, not PostgreSQL's) contain once the live part has begun.
    """

    changes: Mapping[str, int] = field(default_factory=dict)
    transactions: int = 0
    rolled_back: int = 0
    history_rows: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def total(self) -> int:
        """Rows changed, without the history."""
        return sum(self.changes.values())


def require_own_postgres(settings: Settings) -> None:
    """Raises `ShopError` where PostgreSQL is not the stack's own: this shop's rows are made up, and it deletes some."""
    if settings.postgres_dsn is not None:
        raise ShopError(
            f"nothing was started and nothing written: ORDERS_PLATFORM_POSTGRES_DSN names {place_of(settings.postgres)}"
            ", which this stack does not run, and the simulated shop makes tables, writes made-up rows, changes keys "
            "and deletes rows. Unset it (in the environment, and in `.env`) for a PostgreSQL of the stack's own; if "
            "that database is there to be played with, `orders-platform shop --into-postgres-dsn` writes to it"
        )


def place_of(dsn: str) -> str:
    """The database of a DSN for people to read, without its secrets: `shop at db.example.com:5432`."""
    given = conninfo_to_dict(dsn)
    return f"{given.get('dbname', 'postgres')} at {given.get('host', '127.0.0.1')}:{given.get('port', 5432)}"


def apply_schema(dsn: str) -> None:
    """Creates the tables that are missing. Harmless at any time, by several processes too.

    Raises:
        ShopError: when PostgreSQL cannot be reached or refuses.
    """
    script = files("orders_platform.stack").joinpath("shop_schema.sql").read_text(encoding="utf-8")
    try:
        with psycopg.connect(dsn) as connection:
            # CREATE TABLE IF NOT EXISTS is no protection against another that runs at the same time.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            connection.execute(script)
    except psycopg.Error as error:
        raise ShopError(f"The shop's schema could not be applied: {error}".strip()) from error


def run_shop(
    dsn: str,
    rate: float,
    minutes: float | None = None,
    seed: int = 0,
    history_days: int = 0,
    progress: Callable[[ShopReport], None] | None = None,
    max_changes: int | None = None,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    stop: threading.Event | None = None,
    orders_a_day: int = ORDERS_A_DAY,
) -> ShopReport:
    """Writes changes until the time is over, `max_changes` rows are written, or `stop` is set.

    A shop that is empty opens first (products, stock, customers). One that has rows goes on from them. The rows written
    depend on the seed, on the rows found at the start, on the number of changes, and on what `clock` says once.

    Args:
        dsn: of the shop's database; the schema must be there.
        rate: changed rows a second. A slower machine writes as fast as it can.
        minutes: wall-clock time to write for, history not counted; None means without end.
        history_days: past days that get orders before, unless they have some (see `fill_history`).
        progress: called about once a second, and after each day of history, with the report so far.
        clock: the time that rows carry at the start of the run, in a time zone.

    Raises:
        ShopError: when the database cannot be written to, or another shop writes to it.
    """
    if rate <= 0:
        raise ShopError(f"The rate must be above 0 changes a second, not {rate}")
    run = _Run(progress or (lambda _: None), stop or threading.Event())
    try:
        with psycopg.connect(dsn, autocommit=True) as main, psycopg.connect(dsn, autocommit=True) as side:
            _claim(main)
            planner = ShopPlanner(read_state(main), seed, clock(), rate)
            writer = ShopWriter(main, side)
            run.prepare(main, side, planner, history_days, orders_a_day)
            run.write(writer, planner, rate, minutes, max_changes)
            return run.report(writer)
    except psycopg.Error as error:
        raise ShopError(f"The shop stopped: {error}".strip()) from error


def _claim(connection: psycopg.Connection) -> None:
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK]).fetchone()
    if row != (True,):
        raise ShopError("Another shop is writing to this database; stop it, or wait until it has finished")


class _Run:
    """One run of the shop: the order of its phases, and its pace."""

    def __init__(self, progress: Callable[[ShopReport], None], stop: threading.Event) -> None:
        self._progress = progress
        self._stop = stop
        self._history_rows = 0
        self._cpu_start = time.process_time()
        self._start = time.monotonic()

    def report(self, writer: ShopWriter | None = None) -> ShopReport:
        return ShopReport(
            changes=dict(writer.changes) if writer else {},
            transactions=writer.transactions if writer else 0,
            rolled_back=writer.rolled_back if writer else 0,
            history_rows=self._history_rows,
            seconds=time.monotonic() - self._start,
            cpu_seconds=time.process_time() - self._cpu_start,
        )

    def prepare(
        self,
        main: psycopg.Connection,
        side: psycopg.Connection,
        planner: ShopPlanner,
        history_days: int,
        orders_a_day: int,
    ) -> None:
        """Opens an empty shop and fills in its past."""
        if planner.moment.state.is_empty:
            opening = ShopWriter(main, side)
            opening.write(list(planner.opening(history_days)))
            self._history_rows += opening.changes.total()
        for rows in fill_history(main, planner.moment, history_days, orders_a_day):
            self._history_rows += rows
            self._progress(self.report())

    def write(
        self, writer: ShopWriter, planner: ShopPlanner, rate: float, minutes: float | None, max_changes: int | None
    ) -> None:
        """Plans and writes in ticks; shop time follows the wall clock as long as the machine keeps up."""
        self._start, self._cpu_start = time.monotonic(), time.process_time()
        seconds = float("inf") if minutes is None else minutes * 60
        limit = float("inf") if max_changes is None else max_changes
        told = 0.0
        while not self._stop.is_set():
            elapsed = time.monotonic() - self._start
            target = min(min(elapsed, seconds) * rate, limit)
            batch: list[Step] = []
            enough = planner.rows + MAX_ROWS_PER_BATCH
            while planner.rows < min(target, enough):
                batch.append(planner.next())
            writer.write(batch)
            if elapsed - told >= PROGRESS_SECONDS:
                told = elapsed
                self._progress(self.report(writer))
            if planner.rows >= limit or elapsed >= seconds:
                break
            if planner.rows >= target:
                self._stop.wait(TICK_SECONDS)
        writer.write(planner.finish())
