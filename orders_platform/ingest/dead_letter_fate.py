"""What becomes of dead letters: decoded again after a fix, or discarded for a reason.

Either way rows of bronze are replaced in one conditional commit, which carries the ledger forward with the rows that
are there now. Silver sees that this is no append, and merges those days whole: the order of changes puts the records
where they would be had they never failed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import duckdb
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from orders_platform.contracts import Contract
from orders_platform.fault_points import FaultPoint
from orders_platform.ingest.bronze import ATTEMPTS, bronze_table
from orders_platform.ingest.dead_letters import Discarded, Selection, dead_letter_files
from orders_platform.ingest.decoding import RECORDS, Decoder
from orders_platform.ingest.errors import CommitRefusedError
from orders_platform.ingest.ledger import COMMIT, TAG, Ledger
from orders_platform.lake.commits import CommitFaults, CommitUnknownError, ConflictError, commit
from orders_platform.lake.duckdb_engine import connect_alone, scan_files_sql, write_files
from orders_platform.lake.evolved import evolve, in_bronze
from orders_platform.lake.maintenance import expire_if_due
from orders_platform.settings import Settings

FAULTS = CommitFaults(
    FaultPoint.BRONZE_BEFORE_COMMIT, FaultPoint.BRONZE_COMMIT_UNANSWERED, FaultPoint.BRONZE_AFTER_COMMIT
)
_PLACE = "_topic_id, _kafka_partition, _kafka_offset"


@dataclass(frozen=True)
class Fate:
    """What one call did. chosen = rows + skipped + discarded + left; `snapshot_id` is None where nothing changed.

    Args:
        rows: now rows of the table.
        skipped: turned out to be records that make no row (a heartbeat, for instance).
        discarded: newly marked as of no use.
        left: dead letters as before, some of them perhaps with another reason.
        reasons: how many of those left there are of each class of error.
    """

    chosen: int = 0
    rows: int = 0
    skipped: int = 0
    discarded: int = 0
    left: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    snapshot_id: int | None = None


Renew = Callable[[duckdb.DuckDBPyConnection, Table, Ledger], Fate | None]
"""From the table `chosen` makes `settled` (places of rows that go) and `renewed` (rows instead, bronze's columns).

None where it has changed the table's columns instead: the table is to be read again.
"""


def replay(settings: Settings, catalog: Catalog, contract: Contract, selection: Selection) -> Fate:
    """Decodes dead letters again with the present contract; they take their places as if they had never failed.

    As in a load, a value that proves that the shop has widened a column widens it. How the events differ otherwise was
    judged when they were loaded: a change of the shop's table since then stops no replay.

    Those that fail again stay, with the reason of now. Doing it twice changes nothing.

    Raises:
        LedgerError: the table's ledger is missing or cannot be believed.
        CommitRefusedError: others kept committing first; nothing is lost, run it again.
    """

    def renew(con: duckdb.DuckDBPyConnection, table: Table, ledger: Ledger) -> Fate | None:
        return _decode_again(con, contract, table, ledger)

    return _rewritten(settings, catalog, contract, selection, renew)


def discard(
    settings: Settings, catalog: Catalog, contract: Contract, selection: Selection, reason: str, by: str
) -> Fate:
    """Marks dead letters as of no use; they stay in the table, can be shown and replayed, and count no more.

    Raises:
        ValueError: without a reason.
        LedgerError, CommitRefusedError: as `replay`.
    """
    if not reason.strip():
        raise ValueError("a reason is needed to discard dead letters")
    mark = Discarded(reason.strip(), by, datetime.now(UTC))
    open_ones = replace(selection, discarded=False)
    return _rewritten(settings, catalog, contract, open_ones, lambda con, *_: _mark_discarded(con, mark))


def _rewritten(settings: Settings, catalog: Catalog, contract: Contract, selection: Selection, renew: Renew) -> Fate:
    """Plans and commits until it is done. A commit without an answer is looked for in the table: it leaves no work."""
    failure: Exception | None = None
    unanswered: Fate | None = None
    for _ in range(ATTEMPTS):
        table = bronze_table(catalog, contract)
        ledger = Ledger.read(table)
        with connect_alone(settings) as con:
            files = _choose(con, table, selection)
            fate = renew(con, table, ledger)
            if fate is None:
                continue
            (settled,) = con.execute("SELECT count(*) FROM settled").fetchall()[0]
            if not settled:
                return unanswered or fate
            try:
                return replace(fate, snapshot_id=_commit(con, table, ledger, files, fate))
            except ConflictError as error:
                failure = error
            except CommitUnknownError as error:
                failure, unanswered = error, fate
    raise CommitRefusedError(
        f"{contract.bronze_table}: {ATTEMPTS} attempts to rewrite its dead letters did not succeed, the last with: "
        f"{failure}. Nothing is lost; run the command again"
    )


def _choose(con: duckdb.DuckDBPyConnection, table: Table, selection: Selection) -> list[DataFile]:
    """Makes `chosen`: the selected dead letters, with `file`, their place in the files returned."""
    files = list(dead_letter_files(table))
    where, values = selection.where()
    number = "file_index" if files else "0"
    con.execute(
        f"CREATE TEMP TABLE chosen AS SELECT *, {number} AS file FROM {scan_files_sql(table, files)} WHERE {where}",
        values,
    )
    con.execute("CREATE TEMP TABLE renewed AS SELECT * EXCLUDE (file) FROM chosen WHERE false")
    return files


def _decode_again(con: duckdb.DuckDBPyConnection, declared: Contract, table: Table, ledger: Ledger) -> Fate | None:
    contract, before = in_bronze(declared, table.schema()), table.schema()
    decoder = Decoder(con, contract)
    logs = con.execute("SELECT DISTINCT _topic_id, _ingest_day FROM chosen ORDER BY ALL").fetchall()
    for topic_id, day in logs:
        records = con.execute(
            """SELECT _kafka_partition AS partition, _kafka_offset AS "offset", _kafka_ts AS timestamp,
                      _raw.key AS key, _raw.value AS value, _raw.headers AS headers
            FROM chosen WHERE _topic_id = ? AND _ingest_day = ? ORDER BY 1, 2""",
            [topic_id, day],
        ).to_arrow_table()
        decoded = decoder.decode(records.cast(RECORDS), topic_id, day, ledger.epochs(topic_id))
        con.execute(f"INSERT INTO renewed BY NAME {decoded.sql}")
        if decoded.dead:
            evolve(table, {}, decoder.wider_types(contract))
    if table.schema() != before:
        return None
    # What fails as before stays as it is; what fails otherwise stays discarded if it was.
    con.execute(
        f"CREATE TEMP TABLE same AS SELECT {_PLACE} FROM renewed r JOIN chosen c USING ({_PLACE}) "
        "WHERE r._error = c._error"
    )
    con.execute(f"CREATE TEMP TABLE settled AS SELECT {_PLACE} FROM chosen ANTI JOIN same USING ({_PLACE})")
    con.execute(
        """UPDATE renewed r SET _discarded = c._discarded FROM chosen c WHERE r._error IS NOT NULL
           AND r._topic_id = c._topic_id AND r._kafka_partition = c._kafka_partition
           AND r._kafka_offset = c._kafka_offset"""
    )
    reasons = con.execute(
        "SELECT _error.error_class, count(*) FROM renewed WHERE _error IS NOT NULL GROUP BY 1 ORDER BY 1"
    ).fetchall()
    chosen, all_, rows = con.execute(
        "SELECT (SELECT count(*) FROM chosen), count(*), count(*) FILTER (_error IS NULL) FROM renewed"
    ).fetchall()[0]
    con.execute(f"CREATE OR REPLACE TEMP TABLE renewed AS FROM renewed SEMI JOIN settled USING ({_PLACE})")
    return Fate(chosen, rows, skipped=chosen - all_, left=all_ - rows, reasons=dict(reasons))


def _mark_discarded(con: duckdb.DuckDBPyConnection, mark: Discarded) -> Fate:
    con.execute(f"CREATE TEMP TABLE settled AS SELECT {_PLACE} FROM chosen")
    con.execute("INSERT INTO renewed BY NAME SELECT * EXCLUDE (file) FROM chosen")
    con.execute(
        "UPDATE renewed SET _discarded = {'reason': ?, 'by': ?, 'at': ?::TIMESTAMPTZ}", [mark.reason, mark.by, mark.at]
    )
    (count,) = con.execute("SELECT count(*) FROM chosen").fetchall()[0]
    return Fate(count, discarded=count)


def _commit(con: duckdb.DuckDBPyConnection, table: Table, ledger: Ledger, files: list[DataFile], fate: Fate) -> int:
    """Writes the files that hold what is settled anew, one a day, and commits them with the ledger."""
    places = con.execute(f"SELECT DISTINCT _ingest_day, file FROM chosen SEMI JOIN settled USING ({_PLACE})").fetchall()
    added: list[DataFile] = []
    for day in sorted({day for day, _ in places}):
        old = [files[number] for of, number in places if of == day]
        added += write_files(
            con,
            table,
            f"SELECT * FROM {scan_files_sql(table, old)} ANTI JOIN settled USING ({_PLACE}) "
            f"UNION ALL BY NAME SELECT * FROM renewed WHERE _ingest_day = DATE '{day}'",
            order_by=("_kafka_partition", "_kafka_offset"),
            partition=day,
        )
    after = replace(ledger, rows=ledger.rows - fate.skipped)
    own = {"replayed": fate.rows, "skipped": fate.skipped, "discarded": fate.discarded, "left": fate.left}
    snapshot_id = commit(
        table,
        expected=ledger.snapshot_id,
        add=added,
        remove=[files[number] for number in sorted({number for _, number in places})],
        summary={**after.summary(), COMMIT: json.dumps(own, separators=(",", ":"))},
        tag=TAG,
        faults=FAULTS,
    )
    expire_if_due(table)
    return snapshot_id
