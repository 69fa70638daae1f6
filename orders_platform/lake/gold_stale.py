"""Which order dates of gold are stale, asked of the tables themselves.

What changed in silver since gold read it is known by `_seq`; the orders concerned by the query that the model declares;
and the dates by where those orders stand now, in silver and in gold. When the recorded snapshot is not an ancestor of
the one that is there now (a rollback, an expiry), nothing can be said of the difference, and all dates are stale.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from duckdb import DuckDBPyConnection
from pyiceberg.table import Table
from pyiceberg.table.snapshots import is_ancestor_of

from orders_platform.contracts import Contract
from orders_platform.lake.duckdb_engine import scan_files_sql
from orders_platform.lake.gold_files import date_sequences, files_hit, live_files
from orders_platform.lake.gold_mark import GoldMark
from orders_platform.lake.gold_models import ChangeQuery, GoldModel


@dataclass(frozen=True)
class SilverInput:
    """A silver table at the snapshot that passed its checks last."""

    contract: Contract
    table: Table
    snapshot_id: int


def stale_by_silver(
    con: DuckDBPyConnection,
    model: GoldModel,
    mark: GoldMark | None,
    facts: Table | None,
    head: int | None,
    inputs: Mapping[str, SilverInput],
    time_zone: str,
) -> frozenset[date]:
    """The stale dates of a fact table whose main is at `head`.

    `inputs` by the contract's table name; one that is missing has no audited snapshot yet. The connection's session
    time zone must be `time_zone`, the business's.
    """
    if mark is None or mark.time_zone != time_zone or any(_cut_off(query, mark, inputs) for query in model.changes):
        return _all_dates(con, facts, head, inputs)
    con.execute("CREATE OR REPLACE TEMP TABLE ids (order_id BIGINT)")
    for query in model.changes:
        source = inputs.get(query.table)
        if source is None or mark.inputs[source.contract.silver_table] == source.snapshot_id:
            continue
        _collect_changed(con, query, source, mark.inputs[source.contract.silver_table])
        _collect_orders(con, query, source, facts, head)
    return mark.pending | _dates_of_orders(con, facts, head, inputs.get("orders"))


def stale_by_model(
    mark: GoldMark | None, own: Iterable[date], source: Table | None, head: int | None
) -> frozenset[date]:
    """The stale dates of a table built from another gold table (`source`, main at `head`); `own` are its dates now."""
    own_dates = frozenset(own)
    if source is None or head is None:
        return own_dates
    sequences = date_sequences(source, head)
    recorded = mark.inputs.get(".".join(source.name())) if mark else None
    if mark is None or recorded is None or not _is_ancestor(source, head, recorded):
        return own_dates | frozenset(sequences)
    read = source.metadata.snapshot_by_id(recorded)
    assert read is not None
    newer = frozenset(day for day, sequence in sequences.items() if sequence > (read.sequence_number or 0))
    return mark.pending | newer | (own_dates - sequences.keys())


def _cut_off(query: ChangeQuery, mark: GoldMark, inputs: Mapping[str, SilverInput]) -> bool:
    """Whether what changed in an input since the mark cannot be told."""
    recorded = mark.inputs.get(f"silver.{query.table}")
    source = inputs.get(query.table)
    if source is None or recorded is None:
        return (source is None) != (recorded is None)
    return not _is_ancestor(source.table, source.snapshot_id, recorded)


def _is_ancestor(table: Table, snapshot_id: int, ancestor: int) -> bool:
    return table.metadata.snapshot_by_id(ancestor) is not None and is_ancestor_of(snapshot_id, ancestor, table.metadata)


def _collect_changed(con: DuckDBPyConnection, query: ChangeQuery, source: SilverInput, since: int) -> None:
    """Makes `changed`: key, the columns that matter, `_deleted` and `_now`, of the rows changed since a snapshot.

    A merge rewrites the files that it touches: rows as they are now stand in files that were added, and as they were
    in files that were removed.
    """
    table, key = source.table, source.contract.key
    before, now = live_files(table, since), live_files(table, source.snapshot_id)
    kept = {file.file_path for file in before} & {file.file_path for file in now}
    read = table.metadata.snapshot_by_id(since)
    assert read is not None
    columns = ", ".join(dict.fromkeys((*key, *query.columns, "_deleted")))
    added = scan_files_sql(table, [file for file in now if file.file_path not in kept])
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE changed AS SELECT {columns}, true AS _now FROM {added} "
        f"WHERE _seq > {read.sequence_number or 0}"
    )
    if not query.columns:
        return
    removed = [file for file in before if file.file_path not in kept]
    hit = files_hit(table, removed, key[0], _keys(con, f"SELECT {key[0]} FROM changed"))
    con.execute(
        f"INSERT INTO changed SELECT {columns}, false AS _now FROM {scan_files_sql(table, hit)} "
        f"SEMI JOIN changed USING ({', '.join(key)})"
    )
    compared = ", ".join((*query.columns, "_deleted"))
    con.execute(
        f"DELETE FROM changed WHERE ({', '.join(key)}) IN (SELECT ({', '.join(key)}) FROM changed "
        f"GROUP BY {', '.join(key)} HAVING count(*) = 2 AND count(DISTINCT ({compared})) = 1)"
    )


def _collect_orders(
    con: DuckDBPyConnection, query: ChangeQuery, source: SilverInput, facts: Table | None, head: int | None
) -> None:
    """Adds the orders that the changed rows concern to `ids`."""
    if query.facts_by is not None:
        if facts is None:
            return
        keys = _keys(con, f"SELECT {source.contract.key[0]} FROM changed")
        hit = files_hit(facts, live_files(facts, head), query.facts_by, keys)
        con.execute(f"CREATE OR REPLACE TEMP VIEW facts AS SELECT * FROM {scan_files_sql(facts, hit)}")
    con.execute(f"INSERT INTO ids {query.orders_sql}")


def _dates_of_orders(
    con: DuckDBPyConnection, facts: Table | None, head: int | None, orders: SilverInput | None
) -> frozenset[date]:
    """Where the orders in `ids` stand, in gold and in silver."""
    keys = _keys(con, "SELECT order_id FROM ids")
    dates: frozenset[date] = frozenset()
    if not keys:
        return dates
    if facts is not None:
        hit = files_hit(facts, live_files(facts, head), "order_id", keys)
        dates |= _dates(con, f"SELECT order_date FROM {scan_files_sql(facts, hit)} SEMI JOIN ids USING (order_id)")
    if orders is not None:
        files = live_files(orders.table, orders.snapshot_id)
        hit = files_hit(orders.table, files, "order_id", keys)
        dates |= _dates(con, f"{_placed(orders, scan_files_sql(orders.table, hit))} AND order_id IN (FROM ids)")
    return dates


def _all_dates(
    con: DuckDBPyConnection, facts: Table | None, head: int | None, inputs: Mapping[str, SilverInput]
) -> frozenset[date]:
    dates = frozenset(date_sequences(facts, head)) if facts is not None else frozenset()
    orders = inputs.get("orders")
    if orders is None:
        return dates
    files = live_files(orders.table, orders.snapshot_id)
    return dates | _dates(con, _placed(orders, scan_files_sql(orders.table, files)))


def _placed(orders: SilverInput, source: str) -> str:
    """A query for the order dates of the orders in `source`.

    PostgreSQL knows days that most others do not (4713 BC to 294276, ±infinity): an order of such a day stays in
    silver, where reconciliation with gold names it, and keeps no other day from being built.
    """
    day = f"CAST({orders.contract.order_date_column} AS DATE)"
    return f"SELECT {day} FROM {source} WHERE NOT _deleted AND {day} BETWEEN DATE '{date.min}' AND DATE '{date.max}'"


def _dates(con: DuckDBPyConnection, sql: str) -> frozenset[date]:
    return frozenset(row[0] for row in con.execute(f"SELECT DISTINCT * FROM ({sql})").fetchall())


def _keys(con: DuckDBPyConnection, sql: str) -> Sequence[Any]:
    """Distinct values, sorted."""
    rows = con.execute(f"SELECT DISTINCT k FROM ({sql}) AS t(k) WHERE k IS NOT NULL ORDER BY k").fetchall()
    return [row[0] for row in rows]
