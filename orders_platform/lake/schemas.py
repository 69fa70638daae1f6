"""The columns of bronze, silver and versions tables, made from a contract, and what their types are called elsewhere.

Types are named as in Iceberg's specification (`decimal(12, 2)`); DuckDB's and PyIceberg's names follow from that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pyiceberg.exceptions import ResolveError
from pyiceberg.schema import Schema, promote
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    PrimitiveType,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
)

from orders_platform.contracts import Contract

_PRIMITIVES: dict[str, tuple[PrimitiveType, str]] = {
    "boolean": (BooleanType(), "BOOLEAN"),
    "int": (IntegerType(), "INTEGER"),
    "long": (LongType(), "BIGINT"),
    "float": (FloatType(), "FLOAT"),
    "double": (DoubleType(), "DOUBLE"),
    "date": (DateType(), "DATE"),
    "timestamp": (TimestampType(), "TIMESTAMP"),
    "timestamptz": (TimestamptzType(), "TIMESTAMPTZ"),
    "string": (StringType(), "VARCHAR"),
    "binary": (BinaryType(), "BLOB"),
}
_DECIMAL = re.compile(r"decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)")

ORDER_COLUMNS = ("_epoch", "_commit_pos", "_lsn", "_kafka_offset")
"""Changes of a key are ordered by these, ascending."""

TOAST = "_toast"
"""Silver's list of the values that are older than their row, unknown, or carried over from another key."""


class _Ids:
    """Hands out field ids in the order of creation; Iceberg reassigns them when the table is created."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last += 1
        return self._last


def iceberg_type(name: str) -> PrimitiveType:
    """PyIceberg's type of a canonical name. Raises `ValueError` for a name that is none."""
    if name in _PRIMITIVES:
        return _PRIMITIVES[name][0]
    if match := _DECIMAL.fullmatch(name):
        return DecimalType(int(match[1]), int(match[2]))
    raise ValueError(f"{name!r} is not one of {', '.join(_PRIMITIVES)}, decimal(p, s)")


def duckdb_type(kind: str | IcebergType) -> str:
    """DuckDB's name of a canonical type or of any PyIceberg type, nested ones included."""
    match kind:
        case StructType():
            return f"STRUCT({', '.join(f'{quoted(f.name)} {duckdb_type(f.field_type)}' for f in kind.fields)})"
        case ListType():
            return f"{duckdb_type(kind.element_type)}[]"
        case MapType():
            return f"MAP({duckdb_type(kind.key_type)}, {duckdb_type(kind.value_type)})"
        case _:
            name = str(kind)
            if name in _PRIMITIVES:
                return _PRIMITIVES[name][1]
            precise = iceberg_type(name)
            return str(precise).upper().replace(" ", "")


def holds(present: IcebergType, wanted: IcebergType) -> bool:
    """Whether a column of the present type holds the wanted one: the same, or what Iceberg promotes that to."""
    if not isinstance(present, PrimitiveType) or not isinstance(wanted, PrimitiveType):
        return _shape(str(present)) == _shape(str(wanted))
    if present == wanted:
        return True
    # PyIceberg's promotions allow more than Iceberg's: text for bytes, and another scale.
    if isinstance(present, DecimalType) and isinstance(wanted, DecimalType) and present.scale != wanted.scale:
        return False
    if {type(present), type(wanted)} == {StringType, BinaryType}:
        return False
    try:
        promote(wanted, present)
    except ResolveError:
        return False
    return True


def _shape(text: str) -> str:
    """A nested type without its field ids."""
    return "".join(part.split(": ", 1)[-1] for part in text.replace("<", ", ").split(", "))


def quoted(name: str) -> str:
    """A column's name as a SQL identifier of DuckDB."""
    return '"' + name.replace('"', '""') + '"'


def bronze_schema(contract: Contract) -> Schema:
    """Every change as it arrived: the contract's columns, where and when it happened, and why it could not be read.

    `_unavailable` names the columns whose value did not travel (Debezium's placeholder); `_error` and `_raw` are null
    on rows that could be decoded, `_discarded` on all but the dead letters that somebody has discarded.
    """
    ids = _Ids()
    error = {"stage": "string", "error_class": "string", "message": "string", "contract_version": "string"}
    raw = {"key": "binary", "value": "binary", "headers": "string"}
    discarded = {"reason": "string", "by": "string", "at": "timestamptz"}
    return Schema(
        *(_field(ids, column.name, column.type, column.description) for column in contract.columns),
        _field(ids, "_op", "string", "c, u, d, r (snapshot read) or t (truncate)"),
        _field(ids, "_epoch", "int", "0 until an operator accepts that LSNs start again"),
        _field(ids, "_commit_pos", "long", "LSN of the last commit before this change's transaction in the stream"),
        _field(ids, "_lsn", "long", "LSN of the change"),
        _field(ids, "_tx_id", "long", "PostgreSQL's transaction id"),
        _field(ids, "_source_ts", "timestamptz", "when the shop's transaction was committed"),
        _field(ids, "_snapshot", "string", "Debezium's source.snapshot"),
        _field(ids, "_topic_id", "string", "Kafka's id of the topic"),
        _field(ids, "_kafka_partition", "int", "Kafka partition"),
        _field(ids, "_kafka_offset", "long", "Kafka offset"),
        _field(ids, "_kafka_ts", "timestamptz", "when the broker appended the record"),
        _field(ids, "_ingest_day", "date", "UTC day of _kafka_ts"),
        _list(ids, "_unavailable", "string", "columns that arrived as the placeholder of an unchanged TOAST value"),
        _field(ids, "_old_key", "string", "JSON of the key that the row had before"),
        _struct(ids, "_error", error, "why the record could not be decoded"),
        _struct(ids, "_raw", raw, "the record as it arrived, where it could not be decoded"),
        _struct(ids, "_discarded", discarded, "who decided that such a record is of no use, when and why"),
    )


