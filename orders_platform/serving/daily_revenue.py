"""Puts gold's daily revenue before the dashboards, one order date at a time and each as a whole.

A day is loaded into a table of the run's own, compared with gold, and swapped in; readers see the day as it was or as
it is. Its rows carry the sequence of the gold commit they come from: a day whose sequence differs from gold's is stale,
so that whatever a loader that was late, killed or overtaken has left behind is loaded again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from clickhouse_connect.driver.client import Client
from pyiceberg.catalog import Catalog

from orders_platform.errors import PlatformError
from orders_platform.fault_points import FaultPoint, reach
from orders_platform.lake.outcome import CheckOutcome
from orders_platform.serving.client import open_client
from orders_platform.serving.day_figures import COLUMNS, SEQUENCE, DayFigures
from orders_platform.serving.gold_day import FIRST_DAY, LAST_DAY, GoldDay, day_sequences, read_day
from orders_platform.settings import Settings

TABLE = "daily_revenue"
_LOAD = f"{TABLE}_load_"
_DDL = Path(__file__).with_name("daily_revenue.sql")
_STAMP = "%Y%m%dT%H%M%S"
ABANDONED_AFTER = timedelta(hours=6)
ATTEMPTS = 3


class LoadError(PlatformError):
    """What was loaded differs from gold; the message says whether readers can see it."""


class OvertakenError(PlatformError):
    """Gold kept changing the day while it was loaded; nothing was swapped in, and the day is still stale."""


@dataclass(frozen=True)
class LoadResult:
    """What readers see of a day now. `swapped`: it has rows; `dropped`: it has none any more."""

    day: date
    rows: int
    sums: Mapping[str, Decimal]
    gold_seq: int
    swapped: bool
    dropped: bool


def ensure_table(client: Client) -> None:
    """Makes the table if it is missing."""
    client.command(_DDL.read_text(encoding="utf-8"))


def load_day(settings: Settings, catalog: Catalog, day: date, run_id: str) -> LoadResult:
    """Replaces one order date by what gold's main holds of it. Doing it again changes nothing.

    `run_id` names the load table; two runs never share one.

    Raises:
        LoadError: what was loaded, or is shown, differs from gold.
        OvertakenError: gold changed the day again each time (`ATTEMPTS`) before it could be shown.
        DayOutOfRangeError: ClickHouse cannot hold the day.
    """
    with open_client(settings) as client:
        ensure_table(client)
        _drop_abandoned(client)
        own = _load_table(run_id, day)
        for _ in range(ATTEMPTS):
            gold = read_day(catalog, day)
            try:
                reach(FaultPoint.CLICKHOUSE_BEFORE_LOAD)
                _load(client, own, gold)
                if wrong := gold.figures.differences(DayFigures.of_table(client, own, day, whole=True)):
                    raise LoadError(f"{day}: what was loaded into {own} differs from gold, no reader sees it: {wrong}")
                reach(FaultPoint.CLICKHOUSE_BEFORE_SWAP)
                if _overtaken(catalog, gold):
                    continue
                _swap(client, own, gold)
                reach(FaultPoint.CLICKHOUSE_AFTER_SWAP)
            finally:
                client.command(f"DROP TABLE IF EXISTS {own} SYNC")
            reach(FaultPoint.CLICKHOUSE_AFTER_DROP)
            wrong = gold.figures.differences(DayFigures.of_table(client, TABLE, day, whole=False))
            if not wrong:
                return _result(gold)
            if not _overtaken(catalog, gold):
                raise LoadError(f"{day}: what readers see in {TABLE} differs from gold: {wrong}; load the day again")
    raise OvertakenError(
        f"{day}: gold rebuilt the day {ATTEMPTS} times while it was being loaded; readers see what they saw before, "
        "and the next run loads it again"
    )


@dataclass(frozen=True)
class DaySequences:
    """Gold commits to a day, by sequence: the last one (None: gold has no row of it), and those that readers see."""

    gold: int | None
    shown: frozenset[int]


def stale_days(settings: Settings, catalog: Catalog) -> tuple[date, ...]:
    """The days whose rows are not those of gold's last commit to them, oldest first; emptied days among them."""
    return tuple(sequences_of_stale_days(settings, catalog))


