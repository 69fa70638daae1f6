"""The topics that Debezium fills: external assets between the shop's tables and ours."""

import dagster as dg

from orders_platform.contracts import Contract
from orders_platform.settings import Settings


def kafka_asset(contract: Contract, settings: Settings) -> dg.AssetSpec:
    """`kafka_<table>`: a topic of somebody else's making."""
    topic = contract.topic(settings.topic_prefix)
    return dg.AssetSpec(
        f"kafka_{contract.table}",
        deps=[f"postgres_{contract.table}"],
        group_name="ingest",
        kinds={"kafka", "debezium"},
        owners=[contract.owner],
        description=f"Changes of `{contract.source}` in the shop's PostgreSQL, as Debezium writes them"
        f" to the topic `{topic}`: one record a change, a tombstone after each delete. {contract.description}",
        metadata={"topic": topic, "contract_version": contract.version},
    )
