"""All versions of a table with history: a set of changes, each once, only ever added to.

A version's interval, and the values that did not travel with it, are computed when it is read, so that changes may
arrive in any order: what the table holds depends on the changes alone.
"""

from __future__ import annotations

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from orders_platform.contracts import Contract
from orders_platform.fault_points import FaultPoint
from orders_platform.lake.catalog import ensure_table
from orders_platform.lake.commits import PROPERTY_PREFIX, CommitFaults, commit, head, own_properties
from orders_platform.lake.duckdb_engine import connect_alone, live_files, scan_sql
from orders_platform.lake.evolved import settle
from orders_platform.lake.incoming import make_winners, open_incoming, winning_rows
from orders_platform.lake.increments import increment
from orders_platform.lake.maintenance import expire_if_due
from orders_platform.lake.merge import MergeSpec, meet, rewrite
from orders_platform.lake.positions import format_positions, parse_positions, position_sql
from orders_platform.lake.schemas import beyond_sql, column_list, quoted, versions_schema
from orders_platform.lake.toast import old_key_part
from orders_platform.lake.transform import SOURCE, to_duckdb, versions_select
from orders_platform.settings import Settings

BRONZE_SNAPSHOT = f"{PROPERTY_PREFIX}bronze-snapshot"
REMOVALS = f"{PROPERTY_PREFIX}removals"
"""Summary property: positions of all TRUNCATEs and complete initial snapshots, which end the versions before them."""

FAULTS = CommitFaults(
    FaultPoint.VERSIONS_BEFORE_COMMIT, FaultPoint.VERSIONS_COMMIT_UNANSWERED, FaultPoint.VERSIONS_AFTER_COMMIT
)


def versions_spec(contract: Contract) -> MergeSpec:
    """A change delivered again may have another position in Kafka: the first one stays."""
    return MergeSpec(keys=(*contract.key, "_epoch", "_lsn"), newest=False)


def ensure_versions(catalog: Catalog, contract: Contract) -> Table:
    """The table of versions of a contract with history (`evolved.in_silver`)."""
    if contract.versions_table is None:
        raise ValueError(f"{contract.table} keeps no history")
    spec = versions_spec(contract)
    return ensure_table(
        catalog,
        contract.versions_table,
        versions_schema(contract),
        sort=spec.keys,
        bounds=spec.keys,
        prepare=lambda table: settle(table, contract, masked=True),
    )


def merge_versions(settings: Settings, catalog: Catalog, contract: Contract, bronze: Table) -> int | None:
    """Adds every change of bronze that is not among the versions yet.

    Returns:
        The new snapshot; null if bronze has nothing that was not applied.

    Raises:
        ConflictError, CommitUnknownError: someone else committed first, or no answer; plan again.
    """
    versions = ensure_versions(catalog, contract)
    base = head(versions)
    known = own_properties(versions, base)
    applied = int(known[BRONZE_SNAPSHOT]) if BRONZE_SNAPSHOT in known else None
    found = increment(bronze, applied)
    if found.snapshot_id == applied:
        return None
    spec, files = versions_spec(contract), live_files(versions, base)
    with connect_alone(settings) as connection:
        facts = open_incoming(connection, bronze, found)
        make_winners(connection, spec.keys, newest=False)
        select = to_duckdb(versions_select(contract, settings.masking_key))
        further = beyond_sql(versions.schema(), versions_schema(contract))
        connection.execute(
            f"CREATE TEMP TABLE candidates AS WITH {SOURCE} AS ({winning_rows()}) SELECT *{further} FROM ({select})"
        )
        meet(connection, versions, files, "candidates", spec)
        new = f"m.{quoted(spec.keys[0])} IS NULL"
        connection.execute(
            f"CREATE TABLE changed AS SELECT c.* FROM candidates c LEFT JOIN met m ON {spec.same_key('c', 'm')} "
            f"WHERE {new} OR {spec.replaces('c', 'm')}"
        )
        written = rewrite(connection, versions, files, "changed", spec, settings.threads)
    removals = {*parse_positions(known.get(REMOVALS)), *facts.removals}
    snapshot = commit(
        versions,
        expected=base,
        add=written.added,
        remove=written.removed,
        summary={BRONZE_SNAPSHOT: str(found.snapshot_id), REMOVALS: format_positions(removals)},
        faults=FAULTS,
    )
    expire_if_due(versions)
    return snapshot


