"""`silver_<table>`: the current state of every key, and for some tables all its versions."""

from collections.abc import Iterator
from datetime import UTC, datetime
from time import monotonic

import dagster as dg

from orders_platform.contracts import Contract
from orders_platform.defs.assets.columns import SILVER, contract_columns, platform_columns, schema_of
from orders_platform.defs.checks.per_day import DayResult, Event, daily_check, days_done
from orders_platform.defs.partitions import DAYS, run_days
from orders_platform.defs.resources.passing_errors import retried
from orders_platform.defs.resources.platform import Platform

STATE_CHECK = "keys_unique_and_equal_to_bronze"


def silver_asset(contract: Contract) -> dg.AssetsDefinition:
    """The asset of one table.

    A merge takes all that bronze has and silver has not, of whatever day: the order of changes, not the day, decides.
    What it changed is counted by ingest day. Gold reads the snapshot that passed the check, never a later one.
    """
    name = f"silver_{contract.table}"
    history = f" Its versions are in `{contract.versions_table}`." if contract.versions_table else ""

    @dg.multi_asset(
        name=name,
        specs=[
            dg.AssetSpec(
                name,
                deps=[f"bronze_{contract.table}"],
                group_name="silver",
                kinds={"iceberg", "duckdb"},
                owners=[contract.owner],
                description=f"{contract.description} The current state, the last writer wins; deleted rows stay as"
                f" `_deleted`; personal data is masked.{history}",
                metadata={
                    "dagster/table_name": contract.silver_table,
                    **schema_of([*contract_columns(contract, masked=True), *platform_columns(SILVER)]),
                },
                partitions_def=DAYS,
            )
        ],
        check_specs=[daily_check(name, STATE_CHECK, "Each key is there once, and its row is bronze's last change.")],
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=name,
    )
    def merge(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> Iterator[Event]:
        from orders_platform.ingest.silver_gate import refuse_unfit
        from orders_platform.lake.audit import check_silver, mark_audited
        from orders_platform.lake.silver import merge_silver

        started = monotonic()
        with retried(context):
            judged = refuse_unfit(platform.settings, platform.catalog, contract)
            result = merge_silver(platform.settings, platform.catalog, contract)
            outcome = check_silver(platform.settings, platform.catalog, contract)
            if outcome.passed and (checked := outcome.metadata.get("snapshot_id")):
                if outcome.metadata["bronze_snapshot_id"] != str(judged):
                    # Bronze grew between the two: gold reads what has passed both.
                    refuse_unfit(platform.settings, platform.catalog, contract)
                mark_audited(platform.catalog, contract, int(checked))
        of_run: dict[str, int | float | str] = {
            "dagster/row_count": result.rows_in_table,
            "rows_changed": result.rows_changed,
            "inserted": result.inserted,
            "updated": result.updated,
            "deleted": result.deleted,
            "files_rewritten": result.files_rewritten,
            "bytes_rewritten": result.bytes_rewritten,
            "held": result.held,
            "truncates_and_snapshots": result.removals,
            "seconds": round(monotonic() - started, 3),
            "snapshot_id": str(result.snapshot_id or ""),
            **_watermark(result.watermark),
        }
        days = {
            day: DayResult({"rows": result.rows_by_day.get(day, 0), **of_run}, {STATE_CHECK: outcome})
            for day in run_days(context)
        }
        yield from days_done(context, name, days)

    return merge


def _watermark(newest: datetime | None) -> dict[str, int | float | str]:
    """When the newest change was committed in the shop, and how long ago that is: freshness of data, not of runs."""
    if newest is None:
        return {}
    return {"watermark": newest.isoformat(), "latency_seconds": round((datetime.now(UTC) - newest).total_seconds(), 3)}
