"""Whole batches of Kafka records into bronze's columns, in DuckDB: no Python per record.

What cannot be decoded, or breaks its contract, keeps its place with the reason and its raw bytes. Tombstones,
heartbeats, transaction metadata and logical messages make no row and are counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa

from orders_platform.contracts import Column, Contract
from orders_platform.ingest.column_decoding import (
    Encoding,
    Form,
    JsonSql,
    column_sql,
    decimal_type,
    define_macros,
    quoted,
    unavailable_sql,
)
from orders_platform.ingest.drift import EventForm, forms
from orders_platform.ingest.envelope import (
    after_structure,
    column_types,
    encodings,
    envelope_structure,
    row_structure,
)
from orders_platform.ingest.promotion import digits_beyond_sql, wider_type, widest
from orders_platform.ingest.unscaled import DIGITS, register

OLD_KEY_HEADER = "__debezium.oldkey"

_FIELDS: list[pa.Field[Any]] = [
    pa.field("partition", pa.int32(), nullable=False),
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("timestamp", pa.timestamp("ms", "UTC"), nullable=False),
    pa.field("key", pa.binary()),
    pa.field("value", pa.binary()),
    # A JSON array of [name, base64 of the value], in order; null for none.
    pa.field("headers", pa.string()),
]
RECORDS = pa.schema(_FIELDS)
"""Records as they are staged and decoded."""


Epochs = Sequence[tuple[int, Mapping[int, int]]]
"""(epoch, first offset of it by partition; 0 where none is named), the highest epoch first; 0 where none holds."""


@dataclass(frozen=True)
class Decoded:
    """Counts of one batch, and a query for its rows with the columns of the bronze table in order.

    records = rows + dead + tombstones + skipped; `late` rows were committed in the shop before the ingest day.
    `positions_sql` is a FROM item of the good rows' places in the order
    of changes. Both read temporary tables of the connection, which the next batch replaces.
    """

    records: int
    rows: int
    dead: int
    tombstones: int
    skipped: int
    late: int
    sql: str
    positions_sql: str


class Decoder:
    """Decodes batches of one table's topic on one connection."""

    def __init__(self, con: duckdb.DuckDBPyConnection, contract: Contract) -> None:
        self._con, self._contract = con, contract
        self._scales: set[int] = set()
        self._schemas: list[str] = []
        self._allow_scales([0])
        define_macros(con)

    def decode(
        self,
        records: pa.Table,
        topic_id: str,
        ingest_day: date,
        epochs: Epochs = (),
        judged: Callable[[Sequence[EventForm]], Contract] | None = None,
    ) -> Decoded:
        """Decodes records (schema `RECORDS`) of one topic and day; `epochs` say which `_epoch` they have.

        `judged` is told the forms that the events have, and gives the contract by which to decode them.
        """
        con, contract = self._con, self._contract
        con.register("records", records)
        con.execute(
            f"""CREATE OR REPLACE TEMP TABLE envelopes AS
            SELECT partition, "offset", timestamp, key, headers,
                   TRY(json_transform(TRY(decode(value)), {quoted(envelope_structure(contract))})) AS e
            FROM records WHERE value IS NOT NULL"""
        )
        declared = self._read_schemas()
        if judged is not None:
            contract = judged([*forms(con, contract), *declared])
        self._fill("changes", contract)
        rows, dead, skipped, late = con.execute(
            f"""SELECT count(*) FILTER (_problem IS NULL AND NOT _skipped), count(*) FILTER (_problem IS NOT NULL),
                      count(*) FILTER (_skipped),
                      count(*) FILTER (_problem IS NULL AND source_ts < TIMESTAMPTZ '{ingest_day} 00:00:00+00')
               FROM changes"""
        ).fetchall()[0]
        epoch = epoch_sql(epochs)
        sql = _bronze_sql(contract, topic_id, ingest_day, epoch)
        tombstones = records["value"].null_count
        return Decoded(records.num_rows, rows, dead, tombstones, skipped, late, sql, _positions_sql(epoch))

    def wider_types(self, contract: Contract) -> dict[str, str]:
        """Columns of the last batch whose values prove that the shop has widened them, and a type that holds those.

        PostgreSQL lets no value into a column that its type does not hold. Where nothing else is wrong with a record, a
        number beyond the contract's type says that the type is another one by now. Types are Iceberg's names of what it
        promotes the contract's type to; a number that none of them holds proves nothing.
        """
        con = self._con
        beyond = "FROM changes WHERE _problem.error_class = 'ValueOutOfRange'"
        if not con.execute(f"SELECT 1 {beyond} LIMIT 1").fetchall():
            return {}
        suspects = f'(partition, "offset") IN (SELECT (partition, "offset") {beyond})'
        promoted = widest(contract)
        self._fill("promoted", promoted, suspects)
        columns = [(i, column) for i, column in enumerate(contract.columns) if column.type != promoted.columns[i].type]
        if not columns:
            return {}
        needed = ", ".join(f"max({digits_beyond_sql(column, f'v{i}')})" for i, column in columns)
        found = con.execute(f"SELECT {needed} FROM promoted WHERE _problem IS NULL AND NOT _skipped").fetchall()[0]
        return {
            column.name: wider_type(column, digits)
            for (_, column), digits in zip(columns, found, strict=True)
            if digits is not None
        }

    def _fill(self, target: str, contract: Contract, among: str = "true") -> None:
        """Makes the table `target` of the decoded envelopes."""
        con = self._con
        self._allow_scales(decimal[1] for column in contract.columns if (decimal := decimal_type(column)))
        plain = _changes_sql(contract, {}, f"e.payload IS NULL AND {among}")
        con.execute(f"CREATE OR REPLACE TEMP TABLE {target} AS {plain}")
        # Of events that carry their schema, each schema tells how they are encoded.
        for schema in self._schemas:
            known = encodings(schema)
            self._allow_scales(encoding.scale for encoding in known.values() if encoding.form is Form.UNSCALED)
            con.execute(
                f"""CREATE OR REPLACE TEMP TABLE unwrapped AS
                SELECT partition, "offset", timestamp, key, headers,
                       TRY(json_transform(e.payload, {quoted(envelope_structure(contract))})) AS e
                FROM envelopes JOIN (SELECT partition, "offset", value FROM records) USING (partition, "offset")
                WHERE e.payload IS NOT NULL AND {among}
                    AND json_extract(decode(value), '$.schema')::VARCHAR IS NOT DISTINCT FROM ?""",
                [schema],
            )
            con.execute(f"INSERT INTO {target} {_changes_sql(contract, known, 'true', 'unwrapped')}")

    def _read_schemas(self) -> list[EventForm]:
        """Keeps the different schemas that events carry; what they say of the columns' types, and from where on."""
        self._schemas = []
        con = self._con
        if not con.execute("SELECT 1 FROM envelopes WHERE e.payload IS NOT NULL LIMIT 1").fetchall():
            return []
        found = con.execute(
            """SELECT json_extract(decode(r.value), '$.schema')::VARCHAR, partition, min("offset")
            FROM records r JOIN envelopes USING (partition, "offset") WHERE e.payload IS NOT NULL
            GROUP BY ALL ORDER BY 2, 3"""
        ).fetchall()
        self._schemas = list(dict.fromkeys(schema for schema, *_ in found))
        return [
            EventForm("types", frozenset(types), partition, offset, types)
            for schema, partition, offset in found
            if (types := column_types(schema))
        ]

    def _allow_scales(self, scales: Iterable[int]) -> None:
        for scale in {each for each in scales if 0 <= each <= DIGITS} - self._scales:
            register(self._con, scale)
            self._scales.add(scale)


