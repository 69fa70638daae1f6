"""ClickHouse: readers see whole days, and only those that are gold's."""

from __future__ import annotations

import re
import threading
from datetime import date
from decimal import Decimal

import pytest
from clickhouse_connect.driver.client import Client
from pyiceberg.catalog import Catalog

from orders_platform.lake.catalog import open_catalog
from orders_platform.serving import daily_revenue
from orders_platform.serving.client import open_client
from orders_platform.serving.daily_revenue import LoadError, check_day, load_day, stale_days
from orders_platform.settings import Settings
from orders_platform_tests.serving.dashboard import alter, shown, tables
from orders_platform_tests.serving.gold_days import GoldDays, row
from orders_platform_tests.waiting import PATIENCE_SECONDS

MONDAY, TUESDAY = date(2026, 3, 2), date(2026, 3, 3)


@pytest.fixture
def catalog(dashboards: Settings) -> Catalog:
    return open_catalog(dashboards)


def test_case_36_an_identical_load_is_not_taken_for_a_duplicate(
    dashboards: Settings, catalog: Catalog, gold: GoldDays
) -> None:
    """Each load has a table of its own, so ClickHouse's deduplication of equal blocks drops nothing."""
    gold.put(MONDAY, row("EU", "10.10"))
    for run in ("run-1", "run-1", "run-2"):
        load_day(dashboards, catalog, MONDAY, run)
        assert shown(dashboards) == [("EU", 1, Decimal("10.10"))]


def test_case_37_an_emptied_day_shows_no_row_and_the_others_stay(
    dashboards: Settings, catalog: Catalog, gold: GoldDays
) -> None:
    """A day without rows is dropped by name; REPLACE PARTITION from an empty table would keep yesterday's."""
    gold.put(MONDAY, row("EU", "10.10"))
    gold.put(TUESDAY, row("US", "5.00"))
    for day in (MONDAY, TUESDAY):
        load_day(dashboards, catalog, day, "run-1")
    gold.put(MONDAY)
    assert stale_days(dashboards, catalog) == (MONDAY,)
    result = load_day(dashboards, catalog, MONDAY, "run-2")
    assert (result.rows, result.swapped, result.dropped) == (0, False, True)
    assert shown(dashboards) == [("US", 1, Decimal("5.00"))]
    assert stale_days(dashboards, catalog) == ()


def test_case_38_a_reader_sees_the_old_day_or_the_new_day_and_nothing_between(
    dashboards: Settings, catalog: Catalog, gold: GoldDays
) -> None:
    """A reader that asks all the time finds only sums that some load wrote."""
    gold.put(MONDAY, row("EU", "1.00"), row("US", "1.00"))
    load_day(dashboards, catalog, MONDAY, "run-0")
    seen: set[Decimal] = set()
    began, done = threading.Event(), threading.Event()

    def watch() -> None:
        with open_client(dashboards) as client:
            last = False
            while not last:
                last = done.is_set()
                seen.add(client.query("SELECT sum(revenue) FROM daily_revenue").result_rows[0][0])
                began.set()

    reader = threading.Thread(target=watch)
    reader.start()
    try:
        assert began.wait(PATIENCE_SECONDS)
        for number in range(2, 8):
            gold.put(MONDAY, row("EU", f"{number}.00"), row("US", f"{number}.00"))
            load_day(dashboards, catalog, MONDAY, f"run-{number}")
    finally:
        done.set()
        reader.join()
    assert {Decimal(2), Decimal(14)} <= seen <= {Decimal(2 * number) for number in range(1, 8)}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("ALTER TABLE {t} UPDATE revenue = revenue + 0.01 WHERE region = 'EU'", "revenue 10.31 instead of 10.30"),
        ("ALTER TABLE {t} UPDATE orders = orders - 1 WHERE region = 'EU'", "orders 3 instead of 4"),
        ("ALTER TABLE {t} DELETE WHERE region = 'US'", "1 rows instead of 2"),
        ("INSERT INTO {t} SELECT * FROM {t} WHERE region = 'US'", "3 rows instead of 2"),
        ("ALTER TABLE {t} UPDATE _gold_seq = 99 WHERE 1", r"gold sequence \[99\] instead of \[1\]"),
    ],
)
def test_case_40_a_value_altered_in_the_live_day_is_seen(
    dashboards: Settings, catalog: Catalog, gold: GoldDays, change: str, complaint: str
) -> None:
    """Rows, exact sums and the gold commit of the live day are compared with gold's."""
    gold.put(MONDAY, row("EU", "10.10", 3), row("US", "0.20"))
    load_day(dashboards, catalog, MONDAY, "run-1")
    alter(dashboards, change.format(t="daily_revenue"))
    outcome = check_day(dashboards, catalog, MONDAY)
    assert not outcome.passed
    assert re.search(complaint, outcome.description)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("ALTER TABLE {t} UPDATE revenue = revenue + 0.01 WHERE region = 'EU'", "revenue 10.31 instead of 10.30"),
        ("ALTER TABLE {t} DELETE WHERE region = 'US'", "1 rows instead of 2"),
        ("INSERT INTO {t} SELECT * REPLACE (toDate32('2026-03-09') AS order_date) FROM {t} LIMIT 1", "of other days"),
    ],
)
def test_case_40_what_was_loaded_wrongly_is_never_shown(
    dashboards: Settings,
    catalog: Catalog,
    gold: GoldDays,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    complaint: str,
) -> None:
    """The comparison comes before the swap: readers keep the old day, and nothing is left behind."""
    gold.put(MONDAY, row("EU", "1.00"))
    load_day(dashboards, catalog, MONDAY, "run-1")
    gold.put(MONDAY, row("EU", "10.10", 3), row("US", "0.20"))
    load = daily_revenue._load

    def load_wrongly(client: Client, own: str, day: object) -> None:
        load(client, own, day)  # type: ignore[arg-type]
        client.command(change.format(t=own), settings={"mutations_sync": 2})

    monkeypatch.setattr(daily_revenue, "_load", load_wrongly)
    with pytest.raises(LoadError, match=complaint):
        load_day(dashboards, catalog, MONDAY, "run-2")
    assert shown(dashboards) == [("EU", 1, Decimal("1.00"))]
    assert tables(dashboards) == {"daily_revenue"}