def silver_schema(contract: Contract) -> Schema:
    """One row a key: its last change. Current rows are those that are not `_deleted`."""
    ids = _Ids()
    columns = [_field(ids, column.name, column.masked_type, column.description) for column in contract.columns]
    platform = [
        _field(ids, "_deleted", "boolean", "not a current row: deleted, truncated, or a value of it never arrived"),
        _field(ids, "_op", "string", "operation of the last change; t when a TRUNCATE removed the row"),
        _field(ids, "_epoch", "int", "order of changes, first part"),
        _field(ids, "_commit_pos", "long", "order of changes, second part"),
        _field(ids, "_lsn", "long", "order of changes, third part"),
        _field(ids, "_kafka_offset", "long", "order of changes, fourth part"),
        _field(ids, "_kafka_partition", "int", "Kafka partition of the last change"),
        _field(ids, "_tx_id", "long", "PostgreSQL's transaction id"),
        _field(ids, "_source_ts", "timestamptz", "when the shop's transaction was committed"),
        _field(ids, "_kafka_ts", "timestamptz", "when the broker appended the record"),
        _field(ids, "_ingest_day", "date", "UTC day of _kafka_ts"),
    ]
    return Schema(
        *columns,
        *platform,
        _toast(ids),
        _field(ids, "_seq", "long", "sequence number of the commit that wrote the row's present content"),
    )


def versions_schema(contract: Contract) -> Schema:
    """Every change of a table with history, once: a set by (key, `_epoch`, `_lsn`). A TRUNCATE has no key."""
    ids = _Ids()
    return Schema(
        *(_field(ids, column.name, column.masked_type, column.description) for column in contract.columns),
        _field(ids, "_op", "string", "c, u, d, r or t"),
        _field(ids, "_deleted", "boolean", "the change removed the row"),
        _field(ids, "_epoch", "int", "order of changes, first part"),
        _field(ids, "_commit_pos", "long", "order of changes, second part"),
        _field(ids, "_lsn", "long", "order of changes, third part"),
        _field(ids, "_kafka_offset", "long", "order of changes, fourth part"),
        _field(ids, "_source_ts", "timestamptz", "when the shop's transaction was committed"),
        _field(ids, "_tx_id", "long", "PostgreSQL's transaction id"),
        _field(ids, "_ingest_day", "date", "UTC day on which the broker appended the record"),
        _list(
            ids, "_unavailable", "string", "columns whose value did not travel with the change: the one before holds"
        ),
        _field(ids, "_old_key", "string", "JSON of the key that the row had before"),
    )


def beyond_sql(present: Schema, wanted: Schema) -> str:
    """For a SELECT of the wanted columns: the further ones of a table, null, each after a comma."""
    own = set(names(wanted))
    further = (field for field in present.fields if field.name not in own)
    return "".join(f", NULL::{duckdb_type(field.field_type)} AS {quoted(field.name)}" for field in further)


def names(schema: Schema) -> tuple[str, ...]:
    """The columns' names in order."""
    return tuple(field.name for field in schema.fields)


def column_list(columns: Iterable[str], alias: str = "") -> str:
    """Columns for a SELECT, each quoted."""
    start = f"{alias}." if alias else ""
    return ", ".join(start + quoted(name) for name in columns)


def _field(ids: _Ids, name: str, kind: str, doc: str = "") -> NestedField:
    return NestedField(ids.next(), name, iceberg_type(kind), required=False, doc=doc or None)


def _list(ids: _Ids, name: str, element: str, doc: str) -> NestedField:
    own = ids.next()
    return NestedField(own, name, ListType(ids.next(), iceberg_type(element), element_required=False), doc=doc)


def _struct(ids: _Ids, name: str, parts: dict[str, str], doc: str) -> NestedField:
    own = ids.next()
    return NestedField(own, name, StructType(*(_field(ids, part, kind) for part, kind in parts.items())), doc=doc)


def _toast(ids: _Ids) -> NestedField:
    """Positions of values that are not the row's own.

    `known` is false while no real value has arrived; `old_key` is the JSON of the key under which it was written.
    """
    own, element = ids.next(), ids.next()
    parts = {"column": "string", "epoch": "int", "commit_pos": "long", "lsn": "long", "kafka_offset": "long"}
    fields = [_field(ids, part, kind) for part, kind in parts.items()]
    fields += [_field(ids, "known", "boolean"), _field(ids, "old_key", "string")]
    doc = "values that are older than the row: column and position of the change that wrote them"
    return NestedField(own, TOAST, ListType(element, StructType(*fields), element_required=False), doc=doc)