def sequences_of_stale_days(settings: Settings, catalog: Catalog) -> Mapping[date, DaySequences]:
    """The stale days, oldest first, each with what it is stale against.

    A day that ClickHouse cannot hold is not asked for again and again; reconciliation with gold names it.
    """
    gold = {day: sequence for day, sequence in day_sequences(catalog).items() if FIRST_DAY <= day <= LAST_DAY}
    with open_client(settings) as client:
        ensure_table(client)
        rows = client.query(
            f"SELECT order_date, groupUniqArray({SEQUENCE}) FROM {TABLE} GROUP BY order_date"
        ).result_rows
    shown = {day: frozenset(sequences) for day, sequences in rows}
    days = {day: DaySequences(gold.get(day), shown.get(day, frozenset())) for day in sorted(gold.keys() | shown.keys())}
    return {day: each for day, each in days.items() if each.shown != frozenset({each.gold})}


def check_day(settings: Settings, catalog: Catalog, day: date) -> CheckOutcome:
    """Whether readers see of a day what gold holds of it now."""
    expected = read_day(catalog, day).figures
    with open_client(settings) as client:
        ensure_table(client)
        shown = DayFigures.of_table(client, TABLE, day, whole=False)
    differences = expected.differences(shown)
    return CheckOutcome(
        passed=not differences,
        description="; ".join(differences) or f"{expected.rows} rows, as in gold",
        metadata={"rows": shown.rows, **{name: float(value) for name, value in shown.sums.items()}},
    )


def _load(client: Client, own: str, gold: GoldDay) -> None:
    client.command(f"CREATE TABLE IF NOT EXISTS {own} AS {TABLE}")
    client.command(f"TRUNCATE TABLE {own}")
    if gold.rows:
        values = [[{**row, SEQUENCE: gold.sequence}[name] for name in COLUMNS] for row in gold.rows]
        client.insert(own, values, column_names=COLUMNS)


def _swap(client: Client, own: str, gold: GoldDay) -> None:
    """Replaces the day's partition. ClickHouse refuses that from an empty table (code 36): such a day is dropped."""
    partition = f"{gold.day:%Y%m%d}"
    if gold.rows:
        client.command(f"ALTER TABLE {TABLE} REPLACE PARTITION {partition} FROM {own}")
    else:
        client.command(f"ALTER TABLE {TABLE} DROP PARTITION {partition}")


def _overtaken(catalog: Catalog, gold: GoldDay) -> bool:
    """Whether gold has written the day again since it was read."""
    return day_sequences(catalog).get(gold.day, 0) != gold.sequence


def _result(gold: GoldDay) -> LoadResult:
    shown = bool(gold.rows)
    return LoadResult(gold.day, len(gold.rows), gold.figures.sums, gold.sequence, swapped=shown, dropped=not shown)


def _load_table(run_id: str, day: date) -> str:
    """A name of the load's own, which says when it was made (UTC): `daily_revenue_load_<time>_<run>_<day>`."""
    return f"{_LOAD}{datetime.now(UTC):{_STAMP}}_{re.sub('[^0-9a-zA-Z]', '_', run_id)}_{day:%Y%m%d}"


def _drop_abandoned(client: Client) -> None:
    """Removes the load tables of runs that were killed."""
    found = client.query(
        f"SELECT name FROM system.tables WHERE startsWith(name, '{_LOAD}') AND database = currentDatabase()"
    ).result_rows
    # Names begin with the time, and so they sort by it.
    oldest = f"{_LOAD}{datetime.now(UTC) - ABANDONED_AFTER:{_STAMP}}"
    for name in sorted(name for (name,) in found if name < oldest):
        client.command(f"DROP TABLE IF EXISTS {name} SYNC")
