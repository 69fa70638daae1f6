"""`bronze_*`: staged records as typed rows of an Iceberg table, each exactly once.

What is to be loaded follows from what is staged and from the ledger in the table's head, nothing else. The commit is
conditional on that head; after any failure the table is read again and what is left is planned anew.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import duckdb
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.expressions.parser import parse
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from orders_platform.contracts import Contract
from orders_platform.fault_points import FaultPoint
from orders_platform.ingest.boundaries import TopicMemory
from orders_platform.ingest.cover import Slice, cover_day, cover_of_former
from orders_platform.ingest.dead_letters import DEAD
from orders_platform.ingest.decoding import Decoded, Decoder
from orders_platform.ingest.drift import Drift
from orders_platform.ingest.errors import CommitRefusedError, StagedFileError
from orders_platform.ingest.evolution import Evolution
from orders_platform.ingest.kafka_admin import KafkaAdmin, TopicLog
from orders_platform.ingest.ledger import COMMIT, TAG, Ledger
from orders_platform.ingest.log_guard import refuse_another_log
from orders_platform.ingest.offsets import OffsetRange, by_partition, flatten
from orders_platform.ingest.positions import Fall, Place, falls, highest_within
from orders_platform.ingest.rewound import HISTORY, add_to_history, make_history, refuse_rewound
from orders_platform.ingest.staged_file import read, sliced
from orders_platform.ingest.staging_files import Storage, storage
from orders_platform.lake.catalog import ensure_table
from orders_platform.lake.commits import CommitFaults, CommitUnknownError, ConflictError, commit
from orders_platform.lake.duckdb_engine import connect_alone, scan_files_sql, scan_sql, write_files
from orders_platform.lake.evolved import in_bronze, settle
from orders_platform.lake.maintenance import expire_if_due
from orders_platform.lake.schemas import beyond_sql, bronze_schema
from orders_platform.settings import Settings

ATTEMPTS = 8
BATCH_RECORDS = 200_000
FAULTS = CommitFaults(
    FaultPoint.BRONZE_BEFORE_COMMIT, FaultPoint.BRONZE_COMMIT_UNANSWERED, FaultPoint.BRONZE_AFTER_COMMIT
)


@dataclass(frozen=True)
class BronzeResult:
    """What one call loaded. records = rows + dead + tombstones + skipped; `ranges` are the offsets it added, `bytes`
    the size of the files that it wrote.

    `late` rows were committed in the shop before the day, in UTC. `drift` says how the shop's table differs from its
    contract, and `drift_is_new` that the load before did not see it so. Where no row was among the records, it is what
    the last rows said.

    `snapshot_id` is that of its last commit, None when there was nothing to load; `ledger` is the table's afterwards.
    """

    day: date
    snapshot_id: int | None
    rows: int
    tombstones: int
    skipped: int
    dead: int
    late: int
    bytes: int
    ranges: tuple[OffsetRange, ...]
    ledger: Ledger
    drift: Drift = field(default_factory=Drift)
    drift_is_new: bool = False


def bronze_table(catalog: Catalog, contract: Contract) -> Table:
    """The table, made if it is missing."""
    return ensure_table(
        catalog,
        contract.bronze_table,
        bronze_schema(contract),
        partition_by="_ingest_day",
        bounds=["_kafka_partition", "_kafka_offset", "_lsn", DEAD],
        prepare=lambda table: settle(table, contract, masked=False),
    )


def load_day(
    settings: Settings, catalog: Catalog, contract: Contract, day: date, place: Storage | None = None
) -> BronzeResult:
    """Loads what is staged of a day and not in the table; loading again changes nothing.

    Args:
        place: where files are staged, if not to be opened from the settings.

    Raises:
        LostRecordsError: offsets of the day are neither loaded nor staged nor in Kafka, or the topic is another one.
        PositionFellError: the source went back in time.
        LedgerError: the table's ledger is missing or cannot be believed.
        CommitRefusedError: others kept committing first; nothing is lost, run it again.
        BrokerUnavailableError: Kafka does not answer.
    """
    return _run(catalog, _Load(settings, contract, day, place or storage(settings)))


def load_former(
    settings: Settings, catalog: Catalog, contract: Contract, day: date, former: TopicLog, place: Storage
) -> BronzeResult:
    """Loads what is staged of a day of a log that cannot be read any more. Raises as `load_day`."""
    return _run(catalog, _Load(settings, contract, day, place, former))


def rehearse(
    settings: Settings,
    catalog: Catalog,
    contract: Contract,
    day: date,
    former: TopicLog | None = None,
    place: Storage | None = None,
) -> None:
    """Decodes what a load of the day would load, and raises what would stop it; commits nothing."""
    _Load(settings, contract, day, place or storage(settings), former).rehearse(bronze_table(catalog, contract))


def _run(catalog: Catalog, load: _Load) -> BronzeResult:
    contract, day = load.contract, load.day
    table = bronze_table(catalog, contract)
    failure: Exception | None = None
    attempts = 0
    while attempts < ATTEMPTS:
        try:
            ledger = load.step(table)
            if ledger is not None:
                return load.result(ledger)
        except (ConflictError, CommitUnknownError) as error:
            # Whether it landed is for the table's head to say: what its ledger holds is done.
            failure, attempts = error, attempts + 1
            load.forget(unless_landed=isinstance(error, CommitUnknownError))
            table = catalog.load_table(contract.bronze_table)
        except StagedFileError as error:
            failure, attempts = error, attempts + 1
            load.set_aside(error)
    raise CommitRefusedError(
        f"{contract.bronze_table}: {ATTEMPTS} attempts to load {day} did not succeed, the last with: {failure}. "
        f"Nothing is lost; the next run takes the same records"
    )


class _Load:
    """One call of `load_day`: what it has planned and what of it is known to be in the table.

    `former` is a log that cannot be read any more, of which the rest that is staged is loaded instead.
    """

    def __init__(
        self, settings: Settings, contract: Contract, day: date, place: Storage, former: TopicLog | None = None
    ) -> None:
        self.settings, self.contract, self.day, self.place = settings, contract, day, place
        self._former = former
        self._counts: Counter[str] = Counter()
        self._ranges: list[OffsetRange] = []
        self._planned: tuple[list[OffsetRange], Counter[str]] | None = None
        self._snapshot_id: int | None = None
        self._drift: Drift | None = None
        self._drift_is_new = False

    def step(self, table: Table) -> Ledger | None:
        """One plan and its commit; the ledger if nothing was left to do. Raises what `lake.commits.commit` raises."""
        ledger, log, slices = self._plan(table)
        self._confirm(ledger, log.topic_id)
        if not slices:
            return ledger
        self._commit(table, ledger, log, list(_limited(slices, self.settings.max_records_per_run)))
        return None

    def rehearse(self, table: Table) -> None:
        """Decodes everything that is to be loaded and judges it; writes nothing."""
        ledger, log, slices = self._plan(table)
        places = _places_before(ledger, log, slices)
        first: dict[int, Fall] = {}
        with connect_alone(self.settings) as con:
            make_history(con)
            known = lambda lsns: f"(FROM {_with_lsn(table, lsns)} UNION ALL BY NAME FROM {HISTORY})"  # noqa: E731
            for rows in self._decoded(con, table, ledger, log, slices, evolving=False):
                for fall in falls(con, rows.positions_sql, places, known):
                    first.setdefault(fall.partition, fall)
                places = highest_within(con, rows.positions_sql, places)
                add_to_history(con, rows.positions_sql)
            if first:
                refuse_rewound(con, KafkaAdmin(self.settings), table, log, ledger, list(first.values()))

    def _decoded(
        self,
        con: duckdb.DuckDBPyConnection,
        bronze: Table,
        ledger: Ledger,
        log: TopicLog,
        slices: Sequence[Slice],
        evolving: bool = True,
    ) -> Iterator[Decoded]:
        """The slices' records, batch by batch; the table takes up what of the shop's has evolved before they are."""
        decoder, epochs = Decoder(con, self.contract), ledger.epochs(log.topic_id)
        for records in self._batches(slices):
            decided = Evolution(self.contract, bronze, log.name, commits=evolving)
            decoded = decoder.decode(records, log.topic_id, self.day, epochs, decided.judge)
            if decoded.dead and (wider := decoder.wider_types(decided.contract)):
                decided.widen(wider)
                decoded = decoder.decode(records, log.topic_id, self.day, epochs, decided.judge)
            if decided.drift is not None:
                self._drift = (self._drift or Drift()) | decided.drift
            yield decoded

    def _plan(self, table: Table) -> tuple[Ledger, TopicLog, tuple[Slice, ...]]:
        """What is loaded, from which log the rest comes, and what there is of it."""
        ledger = Ledger.read(table)
        if self._former is not None:
            return ledger, self._former, cover_of_former(self.place, self._former, ledger, self.day)
        admin = KafkaAdmin(self.settings)
        log = ledger.known(admin.topic(self.contract.topic(self.settings.topic_prefix)))
        refuse_another_log(log, ledger, self.place)
        memory = TopicMemory(self.place, log.name, log.topic_id)
        return ledger, log, cover_day(self.settings, self.place, memory, log, admin, ledger, self.day)

    def forget(self, *, unless_landed: bool) -> None:
        """After a refused commit; one without an answer is looked for in the ledger of the next step."""
        if not unless_landed:
            self._planned = None

    def set_aside(self, error: StagedFileError) -> None:
        """Frees the name of a file that cannot be used, so that its offsets are staged again."""
        self.place.set_aside(error.name)

    def _commit(self, table: Table, ledger: Ledger, log: TopicLog, slices: Sequence[Slice]) -> None:
        with connect_alone(self.settings) as con:
            ranges = list(flatten(by_partition(each.range for each in slices)))
            files, counts, positions = self._write(con, table, ledger, log, slices)
            ends = {each.partition: each.next for each in ranges}
            known = ledger.positions.get(log.topic_id, {})
            places = {
                p: replace(place, next=ends[p])
                for p, place in positions.items()
                if p in ends and (p not in known or ends[p] >= known[p].next)
            }
            after = ledger.including(log.topic_id, ranges, counts["rows"] + counts["dead"], places, log.cluster_id)
            own = {
                "day": self.day.isoformat(),
                "topic_id": log.topic_id,
                "ranges": [[each.partition, each.first, each.next] for each in ranges],
                **{name: counts[name] for name in ("records", "rows", "dead", "tombstones", "skipped")},
            }
            self._planned = ranges, counts
            if self._drift is not None and log.topic_id not in ledger.closed:
                after = replace(after, drift=self._drift)
            self._drift_is_new |= after.drift != ledger.drift
            self._snapshot_id = commit(
                table,
                expected=ledger.snapshot_id,
                add=files,
                summary={**after.summary(), COMMIT: json.dumps(own, separators=(",", ":"))},
                tag=TAG,
                faults=FAULTS,
            )
        expire_if_due(table)

    def _confirm(self, ledger: Ledger, topic_id: str) -> None:
        """Counts the last planned commit if the ledger says that it is in the table; forgets it if not."""
        if self._planned is None:
            return
        ranges, counts = self._planned
        if not ledger.missing(topic_id, by_partition(ranges)):
            self._ranges += ranges
            self._counts += counts
            self._snapshot_id = ledger.snapshot_id
        self._planned = None

    def result(self, ledger: Ledger) -> BronzeResult:
        counts = self._counts
        return BronzeResult(
            self.day,
            self._snapshot_id if self._ranges else None,
            counts["rows"],
            counts["tombstones"],
            counts["skipped"],
            counts["dead"],
            counts["late"],
            counts["bytes"],
            flatten(by_partition(self._ranges)),
            ledger,
            ledger.drift,
            self._drift_is_new,
        )

    def _write(
        self, con: duckdb.DuckDBPyConnection, table: Table, ledger: Ledger, log: TopicLog, slices: Sequence[Slice]
    ) -> tuple[list[DataFile], Counter[str], dict[int, Place]]:
        """Data files of the slices' records, batch by batch, with counts and where the partitions stand after them."""
        files: list[DataFile] = []
        counts: Counter[str] = Counter()
        places = _places_before(ledger, log, slices)
        known = lambda lsns: f"(FROM {_with_lsn(table, lsns)} UNION ALL BY NAME FROM {scan_files_sql(table, files)})"  # noqa: E731
        for decoded in self._decoded(con, table, ledger, log, slices):
            counts.update(
                records=decoded.records,
                rows=decoded.rows,
                dead=decoded.dead,
                tombstones=decoded.tombstones,
                skipped=decoded.skipped,
                late=decoded.late,
            )
            if falls(con, decoded.positions_sql, places, known):
                # Where the new history begins takes a look at all that is to be loaded; that one raises.
                self.rehearse(table)
            places = highest_within(con, decoded.positions_sql, places)
            further = beyond_sql(table.schema(), bronze_schema(in_bronze(self.contract, table.schema())))
            files += write_files(con, table, f"SELECT *{further} FROM ({decoded.sql})", partition=self.day)
        counts["bytes"] = sum(file.file_size_in_bytes for file in files)
        return files, counts, places

    def _batches(self, slices: Sequence[Slice]) -> Iterator[pa.Table]:
        """Records of several files at a time: few data files for small loads, bounded memory for large ones."""
        waiting: list[pa.Table] = []
        for each in slices:
            waiting.append(sliced(read(self.place, each.file), each.range.first, each.range.next))
            if sum(table.num_rows for table in waiting) >= BATCH_RECORDS:
                yield pa.concat_tables(waiting)
                waiting = []
        if waiting:
            yield pa.concat_tables(waiting)


def _places_before(ledger: Ledger, log: TopicLog, slices: Sequence[Slice]) -> dict[int, Place]:
    """Where the partitions stand; only a load that follows is compared with what was before it, an older day is not."""
    firsts: dict[int, int] = {}
    for each in slices:
        firsts[each.range.partition] = min(each.range.first, firsts.get(each.range.partition, each.range.first))
    known = ledger.places(log.topic_id)
    return {p: known[p] for p, first in firsts.items() if p in known and first >= known[p].next}


def _with_lsn(table: Table, lsns: list[int]) -> str:
    """A FROM item of what is loaded, as far as it may have one of these LSNs."""
    return scan_sql(table, row_filter=parse(f"_lsn IN ({', '.join(map(str, lsns))})"))


def _limited(slices: Sequence[Slice], offsets: int) -> Iterator[Slice]:
    """The first slices with about so many offsets, at least one: a larger load commits several times."""
    left = offsets
    for each in slices:
        if left <= 0:
            return
        yield each
        left -= each.range.offsets
