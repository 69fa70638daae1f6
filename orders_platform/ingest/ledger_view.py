"""What a ledger says, partition by partition, for people and programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError

from orders_platform.contracts import Contract
from orders_platform.ingest.gaps import END
from orders_platform.ingest.ledger import Ledger
from orders_platform.lake.duckdb_engine import connect, scan_sql
from orders_platform.settings import Settings


@dataclass(frozen=True)
class PartitionView:
    """One partition of one log: which offsets are loaded, which were accepted as lost, and what they came to.

    `rows` and `dead_letters` are None unless they were counted. Offsets are more than rows: tombstones, skipped,
    aborted and control records take some too.
    """

    log_id: str
    partition: int
    loaded: tuple[tuple[int, int], ...]
    lost: tuple[tuple[int, int], ...]
    offsets: int
    commit_position: int | None
    epoch: int
    closed: bool
    rows: int | None = None
    dead_letters: int | None = None


@dataclass(frozen=True)
class LedgerView:
    """A table's ledger. `gaps` are those that were accepted, as they are recorded."""

    table: str
    snapshot_id: int | None
    rows: int
    partitions: tuple[PartitionView, ...]
    gaps: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; a range without a known end has null there."""
        partitions = [{**vars(p), "lost": [[f, None if e == END else e] for f, e in p.lost]} for p in self.partitions]
        return {**vars(self), "partitions": partitions, "gaps": list(self.gaps)}


def view(settings: Settings, catalog: Catalog, contract: Contract, *, count_rows: bool = False) -> LedgerView:
    """The ledger of a table; with `count_rows`, rows are counted, which reads two columns of the whole table.

    Raises:
        LedgerError: if it is missing or cannot be believed.
    """
    try:
        table = catalog.load_table(contract.bronze_table)
    except NoSuchTableError:
        return LedgerView(contract.table, None, 0, (), ())
    ledger = Ledger.read(table)
    counts: dict[tuple[str, int], tuple[int, int]] = {}
    if count_rows:
        with connect(settings) as con:
            found = con.execute(
                f"SELECT _topic_id, _kafka_partition, count(*), count(_error) FROM {scan_sql(table)} GROUP BY ALL"
            ).fetchall()
        counts = {(log, partition): (rows, dead) for log, partition, rows, dead in found}
    places = {(log, p) for log, held in ledger.intervals.items() for p in held}
    places |= {(each.gap.log_id, p) for each in ledger.accepted for p, _, _ in each.gap.ranges}
    partitions = tuple(
        _partition(ledger, log, p, counts.get((log, p), (0, 0)) if count_rows else None) for log, p in sorted(places)
    )
    gaps = tuple(each.to_dict() for each in ledger.accepted)
    return LedgerView(contract.table, ledger.snapshot_id, ledger.rows, partitions, gaps)


def _partition(ledger: Ledger, log: str, partition: int, counted: tuple[int, int] | None) -> PartitionView:
    loaded = ledger.of(log, partition)
    place = ledger.positions.get(log, {}).get(partition)
    rows, dead = counted or (None, None)
    return PartitionView(
        log,
        partition,
        loaded.pairs,
        ledger.done(log, partition).subtract(loaded).pairs,
        loaded.offsets,
        place.position if place else None,
        ledger.epoch_at(log, partition, max(0, loaded.next - 1)),
        log in ledger.closed,
        rows,
        dead,
    )
