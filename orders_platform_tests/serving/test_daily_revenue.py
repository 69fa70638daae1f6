"""The dashboard table: whole days, compared before and after, whatever loaders did to each other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from decimal import Decimal

import pytest
from clickhouse_connect.driver.client import Client
from pyiceberg.catalog import Catalog

from orders_platform.fault_points import VARIABLE, FaultPoint
from orders_platform.serving import daily_revenue
from orders_platform.serving.client import open_client
from orders_platform.serving.daily_revenue import (
    ATTEMPTS,
    LoadResult,
    OvertakenError,
    check_day,
    ensure_table,
    load_day,
    stale_days,
)
from orders_platform.serving.gold_day import DayOutOfRangeError
from orders_platform.settings import Settings
from orders_platform_tests.serving.dashboard import shown, tables
from orders_platform_tests.serving.gold_days import GoldDays, row

MONDAY, TUESDAY = date(2026, 3, 2), date(2026, 3, 3)


def test_a_day_is_shown_as_gold_holds_it(dashboards: Settings, catalog: Catalog, gold: GoldDays) -> None:
    gold.put(MONDAY, row("EU", "10.10", 3), row("US", "0.20"))
    assert load_day(dashboards, catalog, MONDAY, "run-1") == LoadResult(
        day=MONDAY,
        rows=2,
        sums={
            "orders": Decimal(4),
            "cancelled_orders": Decimal(0),
            "items": Decimal(8),
            "revenue": Decimal("10.30"),
            "refunded": Decimal("0.02"),
        },
        gold_seq=1,
        swapped=True,
        dropped=False,
    )
    assert shown(dashboards) == [("EU", 3, Decimal("10.10")), ("US", 1, Decimal("0.20"))]
    assert check_day(dashboards, catalog, MONDAY).passed
    assert tables(dashboards) == {"daily_revenue"}


def test_a_day_that_never_had_orders_can_be_loaded(dashboards: Settings, catalog: Catalog) -> None:
    assert load_day(dashboards, catalog, MONDAY, "run-1").rows == 0
    assert check_day(dashboards, catalog, MONDAY).passed


def at_the_swap(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Lets something happen between the comparison and the swap of the next load, once."""
    swap, done = daily_revenue._swap, []

    def act_first(client: Client, own: str, day: object) -> None:
        if not done:
            done.append(True)
            act()
        swap(client, own, day)  # type: ignore[arg-type]

    monkeypatch.setattr(daily_revenue, "_swap", act_first)


