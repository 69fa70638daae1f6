"""The SELECTs from bronze to silver and versions: written once, in Spark SQL, and transpiled for DuckDB.

sqlglot turns Spark's `cast` into `TRY_CAST`, which would make bad values null without a word, so there is none here:
contracts are enforced when bronze is written, and its columns have their types already.
"""

from __future__ import annotations

from functools import lru_cache

import sqlglot

from orders_platform.contracts import Contract
from orders_platform.lake.masking import mask_sql

SOURCE = "changes"
"""The name under which the SELECTs read rows of bronze."""

_SILVER_PLATFORM = (
    "_op", "_epoch", "_commit_pos", "_lsn", "_kafka_offset", "_kafka_partition", "_tx_id", "_source_ts", "_kafka_ts",
    "_ingest_day",
)  # fmt: skip
_VERSION_PLATFORM = (
    "_op", "_epoch", "_commit_pos", "_lsn", "_kafka_offset", "_source_ts", "_tx_id", "_ingest_day", "_unavailable",
    "_old_key",
)  # fmt: skip


def silver_select(contract: Contract, masking_key: bytes) -> str:
    """Spark SQL: rows of bronze as rows of silver, but for `_toast` and `_seq`. A deleted row keeps its key alone."""
    return _select(contract, masking_key, ("_op = 'd' AS _deleted", *_SILVER_PLATFORM))


def versions_select(contract: Contract, masking_key: bytes) -> str:
    """Spark SQL: rows of bronze as rows of the versions table. A deleted row keeps its key alone."""
    return _select(contract, masking_key, ("_op = 'd' AS _deleted", *_VERSION_PLATFORM))


@lru_cache
def to_duckdb(spark_sql: str) -> str:
    """The same statement for DuckDB."""
    (statement,) = sqlglot.transpile(spark_sql, read="spark", write="duckdb")
    return statement


def _select(contract: Contract, masking_key: bytes, platform: tuple[str, ...]) -> str:
    columns = []
    for column in contract.columns:
        name = f"`{column.name}`"
        if column.name in contract.key:
            columns.append(name)
        else:
            columns.append(f"CASE WHEN _op <> 'd' THEN {mask_sql(column, masking_key, name)} END AS {name}")
    return f"SELECT {', '.join((*columns, *platform))} FROM {SOURCE}"
