"""`clickhouse_daily_revenue`: gold's daily revenue where the dashboards read it."""

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg

from orders_platform.defs.assets.columns import schema_of
from orders_platform.defs.assets.order_dates import OrderDatesConfig
from orders_platform.defs.checks.per_day import DayResult, Event, daily_check, each_day
from orders_platform.defs.partitions import DAYS
from orders_platform.defs.resources.platform import Platform
from orders_platform.settings import Settings

NAME = "clickhouse_daily_revenue"
EQUAL_CHECK = "equals_gold"
DDL = Path(__file__).parents[2] / "serving" / "daily_revenue.sql"
_COLUMN = re.compile(r"^    (?P<name>\w+) +(?P<type>\S.*?) COMMENT '(?P<text>[^']*)'", re.MULTILINE)


def clickhouse_asset(owner: str, settings: Settings) -> dg.AssetsDefinition:
    """The asset: each order date is loaded beside the live one, compared with gold and swapped in."""

    @dg.multi_asset(
        name=NAME,
        specs=[
            dg.AssetSpec(
                NAME,
                deps=["gold_daily_revenue"],
                group_name="serving",
                kinds={"clickhouse"},
                owners=[owner],
                description="Revenue per order date, region and currency for dashboards. Readers see the old day or the"
                " new day, never something between.",
                metadata={
                    "dagster/table_name": f"{_database(settings)}.daily_revenue",
                    **schema_of(
                        dg.TableColumn(each["name"], type=each["type"], description=each["text"])
                        for each in _COLUMN.finditer(DDL.read_text(encoding="utf-8"))
                    ),
                },
                partitions_def=DAYS,
            )
        ],
        check_specs=[daily_check(NAME, EQUAL_CHECK, "The live day has gold's rows, counts and exact sums.")],
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=NAME,
    )
    def load(
        context: dg.AssetExecutionContext, config: OrderDatesConfig, platform: dg.ResourceParam[Platform]
    ) -> Iterator[Event]:
        from orders_platform.serving.daily_revenue import check_day, load_day

        def do(day: date) -> DayResult:
            result = load_day(platform.settings, platform.catalog, day, context.run.run_id)
            outcome = check_day(platform.settings, platform.catalog, day)
            return DayResult({"rows": result.rows, "dagster/partition_row_count": result.rows}, {EQUAL_CHECK: outcome})

        yield from each_day(context, NAME, do, config.dates_of(context))

    return load


def _database(settings: Settings) -> str:
    """The database that the address names; the engine inside the process has the default one."""
    address = urlsplit(settings.clickhouse)
    named = address.path.strip("/") if address.scheme != "chdb" else ""
    return named or "default"
