"""Which runs are asked for when tables are behind."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from orders_platform.defs.automation.behind import Behind
from orders_platform.defs.automation.ingest_plan import UnreadDay, plan_ingest
from orders_platform.defs.automation.kafka_lag import ingest_request, lag_observations, reason_to_run
from orders_platform.defs.automation.run_guard import Attempts
from orders_platform.defs.partitions import contiguous
from orders_platform.ingest.offsets import OffsetRange
from orders_platform.settings import Settings

TODAY = date(2026, 5, 20)
NONE = Attempts()
NOW = datetime(2026, 5, 20, 12, tzinfo=UTC)


def unread(table: str, day: date, *ranges: tuple[int, int, int], age_seconds: float = 60) -> UnreadDay:
    found = tuple(OffsetRange(*each) for each in ranges)
    return UnreadDay(table, day, found, sum(r.offsets for r in found), NOW - timedelta(seconds=age_seconds))


@pytest.mark.parametrize(
    ("days", "groups"),
    [
        ([], []),
        ([5], [(5, 5)]),
        ([5, 6, 7], [(5, 7)]),
        ([9, 5, 6], [(5, 6), (9, 9)]),
        ([1, 3, 5], [(1, 1), (3, 3), (5, 5)]),
    ],
)
def test_a_group_of_days_has_no_hole(days: list[int], groups: list[tuple[int, int]]) -> None:
    expected = [(date(2026, 5, first), date(2026, 5, last)) for first, last in groups]
    assert contiguous(date(2026, 5, day) for day in days) == expected


def test_one_run_carries_all_tables_that_are_behind_with_their_offset_ranges() -> None:
    waiting = [unread("orders", TODAY, (0, 10, 20), (1, 5, 6)), unread("customers", TODAY, (2, 0, 3))]
    (run,) = plan_ingest(waiting, (), TODAY, max_records=1000)
    assert run.assets == [
        "staging_customers", "bronze_customers", "silver_customers", "staging_orders", "bronze_orders", "silver_orders",
    ]  # fmt: skip
    assert run.config == {
        "ops": {
            "staging_orders": {"config": {"ranges": {"0": [10, 20], "1": [5, 6]}}},
            "staging_customers": {"config": {"ranges": {"2": [0, 3]}}},
        }
    }


def test_yesterdays_tail_and_today_are_one_contiguous_run_and_a_day_long_ago_is_another() -> None:
    yesterday, old = TODAY - timedelta(days=1), TODAY - timedelta(days=90)
    waiting = [unread("orders", day, (0, n, n + 5)) for n, day in ((0, old), (50, yesterday), (55, TODAY))]
    runs = plan_ingest(waiting, (), TODAY, max_records=1000)
    assert [(run.first_day, run.last_day) for run in runs] == [(old, old), (yesterday, TODAY)]
    assert runs[1].ranges == {"orders": (OffsetRange(0, 50, 60),)}


def test_a_run_reads_no_more_than_its_share_and_leaves_later_days_to_the_next() -> None:
    tomorrow = TODAY + timedelta(days=1)
    waiting = [
        unread("orders", TODAY, (0, 0, 600), (1, 0, 400)),
        unread("orders", tomorrow, (0, 600, 700)),
        unread("products", TODAY, (0, 0, 10)),
    ]
    (run,) = plan_ingest(waiting, (), TODAY, max_records=200)
    assert (run.first_day, run.last_day) == (TODAY, TODAY)
    assert run.ranges["orders"] == (OffsetRange(0, 0, 60), OffsetRange(1, 0, 40))
    assert run.ranges["products"] == (OffsetRange(0, 0, 10),)


def test_a_table_whose_merge_was_interrupted_is_merged_without_reading_kafka() -> None:
    (run,) = plan_ingest([], ("orders",), TODAY, max_records=100)
    assert run.assets == ["silver_orders"]
    assert run.config == {"ops": {}}
    (run,) = plan_ingest([unread("products", TODAY, (0, 0, 1))], ("orders", "products"), TODAY, max_records=100)
    assert run.assets == ["staging_products", "bronze_products", "silver_products", "silver_orders"]


def test_a_repeated_tick_makes_the_same_run_key_and_a_moved_end_or_a_failure_another() -> None:
    waiting = [unread("orders", TODAY, (0, 10, 20))]
    (run,), (same,) = (plan_ingest(waiting, (), TODAY, 100) for _ in range(2))
    (moved,) = plan_ingest([unread("orders", TODAY, (0, 10, 21))], (), TODAY, 100)
    keys = {
        ingest_request(each, "why", attempts).run_key
        for each, attempts in ((run, NONE), (same, NONE), (moved, NONE), (run, Attempts(1, 0.0, "a run")))
    }
    assert len(keys) == 3


def test_a_range_of_days_is_requested_as_a_range_and_a_day_as_a_partition() -> None:
    (day,) = plan_ingest([unread("orders", TODAY, (0, 0, 1))], (), TODAY, 100)
    assert ingest_request(day, "why", NONE).partition_key == "2026-05-20"
    (both,) = plan_ingest(
        [unread("orders", TODAY - timedelta(days=n), (0, 1 - n, 2 - n)) for n in (0, 1)], (), TODAY, 100
    )
    request = ingest_request(both, "why", NONE)
    assert request.partition_key is None
    assert request.tags["dagster/asset_partition_range_start"] == "2026-05-19"
    assert request.tags["dagster/asset_partition_range_end"] == "2026-05-20"
    assert request.tags["orders-platform/reason"] == "why"


@pytest.mark.parametrize(
    ("records", "age_seconds", "merge_only", "reason"),
    [
        (0, 0, (), None),
        (10, 1, (), None),
        (10, 7, (), "oldest of 10 unread records is 7 s old"),
        (6000, 1, (), "6000 unread records, threshold 5000"),
        (0, 0, ("orders",), "silver is behind bronze: orders"),
    ],
)
def test_a_run_is_due_when_many_records_wait_or_one_waits_long(
    settings: Settings, records: int, age_seconds: float, merge_only: tuple[str, ...], reason: str | None
) -> None:
    waiting = (unread("orders", TODAY, (0, 0, records), age_seconds=age_seconds),) if records else ()
    found = reason_to_run(Behind(waiting, merge_only), settings, NOW)
    assert found is None if reason is None else reason in (found or "")


def test_lag_is_observed_as_numbers_on_the_topics() -> None:
    behind = Behind((unread("orders", TODAY, (0, 0, 30), age_seconds=8),), ())
    (observation,) = lag_observations(behind, NOW)
    assert observation.asset_key == dg.AssetKey("kafka_orders")
    assert observation.metadata["lag_records"].value == 30
    assert observation.metadata["lag_seconds"].value == 8