def _changes_sql(contract: Contract, known: Mapping[str, Encoding], where: str, source: str = "envelopes") -> str:
    """Decoded columns `v0…`, platform columns and `_problem` of the envelopes in `source`."""
    columns = list(enumerate(contract.columns))
    texts = [f"plain(j{i}) AS t{i}" for i, _ in columns]
    unavailable = {i: sql for i, column in columns if (sql := unavailable_sql(column, f"j{i}"))}
    json_columns = [f"{_json_sql(contract, column)}::VARCHAR AS j{i}" for i, column in columns]
    values = {i: column_sql(column, JsonSql(f"j{i}", f"t{i}"), known.get(column.source_name)) for i, column in columns}
    problems = {i: sql.problem for i, sql in values.items()}
    value_columns = [
        f"CASE WHEN NOT u{i} THEN {values[i].value} END AS v{i}" if i in unavailable else f"{values[i].value} AS v{i}"
        for i, _ in columns
    ]
    return f"""
    SELECT partition, "offset", timestamp, headers, op, commit_pos, lsn, tx_id, source_ts, snapshot,
           {", ".join(f"v{i}" for i, _ in columns)}, {_unavailable_list(contract, unavailable)} AS unavailable,
           old_key, _skipped,
           CASE WHEN NOT _skipped THEN {_problem_sql(contract, problems, unavailable)} END AS _problem
    FROM (SELECT *, {", ".join(value_columns)}
    FROM (SELECT *, {", ".join(texts)}{"".join(f", {sql} AS u{i}" for i, sql in unavailable.items())}
    FROM (SELECT *, {", ".join(json_columns)}
    FROM (SELECT *, {_POSITION}, {_SKIPPED} AS _skipped, {_old_key_sql(contract)} AS old_key,
                 CASE WHEN op = 'd' THEN {_key_sql(contract)} END AS k
    FROM (SELECT *, e.op AS op, e.source AS s, TRY(json_transform(e.after, {quoted(after_structure(contract))})) AS a
    FROM {source} WHERE {where})))))"""


