"""Values that did not travel: Debezium sends a placeholder for a TOAST value that an UPDATE left alone.

Each such column of a row is a register of its own, written last by the change with the highest position that carried a
real value. A delete writes "unknown" into it, and so does a TRUNCATE: what comes after them must bring its own value. A
change of the primary key that carries a placeholder writes "as under the old key": that is looked up among all
changes of the old key. Where the register's position is not the row's, `_toast` keeps it, so that changes may be
applied in any order. A row of which a value is not known is held back as `_deleted` until it arrives; no placeholder is
ever shown.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from orders_platform.contracts import Contract
from orders_platform.lake.positions import Position, position_sql
from orders_platform.lake.schemas import TOAST, column_list, duckdb_type, quoted
from orders_platform.lake.transform import SOURCE, silver_select, to_duckdb, versions_select

_PARTS = ("epoch", "commit_pos", "lsn", "kafka_offset")
_MAX_KEY_CHANGES = 32  # of one row in a chain, each without the value: more would be a loop in the data


@dataclass(frozen=True)
class ToastSources:
    """Where registers are read from; all are FROM items of DuckDB.

    Args:
        incoming: rows of bronze that are applied now.
        history: all rows of bronze.
        silver: rows of silver that may be concerned.
    """

    contract: Contract
    masking_key: bytes
    incoming: str
    history: str
    silver: str
    removed_below: Position | None


def columns_concerned(connection: duckdb.DuckDBPyConnection, sources: ToastSources, everywhere: bool) -> list[str]:
    """Columns with a placeholder among the incoming changes, or with a register in the rows that these meet.

    Makes the table `toast_keys` of the keys whose registers must be computed; `everywhere` takes all rows that have a
    register, as a TRUNCATE demands.
    """
    keys = sources.contract.key
    own, met = column_list(keys), column_list(keys, "s")
    same = " AND ".join(f"s.{quoted(k)} = c.{quoted(k)}" for k in keys)
    # The old keys of moved values are rare; rows that refer to a key which changes now are resolved again.
    old = " AND ".join(f"{old_key_part('_t.old_key', k)} = c.{quoted(k)}::VARCHAR" for k in keys)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE toast_keys AS "
        f"SELECT DISTINCT {own} FROM {sources.incoming} WHERE len(_unavailable) > 0 AND _op <> 't' "
        f"UNION SELECT {met} FROM {sources.silver} s WHERE s.{TOAST} IS NOT NULL "
        f"AND ({str(everywhere).lower()} OR EXISTS (SELECT 1 FROM winners c WHERE {same})) "
        f"UNION SELECT {met} FROM (SELECT *, unnest({TOAST}) AS _t FROM {sources.silver} WHERE {TOAST} IS NOT NULL) s "
        f"WHERE _t.old_key IS NOT NULL AND EXISTS (SELECT 1 FROM winners c WHERE {old})"
    )
    rows = connection.execute(
        f"SELECT DISTINCT unnest(_unavailable) FROM {sources.incoming} "
        f"UNION SELECT DISTINCT t['column'] FROM (SELECT unnest(s.{TOAST}) AS t FROM {sources.silver} s "
        f"SEMI JOIN toast_keys USING ({own}))"
    ).fetchall()
    names = {name for (name,) in rows}
    return [column.name for column in sources.contract.columns if column.name in names]


def resolve(connection: duckdb.DuckDBPyConnection, sources: ToastSources, columns: Sequence[str]) -> None:
    """Gives the rows of `candidates` with a key in `toast_keys` their registers' values, and holds back what has none.

    Rows of silver that are newer than their candidate take its place first, so that both lead to the same row.
    """
    contract, keys = sources.contract, sources.contract.key
    own = column_list(keys)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE toast_current AS SELECT * EXCLUDE (_seq) FROM {sources.silver} "
        f"SEMI JOIN toast_keys USING ({own})"
    )
    newer = f"{position_sql('t')} >= {position_sql('c')}"
    same = " AND ".join(f"t.{quoted(k)} = c.{quoted(k)}" for k in keys)
    connection.execute(f"DELETE FROM candidates c USING toast_current t WHERE {same} AND {newer}")
    connection.execute(f"INSERT INTO candidates BY NAME SELECT * FROM toast_current ANTI JOIN candidates USING ({own})")
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE toast_changes AS WITH {SOURCE} AS "
        f"(SELECT * FROM {sources.incoming} SEMI JOIN toast_keys USING ({own}) WHERE _op <> 't') "
        f"{to_duckdb(versions_select(contract, sources.masking_key))}"
    )
    for i, column in enumerate(columns):
        _make_register(connection, sources, column, f"toast_{i}")
        _look_up(connection, sources, column, f"toast_{i}")
    _apply(connection, contract, columns)


def _make_register(connection: duckdb.DuckDBPyConnection, sources: ToastSources, column: str, name: str) -> None:
    """Table `name`: the last writer of the column's register.

    Key, `_value`, `_known`, `_was` (the old key), and `_e`, `_c`, `_l`, `_o` (its position).
    """
    own, value = column_list(sources.contract.key), quoted(column)
    kind = duckdb_type(sources.contract.column(column).masked_type)
    absent = f"list_contains(_unavailable, '{column}')"
    entry = f"list_filter({TOAST}, lambda x: x['column'] = '{column}')[1]"
    removed = f"row(_e, _c, _l, _o) < {sources.removed_below.sql}" if sources.removed_below else "false"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} AS WITH writers AS ("
        f"SELECT {own}, {value}::{kind} AS _value, NOT _deleted AND NOT coalesce({absent}, false) AS _known, "
        f"CASE WHEN {absent} AND _op = 'c' THEN _old_key END AS _was, "
        f"_epoch AS _e, _commit_pos AS _c, _lsn AS _l, _kafka_offset AS _o FROM toast_changes "
        f"WHERE _op IN ('c', 'd') OR NOT coalesce({absent}, false) "
        f"UNION ALL SELECT {own}, CASE WHEN coalesce(_t.known, true) THEN {value} END, "
        f"_op NOT IN ('d', 't') AND coalesce(_t.known, true), _t.old_key, coalesce(_t.epoch, _epoch), "
        f"coalesce(_t.commit_pos, _commit_pos), coalesce(_t.lsn, _lsn), coalesce(_t.kafka_offset, _kafka_offset) "
        f"FROM (SELECT *, {entry} AS _t FROM toast_current) "
        # The last writer; of the same one, as read now and as silver has it, what is known already.
        f"), last AS (SELECT * FROM writers QUALIFY row_number() OVER "
        f"(PARTITION BY {own} ORDER BY _e DESC, _c DESC, _l DESC, _o DESC, _known DESC) = 1) "
        f"SELECT {own}, CASE WHEN _known AND NOT {removed} THEN _value END AS _value, "
        f"_known AND NOT {removed} AS _known, CASE WHEN NOT {removed} THEN _was END AS _was, _e, _c, _l, _o FROM last"
    )


def _look_up(connection: duckdb.DuckDBPyConnection, sources: ToastSources, column: str, name: str) -> None:
    """Fills registers that say "as under the old key" from all changes of that key."""
    rows = connection.execute(f"SELECT DISTINCT _was, _e, _c, _l, _o FROM {name} WHERE _was IS NOT NULL").fetchall()
    for old_key, *parts in rows:
        at = Position(*parts)
        found = _value_before(connection, sources, column, old_key, at)
        if found is not None:
            connection.execute(
                f"UPDATE {name} SET _value = ?, _known = true WHERE _was = ? AND row(_e, _c, _l, _o) = {at.sql}",
                [found[0], old_key],
            )


def _value_before(
    connection: duckdb.DuckDBPyConnection, sources: ToastSources, column: str, key_json: str, before: Position
) -> tuple[object] | None:
    """The last real value of a column under a key before a position, following further changes of the key backwards."""
    select = to_duckdb(silver_select(sources.contract, sources.masking_key))
    for _ in range(_MAX_KEY_CHANGES):
        same = " AND ".join(
            f"{quoted(k)} = TRY_CAST({old_key_part('$key', k)} AS {duckdb_type(sources.contract.column(k).type)})"
            for k in sources.contract.key
        )
        absent = f"coalesce(list_contains(_unavailable, '{column}'), false)"
        row = connection.execute(
            f"WITH changes AS (SELECT * FROM {sources.history} WHERE _error IS NULL AND {same} "
            f"AND {position_sql()} < {before.sql} AND (_op IN ('u', 'r') AND NOT {absent} OR _op = 'c') "
            f"ORDER BY _epoch DESC, _commit_pos DESC, _lsn DESC, _kafka_offset DESC LIMIT 1) "
            f"SELECT v.{quoted(column)}, {absent}, c._old_key, c._epoch, c._commit_pos, c._lsn, c._kafka_offset "
            f"FROM changes c CROSS JOIN ({select}) v",
            {"key": key_json},
        ).fetchone()
        if row is None:
            return None
        value, unavailable, old_key, *parts = row
        if not unavailable:
            return (value,)
        if old_key is None:
            return None
        key_json, before = old_key, Position(*parts)
    return None


def _apply(connection: duckdb.DuckDBPyConnection, contract: Contract, columns: Sequence[str]) -> None:
    """Writes the registers into the candidates."""
    values, entries, unknown, joins = [], [], [], []
    alive = "_op NOT IN ('d', 't')"
    for i, column in enumerate(columns):
        r = f"r{i}"
        same = " AND ".join(f"{r}.{quoted(k)} = m.{quoted(k)}" for k in contract.key)
        joins.append(f"LEFT JOIN toast_{i} {r} ON {same}")
        values.append(f"CASE WHEN m.{alive} THEN {r}._value END AS {quoted(column)}")
        elsewhere = f"row({r}._e, {r}._c, {r}._l, {r}._o) <> {position_sql('m')}"
        # A register that nothing has written is older than any change.
        at = [f"'{name}': coalesce({r}._{part}, -1)" for name, part in zip(_PARTS, "eclo", strict=True)]
        entry = f"{{'column': '{column}', {', '.join(at)}, 'known': coalesce({r}._known, false), 'old_key': {r}._was}}"
        entries.append(
            f"CASE WHEN NOT coalesce({r}._known, false) OR {r}._was IS NOT NULL OR {elsewhere} THEN {entry} END"
        )
        unknown.append(f"NOT coalesce({r}._known, false)")
    toast = f"list_filter([{', '.join(entries)}], lambda x: x IS NOT NULL)"
    own = column_list(contract.key)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE toast_resolved AS SELECT m.* REPLACE ({', '.join(values)}, "
        f"CASE WHEN m.{alive} AND len({toast}) > 0 THEN {toast} END AS {TOAST}, "
        f"NOT m.{alive} OR {' OR '.join(unknown)} AS _deleted) "
        f"FROM (SELECT * FROM candidates SEMI JOIN toast_keys USING ({own})) m {' '.join(joins)}"
    )
    connection.execute(f"DELETE FROM candidates USING toast_keys k WHERE {_same('candidates', 'k', contract.key)}")
    connection.execute("INSERT INTO candidates BY NAME SELECT * FROM toast_resolved")


def _same(left: str, right: str, keys: Sequence[str]) -> str:
    return " AND ".join(f"{left}.{quoted(k)} = {right}.{quoted(k)}" for k in keys)


def old_key_part(text: str, key: str) -> str:
    """SQL: a key column's text in the JSON of an old key, which a converter with schemas wraps in `payload`."""
    path = json.dumps(key).replace("'", "''")
    plain, wrapped = (f"json_extract_string({text}, '$.{place}')" for place in (path, f"payload.{path}"))
    return f"CASE WHEN json_valid({text}) THEN coalesce({plain}, {wrapped}) END"
