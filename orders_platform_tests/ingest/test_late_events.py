"""An event that arrives days after its change: counted where the asset shows it, and in its order date in gold."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import dagster as dg
import pytest
from pyiceberg.catalog import Catalog

from orders_platform.defs.location import build_location
from orders_platform.defs.resources.platform import Platform
from orders_platform.lake.gold import plan
from orders_platform.lake.gold_run import build_gold
from orders_platform.settings import Settings
from orders_platform_tests.ingest.events import change, moment, produce
from orders_platform_tests.lake.models_in_process import run_models
from orders_platform_tests.lake.shop_in_silver import gold_daily_revenue

FIRST, SECOND, LATER = date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 9)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def late_rows(settings: Settings, instance: dg.DagsterInstance, day: date) -> object:
    """Carries a day of orders to silver by a run, and reads what `bronze_orders` shows for it."""
    keys = [dg.AssetKey(f"{layer}_orders") for layer in ("staging", "bronze", "silver")]
    job = build_location(Platform(settings)).resolve_job_def("kafka_to_silver")
    done = job.execute_in_process(QUIET, instance, partition_key=day.isoformat(), asset_selection=keys)
    (shown,) = done.asset_materializations_for_node("bronze_orders")
    return shown.metadata["late"].value


def revenue(catalog: Catalog) -> dict[date, object]:
    return {day: figures["revenue"] for (day, *_), figures in gold_daily_revenue(catalog).items()}


def test_an_event_that_arrives_days_late_is_counted_and_its_order_date_is_built_again(
    shop_topic: Settings, topic: str, catalog: Catalog, instance: dg.DagsterInstance
) -> None:
    """Committed in the shop on the first day, all of it; the last change reaches Kafka eight days later."""
    second = {"created_at": f"{SECOND}T10:00:00Z"}
    produce(shop_topic, topic, [change(1, 10, at=moment(FIRST)), change(2, 20, at=moment(FIRST), **second)])
    assert late_rows(shop_topic, instance, FIRST) == 0
    build_gold(shop_topic, catalog, run_dbt=run_models)
    assert revenue(catalog) == {FIRST: Decimal("12.50"), SECOND: Decimal("12.50")}
    produce(shop_topic, topic, [change(1, 30, "u", at=moment(LATER), status="paid", total="20.00")])
    assert late_rows(shop_topic, instance, LATER) == 1
    assert plan(shop_topic, catalog).stale_dates == (FIRST,), "its order's date, not the day on which it arrived"
    build_gold(shop_topic, catalog, run_dbt=run_models)
    assert revenue(catalog) == {FIRST: Decimal("20.00"), SECOND: Decimal("12.50")}
    assert plan(shop_topic, catalog).stale_dates == ()