_SECOND = "nullif(trim(split_part(s.sequence, ',', 2), '[]\" '), 'null')"
_FIRST = "nullif(trim(split_part(s.sequence, ',', 1), '[]\" '), 'null')"
_POSITION = f"""
    coalesce(TRY_CAST(s.lsn AS BIGINT), TRY_CAST({_SECOND} AS BIGINT)) AS lsn,
    coalesce(TRY_CAST({_FIRST} AS BIGINT), TRY_CAST(s.lsn AS BIGINT), TRY_CAST({_SECOND} AS BIGINT)) AS commit_pos,
    TRY_CAST(s."txId" AS BIGINT) AS tx_id,
    make_timestamptz(coalesce(TRY_CAST(s.ts_us AS BIGINT), TRY(TRY_CAST(s.ts_ms AS BIGINT) * 1000))) AS source_ts,
    nullif(s.snapshot, 'false') AS snapshot"""
_SKIPPED = """
    coalesce(op = 'm' OR op IS NULL AND e.status IN ('BEGIN', 'END') AND e.id IS NOT NULL
             OR op IS NULL AND e.ts_ms IS NOT NULL AND s IS NULL AND e.before IS NULL AND e.after IS NULL, false)"""


def _json_sql(contract: Contract, column: Column) -> str:
    """A column's JSON: of a deleted row there is nothing but the key."""
    names = [_name(name) for name in column.source_names]
    after = f"a.{names[0]}"
    if column.former_names:
        # The first of its names that the row has: a former one may be the name of another column by now.
        arms = (f"WHEN {_has(name)} THEN a.{_name(name)}" for name in column.source_names)
        after = f"CASE {' '.join(arms)} END"
    if column.name not in contract.key:
        return f"CASE WHEN op <> 'd' THEN {after} END"
    in_key = [f"{where}.{name}" for where in ("e.before", "k") for name in names]
    return f"CASE WHEN op = 'd' THEN coalesce({', '.join(in_key)}, {_member('k.payload', column)}) ELSE {after} END"


def _key_sql(contract: Contract) -> str:
    structure = json.dumps(
        {"payload": "JSON", **row_structure(name for column in contract.key_columns for name in column.source_names)}
    )
    return f"TRY(json_transform(TRY(decode(key)), {quoted(structure)}))"