def versions_sql(table: Table, contract: Contract, snapshot_id: int | None = None) -> str:
    """SELECT of the versions as intervals of the shop's time, each with the values that held.

    Columns: the contract's (masked); `valid_from`; `valid_to`, null while it holds; `removed`, true if a TRUNCATE, or a
    snapshot that did not have the row any more, ended it. Equal neighbours are one version. A value that did not travel
    with a change is the one before, under the old key where the key changed; one that is not known is null.
    """
    keys = column_list(contract.key)
    properties = own_properties(table, snapshot_id if snapshot_id is not None else head(table))
    removals = [position.sql for position in sorted(parse_positions(properties.get(REMOVALS)))]
    names = [column.name for column in contract.columns if column.name not in contract.key]
    values = [quoted(name) for name in names]
    carried = " AND ".join(f"{old_key_part('v._old_key', k)} = o.{quoted(k)}::VARCHAR" for k in contract.key)
    # Lists tell a null that was written from a value that did not travel.
    absent = "coalesce(list_contains(_unavailable, '{}'), false)"
    travelled = ", ".join(
        f"CASE WHEN NOT {absent.format(name)} THEN [{quoted(name)}] END AS {quoted(name)}" for name in names
    )
    moved = ", ".join(f"arg_max(o.{name}, o._place) AS {name}" for name in values)
    before = f"OVER (PARTITION BY {column_list(contract.key, 'v')} ORDER BY v._place)"
    filled = ", ".join(
        f"(last_value(coalesce(v.{name}, CASE WHEN v._old_key IS NOT NULL THEN coalesce(m.{name}, [NULL]) END) "
        f"IGNORE NULLS) {before})[1] AS {name}"
        for name in values
    )
    same = " AND ".join(f"{name} IS NOT DISTINCT FROM lag({name}) OVER w" for name in (*values, "_deleted"))
    ended = " OR ".join(f"({r} > _place AND (_next_place IS NULL OR {r} < _next_place))" for r in removals) or "false"
    window = f"WINDOW w AS (PARTITION BY {keys} ORDER BY _place)"
    return (
        f"WITH versions AS (SELECT {keys}, {travelled}, _op, _deleted, _source_ts, "
        f"CASE WHEN _op = 'c' AND len(_unavailable) > 0 THEN _old_key END AS _old_key, {position_sql()} AS _place "
        f"FROM {scan_sql(table, snapshot_id)}), "
        f"moved AS (SELECT {column_list(contract.key, 'v')}, v._place, {moved} FROM versions v "
        f"JOIN versions o ON {carried} AND o._place < v._place AND NOT o._deleted WHERE v._old_key IS NOT NULL "
        f"GROUP BY ALL), "
        f"filled AS (SELECT {column_list(contract.key, 'v')}, {filled}, v._deleted, v._source_ts, v._place "
        f"FROM versions v LEFT JOIN moved m ON v._place = m._place AND {MergeSpec(contract.key).same_key('v', 'm')}), "
        f"different AS (SELECT * FROM filled {window} QUALIFY NOT coalesce({same}, false) OR row_number() OVER w = 1), "
        f"intervals AS (SELECT *, lead(_source_ts) OVER w AS _next_ts, lead(_place) OVER w AS _next_place "
        f"FROM different {window}) "
        f"SELECT {keys}, {', '.join(values)}, _source_ts AS valid_from, _next_ts AS valid_to, {ended} AS removed "
        f"FROM intervals WHERE NOT _deleted"
    )
