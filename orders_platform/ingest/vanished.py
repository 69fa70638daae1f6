"""Rows of silver that PostgreSQL no longer has, because their deletes were lost: found, and written down as changes.

A delete that was lost has no position of its own. It is recorded in bronze just behind the change that it undoes, which
silver had as the row's last: (`_epoch`, `_commit_pos`, `_lsn` + 1). So whatever happened to the key after that is newer
and wins, in whichever order all of it is merged, now or again in a year.

Source of the visibility rule: PostgreSQL 18, "Transaction ID and Snapshot Information Functions", `pg_snapshot`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from uuid import uuid4

import duckdb
import psycopg
import pyarrow as pa
from psycopg import sql
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from orders_platform.contracts import Contract
from orders_platform.ingest.bronze import ATTEMPTS, FAULTS, bronze_table
from orders_platform.ingest.errors import CommitRefusedError
from orders_platform.ingest.gaps import END, AcceptedGap, Gap, GapKind
from orders_platform.ingest.ledger import COMMIT, REPAIR_LOG, TAG, Ledger
from orders_platform.ingest.offsets import OffsetRange
from orders_platform.lake.commits import CommitUnknownError, ConflictError, commit
from orders_platform.lake.duckdb_engine import connect, scan_sql, write_files
from orders_platform.lake.evolved import as_wide
from orders_platform.lake.schemas import beyond_sql, bronze_schema, column_list, quoted
from orders_platform.lake.shop_keys import key_name, keys_sql
from orders_platform.lake.text_form import lake_text
from orders_platform.settings import Settings

KEYS_AT_A_TIME = 10_000
_32_BITS = 2**32
_SESSION = "-c timezone=UTC -c datestyle=ISO -c default_transaction_isolation=repeatable\\ read"


@dataclass(frozen=True)
class Vanished:
    """What was found: rows `asked` for, those `removed`, and those `left` because PostgreSQL may not show them yet."""

    asked: int
    removed: int
    left: int
    snapshot_id: int | None


def remove_vanished(settings: Settings, catalog: Catalog, contract: Contract, unseen_since: int, by: str) -> Vanished:
    """Records the deletes of silver's current rows which PostgreSQL does not have.

    Only rows that no change has touched since are asked for: after a snapshot of the table, those that it did not see.

    Args:
        unseen_since: silver's sequence number before the snapshot was asked for; rows written later are left alone.

    Raises:
        CommitRefusedError: others kept committing first; run it again.
        psycopg.Error: the shop's database cannot be read.
    """
    try:
        silver = catalog.load_table(contract.silver_table)
    except NoSuchTableError:
        return Vanished(0, 0, 0, None)
    with connect(settings) as con:
        kept = as_wide(contract, silver.schema())
        texts = ", ".join(f"{lake_text(c.name, c.type)} AS k{i}" for i, c in enumerate(kept.key_columns))
        con.execute(
            f"CREATE TEMP TABLE asked AS SELECT row_number() OVER () AS i, {texts}, {column_list(contract.key)}, "
            f"_epoch, _commit_pos, _lsn, _tx_id FROM {scan_sql(silver)} "
            f"WHERE NOT _deleted AND _seq <= {int(unseen_since)}"
        )
        (asked,) = con.execute("SELECT count(*) FROM asked").fetchall()[0]
        found = _ask(con, settings, contract)
        con.register("missing", pa.table({"i": pa.array(found.missing, pa.int64())}))
        con.execute(
            f"CREATE TEMP TABLE gone AS SELECT i FROM asked SEMI JOIN missing USING (i) "
            f"WHERE ({_perhaps_unseen(found)}) IS NOT TRUE"
        )
        (removed,) = con.execute("SELECT count(*) FROM gone").fetchall()[0]
        left = len(found.missing) - removed
        if not removed:
            return Vanished(asked, 0, left, None)
        return Vanished(asked, removed, left, _record(con, catalog, contract, found.at, removed, by))


@dataclass(frozen=True)
class _Answer:
    """Numbers of the keys that PostgreSQL does not have, when, and which transactions it could not see then.

    These are the ones in progress, and those from `first_unseen` on and before `next`, which was not given out yet.
    """

    missing: Sequence[int]
    at: datetime
    first_unseen: int
    next: int
    in_progress: tuple[int, ...]


def _ask(con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract) -> _Answer:
    """Looks all keys up in one snapshot of PostgreSQL."""
    table = sql.Identifier(contract.schema, contract.source_table)
    same = sql.SQL(" AND ").join(
        sql.SQL("t.{} = c.{}").format(sql.Identifier(column.source_name), key_name(i))
        for i, column in enumerate(contract.key_columns)
    )
    query = sql.SQL("SELECT number FROM ({}) AS c WHERE NOT EXISTS (SELECT FROM {} t WHERE {})")
    missing: list[int] = []
    with psycopg.connect(settings.postgres, options=_SESSION) as shop:
        row = shop.execute("SELECT now(), pg_current_snapshot()::text, pg_current_xact_id()::text").fetchone()
        assert row is not None
        at, (_, first_unseen, running), following = row[0], row[1].split(":"), row[2]
        con.execute("SELECT i, " + ", ".join(f"k{i}" for i in range(len(contract.key))) + " FROM asked ORDER BY i")
        while rows := con.fetchmany(KEYS_AT_A_TIME):
            keys = keys_sql(shop, contract, [row[1:] for row in rows])
            missing += [rows[number - 1][0] for (number,) in shop.execute(query.format(keys, table, same))]
        shop.rollback()
    in_progress = tuple(int(each) for each in running.split(",") if each)
    return _Answer(missing, at.astimezone(UTC), int(first_unseen), int(following), in_progress)


def _perhaps_unseen(found: _Answer) -> str:
    """SQL: a row's last change may be one that PostgreSQL's snapshot did not show: no reason to think it gone.

    The rows were delivered before the snapshot was taken, so their transactions had begun. One that PostgreSQL has not
    given out yet is of a history that a restore or a failover has undone: its rows are gone indeed.
    Debezium sends transaction ids in 32 bits, where they turn over.
    """
    ahead = f"(_tx_id - {found.first_unseen % _32_BITS} + {_32_BITS}) % {_32_BITS} < {found.next - found.first_unseen}"
    running = ", ".join(str(each % _32_BITS) for each in found.in_progress) or "NULL"
    return f"_tx_id IS NOT NULL AND ({ahead} OR coalesce(_tx_id % {_32_BITS} IN ({running}), false))"


def _record(
    con: duckdb.DuckDBPyConnection, catalog: Catalog, contract: Contract, at: datetime, rows: int, by: str
) -> int:
    """Commits the deletes as a log of their own, which the ledger knows as complete. The rows hold on any head."""
    log_id = f"{REPAIR_LOG}{at:%Y%m%dT%H%M%S}-{uuid4().hex[:8]}"
    gap = Gap(GapKind.REPAIR, log_id, ((0, 0, END),), log_id, "")
    reason = f"{rows} rows that PostgreSQL no longer had at {at.isoformat()}"
    decision = AcceptedGap(gap, reason, by, datetime.now(UTC))
    failure: Exception | None = None
    for _ in range(ATTEMPTS):
        table = bronze_table(catalog, contract)
        ledger = Ledger.read(table)
        if log_id in ledger.intervals and ledger.snapshot_id is not None:
            return ledger.snapshot_id
        after = ledger.including(log_id, [OffsetRange(0, 0, rows)], rows, {}).accepting(decision)
        own: dict[str, Any] = {"repair": log_id, "rows": rows}
        try:
            return commit(
                table,
                expected=ledger.snapshot_id,
                add=write_files(con, table, _deletes_sql(contract, table, log_id, at), partition=at.date()),
                summary={**after.summary(), COMMIT: json.dumps(own)},
                tag=TAG,
                faults=FAULTS,
            )
        except (ConflictError, CommitUnknownError) as error:
            failure = error
    raise CommitRefusedError(
        f"{contract.bronze_table}: {ATTEMPTS} attempts to record {rows} deletes did not succeed, the last with: "
        f"{failure}. Nothing was changed; run the repair again"
    )


def _deletes_sql(contract: Contract, bronze: Table, log_id: str, at: datetime) -> str:
    """Rows of bronze: a delete just behind the last change of each row that is gone."""
    others = [f"NULL AS {quoted(c.name)}" for c in contract.columns if c.name not in contract.key]
    further = beyond_sql(bronze.schema(), bronze_schema(contract))
    moment, day = f"TIMESTAMPTZ '{at.isoformat()}'", date(at.year, at.month, at.day)
    return (
        f"SELECT {', '.join((column_list(contract.key), *others))}, 'd' AS _op, _epoch, _commit_pos, _lsn + 1 AS _lsn, "
        f"NULL AS _tx_id, {moment} AS _source_ts, NULL AS _snapshot, '{log_id}' AS _topic_id, 0 AS _kafka_partition, "
        f"row_number() OVER (ORDER BY i) - 1 AS _kafka_offset, {moment} AS _kafka_ts, DATE '{day}' AS _ingest_day, "
        f"NULL AS _unavailable, NULL AS _old_key, NULL AS _error, NULL AS _raw, NULL AS _discarded{further} "
        f"FROM asked SEMI JOIN gone USING (i)"
    )