def _has(name: str) -> str:
    """Whether the row has a column of this name in the shop, if only with null."""
    return f"json_exists(e.after, {_pointer(name)})"


def _pointer(name: str) -> str:
    return quoted("/" + name.replace("~", "~0").replace("/", "~1"))


def _member(json: str, column: Column) -> str:
    """A column's JSON in an object, by its names in the shop."""
    return f"coalesce({', '.join(f'json_extract({json}, {_pointer(name)})' for name in column.source_names)})"


def _old_key_sql(contract: Contract) -> str:
    """The row's key before a change of key, as JSON with the contract's names, from the header of the new row."""
    found = f"list_filter(from_json(headers, '[[\"VARCHAR\"]]'), lambda h: h[1] = {quoted(OLD_KEY_HEADER)})[1][2]"
    text = f"TRY(decode(from_base64({found})))"
    plain = f"coalesce(TRY(json_extract({text}, '$.payload')::VARCHAR), {text})"
    if any(column.physical_name or column.former_names for column in contract.key_columns):
        parts = ", ".join(f"{quoted(column.name)}, {_member(plain, column)}" for column in contract.key_columns)
        plain = f"CASE WHEN TRY(json_type({plain})) = 'OBJECT' THEN json_object({parts})::VARCHAR ELSE {plain} END"
    return f"CASE WHEN headers IS NOT NULL AND contains(headers, {quoted(OLD_KEY_HEADER)}) THEN {plain} END"


def _unavailable_list(contract: Contract, unavailable: Mapping[int, str]) -> str:
    if not unavailable:
        return "NULL::VARCHAR[]"
    names = ", ".join(f"CASE WHEN u{i} THEN {quoted(contract.columns[i].name)} END" for i in unavailable)
    some = " OR ".join(f"u{i}" for i in unavailable)
    return f"CASE WHEN {some} THEN list_filter([{names}], lambda n: n IS NOT NULL) END"


def _problem_sql(contract: Contract, problems: Mapping[int, str], unavailable: Mapping[int, str]) -> str:
    """The first reason for which a record is no row of the table, NULL when there is none."""
    arms = [
        ("e IS NULL", _reason("NotJson", "the value is not JSON")),
        ("op IS NULL", _reason("NotAnEnvelope", "the value is JSON but no Debezium envelope: it has no op")),
        (
            "op NOT IN ('c', 'u', 'd', 'r', 't')",
            _reason("UnknownOperation", "op is none of c, u, d, r, t: ", "left(op, 20)"),
        ),
        (
            f's."table" <> {quoted(contract.source_table)} OR s."schema" <> {quoted(contract.schema)}',
            _reason("OtherTable", f"not of {contract.source}, but of ", 'concat_ws(\'.\', s."schema", s."table")'),
        ),
        ("lsn IS NULL", _reason("NoPosition", "source has neither lsn nor sequence: the change has no place in order")),
        ("op = 't'", "NULL"),
        ("key IS NULL", _reason("MissingKey", "the record has no key")),
        ("op <> 'd' AND e.after IS NULL", _reason("MissingRow", "after is missing for op ", "op")),
        (
            "old_key IS NOT NULL AND NOT coalesce(TRY(json_type(old_key)) = 'OBJECT', false)",
            _reason("UnreadableHeader", f"header {OLD_KEY_HEADER} is not a JSON object: ", "left(old_key, 100)"),
        ),
    ]
    own = f'coalesce(s."table" = {quoted(contract.source_table)} AND s."schema" = {quoted(contract.schema)}, false)'
    for i, column in enumerate(contract.columns):
        absent = f"v{i} IS NULL" + (f" AND NOT u{i}" if i in unavailable else "")
        arms.append((f"j{i} IS NOT NULL AND {absent}", problems[i]))
        if column.name in contract.key:
            arms.append((f"j{i} IS NULL", _reason("MissingKey", f"key column {column.name} is missing or null")))
        elif column.required:
            # A column that is not at all in the row of an event of this very table was dropped in the shop: the drift
            # says so, and loading goes on.
            there = " OR ".join(_has(name) for name in column.source_names)
            reason = _reason("MissingValue", f"required column {column.name} is missing or null for op ", "op")
            arms.append((f"j{i} IS NULL AND op <> 'd' AND ({there} OR NOT {own})", reason))
    return f"CASE {' '.join(f'WHEN {condition} THEN {reason}' for condition, reason in arms)} END"