def test_a_loader_that_thaws_after_its_successor_is_healed(
    dashboards: Settings, catalog: Catalog, gold: GoldDays, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen just before its swap, it shows the old day again; the rows' sequence says so, and it is loaded anew."""
    gold.put(MONDAY, row("EU", "1.00"))

    def successor() -> None:
        gold.put(MONDAY, row("EU", "2.00"))
        load_day(dashboards, catalog, MONDAY, "successor")

    at_the_swap(monkeypatch, successor)
    load_day(dashboards, catalog, MONDAY, "frozen")
    while days := stale_days(dashboards, catalog):
        for day in days:
            load_day(dashboards, catalog, day, "next")
    assert shown(dashboards) == [("EU", 1, Decimal("2.00"))]


def test_a_day_that_gold_changes_while_it_is_loaded_is_loaded_again(
    dashboards: Settings, catalog: Catalog, gold: GoldDays, monkeypatch: pytest.MonkeyPatch
) -> None:
    gold.put(MONDAY, row("EU", "1.00"))
    load, changes = daily_revenue._load, iter(["2.00"])

    def load_slowly(client: Client, own: str, day: object) -> None:
        load(client, own, day)  # type: ignore[arg-type]
        if (revenue := next(changes, None)) is not None:
            gold.put(MONDAY, row("EU", revenue))

    monkeypatch.setattr(daily_revenue, "_load", load_slowly)
    assert load_day(dashboards, catalog, MONDAY, "run-1").sums["revenue"] == Decimal("2.00")
    assert shown(dashboards) == [("EU", 1, Decimal("2.00"))]


def test_a_day_that_never_stands_still_is_given_up_and_stays_stale(
    dashboards: Settings, catalog: Catalog, gold: GoldDays, monkeypatch: pytest.MonkeyPatch
) -> None:
    gold.put(MONDAY, row("EU", "1.00"))
    load, loads = daily_revenue._load, []

    def load_too_slowly(client: Client, own: str, day: object) -> None:
        load(client, own, day)  # type: ignore[arg-type]
        loads.append(own)
        gold.put(MONDAY, row("EU", f"{len(loads)}.50"))

    monkeypatch.setattr(daily_revenue, "_load", load_too_slowly)
    with pytest.raises(OvertakenError, match=f"{ATTEMPTS} times"):
        load_day(dashboards, catalog, MONDAY, "run-1")
    assert stale_days(dashboards, catalog) == (MONDAY,)


def test_gold_rolled_back_makes_the_day_stale_and_the_old_rows_come_back(
    dashboards: Settings, catalog: Catalog, gold: GoldDays
) -> None:
    gold.put(MONDAY, row("EU", "1.00"))
    load_day(dashboards, catalog, MONDAY, "run-1")
    table = catalog.load_table("gold.daily_revenue")
    before = table.current_snapshot()
    assert before is not None
    gold.put(MONDAY, row("EU", "2.00"))
    load_day(dashboards, catalog, MONDAY, "run-2")
    table.refresh().manage_snapshots().set_current_snapshot(snapshot_id=before.snapshot_id).commit()
    assert stale_days(dashboards, catalog) == (MONDAY,)
    load_day(dashboards, catalog, MONDAY, "run-3")
    assert shown(dashboards) == [("EU", 1, Decimal("1.00"))]


def test_only_the_days_that_gold_wrote_are_stale(dashboards: Settings, catalog: Catalog, gold: GoldDays) -> None:
    gold.put(MONDAY, row("EU", "1.00"))
    gold.put(TUESDAY, row("EU", "1.00"))
    assert stale_days(dashboards, catalog) == (MONDAY, TUESDAY)
    for day in (MONDAY, TUESDAY):
        load_day(dashboards, catalog, day, "run-1")
    gold.put(TUESDAY, row("EU", "3.00"))
    assert stale_days(dashboards, catalog) == (TUESDAY,)


def test_nothing_is_stale_before_gold_was_built(dashboards: Settings, catalog: Catalog) -> None:
    assert stale_days(dashboards, catalog) == ()


def test_a_day_that_clickhouse_cannot_hold_is_an_error_that_names_it(
    dashboards: Settings, catalog: Catalog, gold: GoldDays
) -> None:
    gold.put(date(1850, 1, 1), row("EU", "1.00"))
    with pytest.raises(DayOutOfRangeError, match="1850-01-01"):
        load_day(dashboards, catalog, date(1850, 1, 1), "run-1")
    assert stale_days(dashboards, catalog) == ()


def test_load_tables_of_killed_runs_go_by_age(dashboards: Settings, catalog: Catalog) -> None:
    old, young = "daily_revenue_load_20260301T120000_dead_20260302", "daily_revenue_load_29990101T000000_x_20260302"
    with open_client(dashboards) as client:
        ensure_table(client)
        for name in (old, young):
            client.command(f"CREATE TABLE {name} AS daily_revenue")
    load_day(dashboards, catalog, MONDAY, "run-1")
    assert tables(dashboards) == {"daily_revenue", young}


LOAD_AND_DIE = """
from datetime import date
from orders_platform.lake.catalog import open_catalog
from orders_platform.serving.daily_revenue import load_day
from orders_platform.settings import load
settings = load()
load_day(settings, open_catalog(settings), date(2026, 3, 2), "killed")
"""


@pytest.mark.parametrize(
    ("point", "emptied"),
    [
        (FaultPoint.CLICKHOUSE_BEFORE_LOAD, False),
        (FaultPoint.CLICKHOUSE_BEFORE_SWAP, False),
        (FaultPoint.CLICKHOUSE_AFTER_SWAP, False),
        (FaultPoint.CLICKHOUSE_AFTER_SWAP, True),
        (FaultPoint.CLICKHOUSE_AFTER_DROP, True),
    ],
)
def test_a_loader_killed_at_any_durable_step_is_healed_by_the_next(
    dashboards: Settings, catalog: Catalog, gold: GoldDays, point: FaultPoint, emptied: bool
) -> None:
    gold.put(MONDAY, row("EU", "1.00"))
    load_day(dashboards, catalog, MONDAY, "before")
    after = [] if emptied else [row("EU", "2.00"), row("US", "3.00")]
    gold.put(MONDAY, *after)
    environment = {
        **os.environ,
        VARIABLE: point,
        "ORDERS_PLATFORM_HOME": str(dashboards.home),
        "ORDERS_PLATFORM_CLICKHOUSE_URL": dashboards.clickhouse,
    }
    died = subprocess.run([sys.executable, "-c", LOAD_AND_DIE], env=environment, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    for day in stale_days(dashboards, catalog):
        load_day(dashboards, catalog, day, "next")
    assert [line[2] for line in shown(dashboards)] == [each["revenue"] for each in after]
    assert check_day(dashboards, catalog, MONDAY).passed


LOAD_IN_PROCESS = """
from datetime import date
from orders_platform.lake.catalog import open_catalog
from orders_platform.serving.daily_revenue import check_day, load_day, stale_days
from orders_platform.settings import load
settings = load()
catalog = open_catalog(settings)
print(load_day(settings, catalog, date(2026, 3, 2), "run-1").rows, stale_days(settings, catalog))
print(check_day(settings, catalog, date(2026, 3, 2)).description)
"""


def test_the_engine_inside_a_process_serves_as_well(dashboards: Settings, gold: GoldDays) -> None:
    gold.put(MONDAY, row("EU", "1.00"))
    environment = {
        **os.environ,
        "ORDERS_PLATFORM_HOME": str(dashboards.home),
        "ORDERS_PLATFORM_CLICKHOUSE_URL": f"chdb://{dashboards.home}/chdb",
    }
    done = subprocess.run(
        [sys.executable, "-c", LOAD_IN_PROCESS], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["1 ()", "1 rows, as in gold"], done.stderr
