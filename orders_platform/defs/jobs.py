"""The jobs that automation and `sync` start; people materialize assets directly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from orders_platform.contracts import Contract
from orders_platform.defs.checks.expectations import expectations_key
from orders_platform.defs.checks.freshness import freshness_key
from orders_platform.defs.checks.reconciliation import reconciliation_key

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

INGEST = dg.define_asset_job(
    "kafka_to_silver",
    selection=dg.AssetSelection.groups("ingest", "bronze", "silver"),
    description="What is unread in Kafka, through staging and bronze to silver.",
)
ORDER_DATES = dg.define_asset_job(
    "gold_to_clickhouse",
    selection=dg.AssetSelection.groups("gold", "serving"),
    description="Stale order dates, through gold to ClickHouse.",
)
RECONCILIATION, FRESHNESS, EXPECTATIONS = "reconciliation", "freshness", "contract_expectations"


def check_jobs(contracts: Sequence[Contract]) -> list[UnresolvedAssetJobDefinition]:
    """The jobs that only look, over all tables."""
    return [
        dg.define_asset_job(
            RECONCILIATION,
            selection=dg.AssetSelection.checks(*map(reconciliation_key, contracts)),
            description="A slice of each of the shop's tables beside silver's.",
        ),
        dg.define_asset_job(
            FRESHNESS,
            selection=dg.AssetSelection.checks(*map(freshness_key, contracts)),
            description="How old silver's data are.",
        ),
        dg.define_asset_job(
            EXPECTATIONS,
            selection=dg.AssetSelection.checks(*map(expectations_key, contracts)),
            description="What the contracts promise of silver's rows.",
        ),
    ]