def _reason(error_class: str, message: str, detail: str = "''") -> str:
    return f"{{'error_class': {quoted(error_class)}, 'message': {quoted(message)} || {detail}}}"


def epoch_sql(epochs: Epochs, partition: str = "partition", offset: str = '"offset"') -> str:
    """The `_epoch` of a row with columns of partition and offset."""
    arms = []
    for epoch, starts in epochs:
        named = " ".join(f"WHEN {number} THEN {first}" for number, first in starts.items())
        start = f"CASE {partition} {named} ELSE 0 END" if named else "0"
        arms.append(f"WHEN {offset} >= {start} THEN {epoch}")
    return f"(CASE {' '.join(arms)} ELSE 0 END)::INTEGER" if arms else "0::INTEGER"


def _positions_sql(epoch: str) -> str:
    return (
        f'(SELECT partition AS _kafka_partition, "offset" AS _kafka_offset, op AS _op, {epoch} AS _epoch, '
        f"commit_pos AS _commit_pos, lsn AS _lsn, tx_id AS _tx_id, snapshot AS _snapshot, timestamp AS _kafka_ts "
        f"FROM changes WHERE _problem IS NULL AND NOT _skipped)"
    )


def _bronze_sql(contract: Contract, topic_id: str, ingest_day: date, epoch: str) -> str:
    """The rows of the batch, good and dead, as bronze's columns, by partition and offset."""
    columns = [f"v{i} AS {_name(column.name)}" for i, column in enumerate(contract.columns)]
    raw_type = "STRUCT(key BLOB, value BLOB, headers VARCHAR)"
    error_type = "STRUCT(stage VARCHAR, error_class VARCHAR, message VARCHAR, contract_version VARCHAR)"
    discarded_type = 'STRUCT(reason VARCHAR, "by" VARCHAR, "at" TIMESTAMPTZ)'
    dead_columns = [f"NULL AS {_name(column.name)}" for column in contract.columns]
    return f"""
    WITH place AS (SELECT {quoted(topic_id)} AS topic_id, DATE {quoted(ingest_day.isoformat())} AS ingest_day)
    SELECT * FROM (
    SELECT {", ".join(columns)},
        op AS _op, {epoch} AS _epoch, commit_pos AS _commit_pos, lsn AS _lsn, tx_id AS _tx_id,
        source_ts AS _source_ts, snapshot AS _snapshot, topic_id AS _topic_id,
        partition::INTEGER AS _kafka_partition, "offset" AS _kafka_offset, timestamp::TIMESTAMPTZ AS _kafka_ts,
        ingest_day AS _ingest_day,
        unavailable AS _unavailable, old_key AS _old_key, NULL::{error_type} AS _error, NULL::{raw_type} AS _raw,
        NULL::{discarded_type} AS _discarded
    FROM changes, place WHERE _problem IS NULL AND NOT _skipped
    UNION ALL
    SELECT {", ".join(dead_columns)},
        NULL, c.epoch, c.commit_pos, c.lsn, c.tx_id, c.source_ts, c.snapshot, topic_id,
        c.partition::INTEGER, c."offset", c.timestamp::TIMESTAMPTZ, ingest_day,
        NULL, c.old_key,
        {{'stage': 'decode', 'error_class': c._problem.error_class, 'message': c._problem.message,
          'contract_version': {quoted(contract.version)}}},
        {{'key': r.key, 'value': r.value, 'headers': r.headers}}, NULL
    FROM place, (SELECT *, {epoch} AS epoch FROM changes) c
    JOIN records r ON c.partition = r.partition AND c."offset" = r."offset"
    WHERE c._problem IS NOT NULL
    ) ORDER BY _kafka_partition, _kafka_offset"""


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
