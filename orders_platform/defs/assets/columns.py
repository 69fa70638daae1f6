"""Table schemas as the UI shows them, from the contracts alone: no table is opened for it."""

from collections.abc import Iterable, Mapping

import dagster as dg

from orders_platform.contracts import Contract

POSITION = {
    "_epoch": ("int", "0 until an operator accepts a PostgreSQL that went back in time."),
    "_commit_pos": ("long", "Position of the last commit before this transaction: first key of the order of changes."),
    "_lsn": ("long", "Position of the change in PostgreSQL's log: second key of the order of changes."),
    "_tx_id": ("long", "PostgreSQL's transaction."),
    "_source_ts": ("timestamptz", "When the change was committed in PostgreSQL."),
}
KAFKA = {
    "_kafka_partition": ("int", "Partition of the record."),
    "_kafka_offset": ("long", "Offset of the record."),
    "_kafka_ts": ("timestamptz", "When the broker appended the record."),
    "_ingest_day": ("date", "Day of `_kafka_ts` in UTC: the partition."),
}
BRONZE = {
    "_op": ("string", "c, u, d, r or t; null in a row that could not be decoded."),
    **POSITION,
    "_snapshot": ("string", "Debezium's mark of a snapshot read."),
    "_topic_id": ("string", "Kafka's id of the topic."),
    **KAFKA,
    "_unavailable": ("list<string>", "Columns whose unchanged value PostgreSQL did not send."),
    "_old_key": ("string", "Key before a change of the primary key, as JSON."),
    "_error": ("struct", "Why the record could not be decoded: stage, class, message, contract version."),
    "_raw": ("struct", "Key, value and headers of such a record, as they came."),
    "_discarded": ("struct", "Who decided that such a record is of no use, when and why."),
}
SILVER = {
    "_deleted": ("boolean", "The row was deleted in the shop."),
    "_op": ("string", "The last change: c, u, d, r or t."),
    **POSITION,
    **KAFKA,
    "_toast": ("list<struct>", "Columns whose value is older than the row, and how old."),
    "_seq": ("long", "Sequence number of the table's commit that last changed the row."),
}
STAGED = {
    "key": ("binary", "Key of the record, as it came."),
    "value": ("binary", "Value of the record, as it came; null for a tombstone."),
    "headers": ("list<struct>", "Headers of the record."),
    "timestamp": ("timestamp", "When the broker appended the record."),
    "offset": ("long", "Offset of the record."),
}


def schema_of(columns: Iterable[dg.TableColumn]) -> Mapping[str, dg.TableSchema]:
    """The metadata entry that the UI reads a table's schema from."""
    return {"dagster/column_schema": dg.TableSchema(columns=list(columns))}


def platform_columns(columns: Mapping[str, tuple[str, str]]) -> list[dg.TableColumn]:
    """Columns that every table of a layer has."""
    return [dg.TableColumn(name, type=kind, description=text) for name, (kind, text) in columns.items()]


def contract_columns(contract: Contract, *, masked: bool) -> list[dg.TableColumn]:
    """The source table's columns; `masked` as they are from silver on."""
    return [
        dg.TableColumn(
            column.name,
            type=column.masked_type if masked else column.type,
            description=column.description + (f" Masked: {column.masking}." if masked and column.masking else ""),
            constraints=dg.TableColumnConstraints(nullable=column.name not in contract.key, unique=False),
        )
        for column in contract.columns
    ]
