"""`meets_contract`: what the contracts promise, validated by Great Expectations on silver's current rows once a day.

Loading keeps these promises record by record, and what breaks one is a dead letter; this is the second look at what the
tables hold, by somebody else's code. It belongs to the shop's tables for the reason given in `reconciliation.py`.
"""

from collections.abc import Iterator, Sequence

import dagster as dg

from orders_platform.contracts import Contract
from orders_platform.defs.resources.passing_errors import retried
from orders_platform.defs.resources.platform import Platform
from orders_platform.lake.outcome import CheckOutcome

CHECK = "meets_contract"


def expectations_key(contract: Contract) -> dg.AssetCheckKey:
    """The check of one table."""
    return dg.AssetCheckKey(dg.AssetKey(f"postgres_{contract.table}"), CHECK)


def expectation_checks(contracts: Sequence[Contract]) -> dg.AssetChecksDefinition:
    """The checks of all tables, made in one step: the library takes longer to import than to look."""

    @dg.multi_asset_check(
        name="expectations",
        specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset=f"postgres_{contract.table}",
                description=f"Current rows of {contract.silver_table} have their required columns, accepted values and"
                f" unique keys, as contract {contract.version} says.",
            )
            for contract in contracts
        ],
    )
    def meets_contract(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.AssetCheckResult]:
        for contract in platform.contracts:
            with retried(context):
                outcome = _outcome(platform, contract)
            yield dg.AssetCheckResult(
                asset_key=expectations_key(contract).asset_key,
                check_name=CHECK,
                passed=outcome.passed,
                severity=dg.AssetCheckSeverity.WARN if outcome.warns_only else dg.AssetCheckSeverity.ERROR,
                description=outcome.description,
                metadata=dict(outcome.metadata),
            )

    return meets_contract


def _outcome(platform: Platform, contract: Contract) -> CheckOutcome:
    """One table's, whatever there is of it: a table without rows breaks nothing and keeps no other from its result."""
    from orders_platform.quality.errors import NotLoadedError
    from orders_platform.quality.expectations import check_expectations

    try:
        return check_expectations(platform.settings, platform.catalog, contract)
    except NotLoadedError as error:
        return CheckOutcome(True, str(error))
    except ImportError as error:
        remedy = f"{error}: install orders-platform[quality], or switch the schedule daily_expectations off"
        return CheckOutcome(False, f"nothing was validated. {remedy}", warns_only=True)
