"""`equal_in_silver`: each of the shop's tables beside silver's, a slice every hour, all of it within a day.

The checks belong to the shop's tables, not to silver's: Dagster runs an asset's checks whenever it is materialized, and
this one waits for loads, in whose own run it would wait for itself.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from orders_platform.contracts import Contract
from orders_platform.defs.resources.passing_errors import retried
from orders_platform.defs.resources.platform import Platform

if TYPE_CHECKING:
    from orders_platform.quality.rounds import Round

CHECK = "equal_in_silver"
EVALUATED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


def reconciliation_key(contract: Contract) -> dg.AssetCheckKey:
    """The check of one table."""
    return dg.AssetCheckKey(dg.AssetKey(f"postgres_{contract.table}"), CHECK)


def reconciliation_check(contract: Contract) -> dg.AssetChecksDefinition:
    """The check of one table; how far its round has come stands in its last result.

    That result is a hint: where it is lost, a new round begins.
    """

    @dg.asset_check(
        asset=f"postgres_{contract.table}",
        name=CHECK,
        description=f"The next slice of the table, read in one snapshot, is row for row in {contract.silver_table}."
        " A slice that differed is compared again until it is equal. A day of hourly looks covers every row.",
    )
    def equal_in_silver(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.AssetCheckResult:
        from orders_platform.quality.rounds import look

        with retried(context):
            before = last_round(context.instance, contract)
            found = look(platform.settings, platform.catalog, contract, before, datetime.now(UTC))
        if not found.passed:
            context.log.error(found.description)
        return dg.AssetCheckResult(
            passed=found.passed,
            severity=dg.AssetCheckSeverity.ERROR if found.is_certain else dg.AssetCheckSeverity.WARN,
            description=found.description,
            metadata={**found.metadata, "round": dg.JsonMetadataValue(found.round.to_json())},
        )

    return equal_in_silver


def last_round(instance: dg.DagsterInstance, contract: Contract) -> "Round | None":
    """The table's round as its last look left it; none where a release wrote it that this one does not understand."""
    from orders_platform.quality.rounds import Round

    records = instance.event_log_storage.get_asset_check_execution_history(
        reconciliation_key(contract), limit=1, status=EVALUATED
    )
    evaluation = records[0].evaluation if records else None
    if evaluation is None or not isinstance(document := evaluation.metadata["round"].value, dict):
        return None
    try:
        return Round.from_json(document)
    except (KeyError, TypeError, ValueError):
        return None
