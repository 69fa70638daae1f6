"""Debezium's change events as JSON: what is read of the envelope, and what its schema says of the columns.

Source: Debezium 3 documentation, "Debezium connector for PostgreSQL", data change events and data types; Kafka
Connect's `JsonConverter` for `schemas.enable=true` (`{"schema": …, "payload": …}`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from orders_platform.contracts import Contract
from orders_platform.ingest.column_decoding import Encoding, Form

_BY_SCHEMA_NAME = {
    "io.debezium.time.Date": Form.DAYS,
    "org.apache.kafka.connect.data.Date": Form.DAYS,
    "io.debezium.time.Timestamp": Form.MILLISECONDS,
    "org.apache.kafka.connect.data.Timestamp": Form.MILLISECONDS,
    "io.debezium.time.MicroTimestamp": Form.MICROSECONDS,
    "io.debezium.time.NanoTimestamp": Form.NANOSECONDS,
}
_BY_CONNECT_TYPE = {
    "boolean": "boolean",
    "int16": "smallint",
    "int32": "integer",
    "int64": "bigint",
    "float": "real",
    "double": "double precision",
}
"""Of Connect's types without a name, those that are one type of PostgreSQL each."""
_DECIMAL = "org.apache.kafka.connect.data.Decimal"


def envelope_structure(contract: Contract) -> str:
    """DuckDB's `json_transform` structure of an event; the row in `after` is taken apart by `after_structure`."""
    return json.dumps(
        {
            "op": "VARCHAR",
            "before": row_structure(name for column in contract.key_columns for name in column.source_names),
            "after": "JSON",
            "source": dict.fromkeys(
                ("schema", "table", "lsn", "sequence", "txId", "ts_us", "ts_ms", "snapshot"), "VARCHAR"
            ),
            "ts_ms": "VARCHAR",
            "status": "VARCHAR",
            "id": "VARCHAR",
            "payload": "JSON",
        }
    )


def after_structure(contract: Contract) -> str:
    """DuckDB's structure of a row: columns stay JSON, to be decoded one by one."""
    return json.dumps(row_structure(name for column in contract.columns for name in column.source_names))


def row_structure(names: Iterable[str]) -> dict[str, str]:
    """Columns by name, each as JSON."""
    return dict.fromkeys(names, "JSON")


def _parts(schema: str | None) -> list[dict[str, Any]]:
    """The fields of an envelope, as its schema has them; none when there is no schema or it is unusable."""
    try:
        document = json.loads(schema or "null")
    except ValueError:
        return []
    return _fields(document) if isinstance(document, dict) else []


def encodings(schema: str | None) -> dict[str, Encoding]:
    """What the schema of an envelope says of each column of `after`; empty when there is none or it is unusable."""
    rows = [field for field in _parts(schema) if field.get("field") in ("after", "before")]
    return {str(column["field"]): _encoding(column) for row in rows for column in _fields(row) if "field" in column}


def column_types(schema: str | None) -> dict[str, str]:
    """PostgreSQL's type of the columns of `after`, as far as the schema of an envelope tells it without doubt."""
    after = next((field for field in _parts(schema) if field.get("field") == "after"), {})
    types = {str(column["field"]): _postgres_type(column) for column in _fields(after) if "field" in column}
    return {name: kind for name, kind in types.items() if kind}


def _postgres_type(column: Mapping[str, Any]) -> str | None:
    if column.get("name") == _DECIMAL:
        found = column.get("parameters", {})
        precision, scale = int(found.get("connect.decimal.precision") or 0), int(found.get("scale") or 0)
        return f"numeric({precision},{scale})" if 0 <= scale <= precision and precision else None
    return None if column.get("name") else _BY_CONNECT_TYPE.get(str(column.get("type")))


def _fields(node: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [field for field in node.get("fields") or () if isinstance(field, dict)]


def _encoding(column: Mapping[str, Any]) -> Encoding:
    name = column.get("name")
    if name == _DECIMAL:
        return Encoding(Form.UNSCALED, int(column.get("parameters", {}).get("scale", 0)))
    return Encoding(_BY_SCHEMA_NAME.get(str(name), Form.PLAIN))
