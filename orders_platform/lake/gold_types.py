"""Iceberg's types of the columns that a dbt model returns from DuckDB."""

from __future__ import annotations

import re

from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
)

from orders_platform.errors import PlatformError

_PLAIN: dict[str, IcebergType] = {
    "BOOLEAN": BooleanType(),
    "INTEGER": IntegerType(),
    "BIGINT": LongType(),
    "FLOAT": FloatType(),
    "DOUBLE": DoubleType(),
    "DATE": DateType(),
    "VARCHAR": StringType(),
    "TIMESTAMP": TimestampType(),
    "TIMESTAMP WITH TIME ZONE": TimestamptzType(),
}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")


class ModelTypeError(PlatformError):
    """A model returns a column of a type that both engines do not write alike."""


def column_type(duckdb_type: str) -> IcebergType:
    """Iceberg's type of a DuckDB type name, such as `DECIMAL(14,2)`.

    Raises:
        ModelTypeError: for a type that Iceberg lacks, such as HUGEINT, which DuckDB's sum of a bigint is.
    """
    if duckdb_type in _PLAIN:
        return _PLAIN[duckdb_type]
    if match := _DECIMAL.fullmatch(duckdb_type):
        return DecimalType(int(match[1]), int(match[2]))
    raise ModelTypeError(
        f"a model returns {duckdb_type}; cast the column to one of {', '.join(sorted(_PLAIN))} or DECIMAL(p,s)"
    )
