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
