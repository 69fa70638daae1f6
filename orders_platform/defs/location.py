"""The code location: every asset, check, job and sensor of one installation, put together from the contracts."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from orders_platform.defs.assets.bronze import bronze_asset
from orders_platform.defs.assets.clickhouse import clickhouse_asset
from orders_platform.defs.assets.dbt_manifest import read_models
from orders_platform.defs.assets.gold import gold_assets
from orders_platform.defs.assets.kafka import kafka_asset
from orders_platform.defs.assets.postgres import postgres_asset
from orders_platform.defs.assets.silver import silver_asset
from orders_platform.defs.assets.staging import staging_asset
from orders_platform.defs.automation.daily_expectations import daily_expectations
from orders_platform.defs.automation.failure_alerts import failed_runs
from orders_platform.defs.automation.freshness import freshness_every_five_minutes
from orders_platform.defs.automation.hourly_reconciliation import hourly_reconciliation
from orders_platform.defs.automation.kafka_lag import kafka_lag
from orders_platform.defs.automation.stale_dates import stale_order_dates
from orders_platform.defs.checks.expectations import expectation_checks
from orders_platform.defs.checks.freshness import freshness_checks
from orders_platform.defs.checks.reconciliation import reconciliation_check
from orders_platform.defs.jobs import INGEST, ORDER_DATES, check_jobs
from orders_platform.defs.resources.platform import Platform
from orders_platform.lake.gold_models import MANIFEST


def build_location(platform: Platform, manifest: Path = MANIFEST) -> dg.Definitions:
    """The definitions; reads contracts and dbt's manifest, opens no connection.

    Raises:
        ManifestError: dbt's manifest is missing.
    """
    contracts = platform.contracts
    models = read_models(manifest)
    return dg.Definitions(
        assets=[
            *(postgres_asset(contract) for contract in contracts),
            *(kafka_asset(contract, platform.settings) for contract in contracts),
            *(staging_asset(contract) for contract in contracts),
            *(bronze_asset(contract) for contract in contracts),
            *(silver_asset(contract) for contract in contracts),
            gold_assets(models),
            clickhouse_asset(contracts[0].owner, platform.settings),
        ],
        asset_checks=[
            *map(reconciliation_check, contracts),
            freshness_checks(contracts),
            expectation_checks(contracts),
        ],
        jobs=[INGEST, ORDER_DATES, *check_jobs(contracts)],
        sensors=[kafka_lag, stale_order_dates, failed_runs],
        schedules=[hourly_reconciliation, freshness_every_five_minutes, daily_expectations],
        resources={"platform": platform, **({"s3": platform.s3} if platform.s3 else {})},
        # An interpreter a step would cost more than the steps of a micro-batch.
        executor=dg.in_process_executor,
    )
