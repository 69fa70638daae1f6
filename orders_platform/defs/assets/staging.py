"""`staging_<table>`: the topic's records of a day as Parquet files, raw."""

from collections.abc import Iterator, Mapping
from datetime import date

import dagster as dg
from pydantic import Field

from orders_platform.contracts import Contract
from orders_platform.defs.assets.columns import STAGED, platform_columns, schema_of
from orders_platform.defs.checks.per_day import DayResult, Event, each_day
from orders_platform.defs.partitions import DAYS
from orders_platform.defs.resources.platform import Platform


class StagingConfig(dg.Config):
    """Offsets to read, partition to (first, next): up to `next` and no further. Empty: all that is there."""

    ranges: dict[str, list[int]] = Field(default_factory=dict)

    def until(self) -> Mapping[int, int] | None:
        """The end of each partition, or None for the end of the log."""
        return {int(partition): end for partition, (_, end) in self.ranges.items()} or None


def staging_asset(contract: Contract) -> dg.AssetsDefinition:
    """The asset of one table."""
    name = f"staging_{contract.table}"

    @dg.multi_asset(
        name=name,
        specs=[
            dg.AssetSpec(
                name,
                deps=[f"kafka_{contract.table}"],
                group_name="ingest",
                kinds={"parquet"},
                owners=[contract.owner],
                description=f"Every record of the topic of `{contract.table}` as raw bytes, one file an offset range,"
                " kept so that bronze can be made again after Kafka has forgotten the records.",
                metadata=schema_of(platform_columns(STAGED)),
                partitions_def=DAYS,
            )
        ],
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=name,
    )
    def stage(
        context: dg.AssetExecutionContext, config: StagingConfig, platform: dg.ResourceParam[Platform]
    ) -> Iterator[Event]:
        from orders_platform.ingest.staging import stage_day

        def do(day: date) -> DayResult:
            result = stage_day(
                platform.settings, contract, day, config.until(), platform.staging_place, platform.catalog
            )
            ends = {f"next_offset_{each.partition}": each.next for each in result.ranges}
            return DayResult(
                {
                    "dagster/partition_row_count": result.records,
                    "rows": result.records,
                    "bytes": result.bytes,
                    "files": len(result.files),
                    "offsets": sum(each.offsets for each in result.ranges),
                    **ends,
                }
            )

        yield from each_day(context, name, do)

    return stage
