"""The jobs that automation and `sync` start; people materialize assets directly."""

import dagster as dg

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
RECONCILIATION = dg.define_asset_job(
    "reconciliation",
    # The checks of assets that no run of ours makes: the shop's tables.
    selection=dg.AssetSelection.all_asset_checks()
    - dg.AssetSelection.groups("ingest", "bronze", "silver", "gold", "serving"),
    description="A slice of each of the shop's tables beside silver's.",
)
