"""`fresh_in_silver`: how old silver's data are, by the shop's own clock, against what each contract allows.

Dagster's freshness policies look at the time of the last materialization, which an old day's backfill renews.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg

from orders_platform.contracts import Contract
from orders_platform.defs.automation.behind import find_behind
from orders_platform.defs.resources.passing_errors import may_pass
from orders_platform.defs.resources.platform import Platform

CHECK = "fresh_in_silver"


def freshness_key(contract: Contract) -> dg.AssetCheckKey:
    """The check of one table."""
    return dg.AssetCheckKey(dg.AssetKey(f"postgres_{contract.table}"), CHECK)


def freshness_checks(contracts: Sequence[Contract]) -> dg.AssetChecksDefinition:
    """The checks of all tables, made in one step: a table without news is as fresh as the newest one."""

    @dg.multi_asset_check(
        name="age_of_data",
        specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset=f"postgres_{contract.table}",
                description=f"What was committed in the shop is in {contract.silver_table} within"
                f" {contract.latency_minutes} minutes.",
            )
            for contract in contracts
        ],
    )
    def age_of_data(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.AssetCheckResult]:
        from orders_platform.quality.freshness import freshness

        ages = freshness(platform.catalog, datetime.now(UTC), _unread(context, platform), contracts=platform.contracts)
        for contract, found in zip(platform.contracts, ages, strict=True):
            outcome = found.outcome()
            yield dg.AssetCheckResult(
                asset_key=freshness_key(contract).asset_key,
                check_name=CHECK,
                passed=outcome.passed,
                description=outcome.description,
                metadata=dict(outcome.metadata),
            )

    return age_of_data


def _unread(context: dg.AssetCheckExecutionContext, platform: Platform) -> set[str]:
    """Tables with records that wait in Kafka, or that cannot be loaded; all where Kafka does not say."""
    try:
        behind = find_behind(platform)
        return {each.table for each in behind.unread if each.records} | set(behind.stopped)
    except Exception as error:
        if not may_pass(error):
            raise
        context.log.warning(f"Kafka does not say what waits, so each table is as old as its own data: {error}")
        return {contract.table for contract in platform.contracts}
