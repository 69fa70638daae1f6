"""The shop's own tables: external assets, where each change begins, and what silver is compared with."""

import dagster as dg

from orders_platform.contracts import Contract


def postgres_asset(contract: Contract) -> dg.AssetSpec:
    """`postgres_<table>`: a table that the shop writes."""
    return dg.AssetSpec(
        f"postgres_{contract.table}",
        group_name="shop",
        kinds={"postgres"},
        owners=[contract.owner],
        description=f"`{contract.schema}.{contract.table}` in the shop's PostgreSQL, which Debezium follows through the"
        f" write-ahead log. {contract.description}",
        metadata={"contract_version": contract.version},
    )
