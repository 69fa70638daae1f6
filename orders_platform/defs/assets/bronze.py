"""`bronze_<table>`: every change of a day, typed, exactly once."""

from collections.abc import Iterator
from datetime import date

import dagster as dg

from orders_platform.contracts import Contract
from orders_platform.defs.assets.columns import BRONZE, contract_columns, platform_columns, schema_of
from orders_platform.defs.automation.drift_alerts import tell_of_drift
from orders_platform.defs.checks.per_day import DayResult, Event, daily_check, each_day
from orders_platform.defs.partitions import DAYS
from orders_platform.defs.resources.platform import Platform

LEDGER_CHECK = "holds_exactly_the_ledger"
DEAD_LETTERS_CHECK = "few_dead_letters"


def bronze_asset(contract: Contract) -> dg.AssetsDefinition:
    """The asset of one table."""
    name = f"bronze_{contract.table}"

    @dg.multi_asset(
        name=name,
        specs=[
            dg.AssetSpec(
                name,
                deps=[f"staging_{contract.table}"],
                group_name="bronze",
                kinds={"iceberg"},
                owners=[contract.owner],
                description=f"Every change of `{contract.table}`, typed by its contract, with its place in the order of"
                " changes. Records that cannot be decoded are rows with their reason and raw bytes.",
                metadata={
                    "dagster/table_name": contract.bronze_table,
                    **schema_of([*contract_columns(contract, masked=False), *platform_columns(BRONZE)]),
                },
                partitions_def=DAYS,
            )
        ],
        check_specs=[
            daily_check(name, LEDGER_CHECK, "The day's rows cover the offsets of the ledger: each once, none missing."),
            daily_check(
                name,
                DEAD_LETTERS_CHECK,
                f"Records that could not be decoded warn; more than {contract.dead_letter_count} of a day, and more"
                f" than {contract.dead_letter_share:.2%} of its records, stop what follows.",
            ),
        ],
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=name,
    )
    def load(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> Iterator[Event]:
        from orders_platform.ingest.bronze import load_day
        from orders_platform.ingest.dead_letter_limit import check_dead_letters
        from orders_platform.ingest.ledger_check import check_bronze

        def do(day: date) -> DayResult:
            result = load_day(platform.settings, platform.catalog, contract, day, platform.staging_place)
            outcome = check_bronze(platform.settings, platform.catalog, contract, day, result.ranges)
            dead_letters = check_dead_letters(platform.settings, platform.catalog, contract, day)
            if result.drift_is_new:
                tell_of_drift(contract, str(result.drift))
            return DayResult(
                {
                    "rows": result.rows,
                    "dagster/partition_row_count": dead_letters.metadata["rows"],
                    "tombstones": result.tombstones,
                    "skipped": result.skipped,
                    "dead_letters": result.dead,
                    "late": result.late,
                    "schema_drift": str(result.drift),
                    "offsets": sum(each.offsets for each in result.ranges),
                    "bytes": result.bytes,
                    "snapshot_id": str(result.snapshot_id or ""),
                },
                {
                    LEDGER_CHECK: outcome,
                    DEAD_LETTERS_CHECK: dead_letters,
                },
            )

        yield from each_day(context, name, do)

    return load
