"""Whether a follower holds everything that its source held at a moment: what differs after that is no delay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from orders_platform.contracts import Contract
from orders_platform.ingest.errors import IngestError, LedgerError
from orders_platform.ingest.kafka_admin import KafkaAdmin, TopicLog
from orders_platform.ingest.ledger import Ledger
from orders_platform.ingest.offsets import Intervals
from orders_platform.lake.commits import head, own_properties
from orders_platform.lake.gold_mark import read_mark
from orders_platform.lake.silver import BRONZE_SNAPSHOT
from orders_platform.serving.daily_revenue import stale_days
from orders_platform.settings import Settings

BROKER_SECONDS = 3.0


@dataclass
class SilverFence:
    """Passed when silver has merged every change that was committed in PostgreSQL below `lsn`.

    Three steps, each asked when the one before has passed: Debezium has delivered everything below `lsn` to Kafka (its
    replication slot says so); bronze holds the topic as far as it reached then; silver has merged that bronze.
    A step that cannot be asked has not passed.
    """

    settings: Settings
    catalog: Catalog
    contract: Contract
    lsn: int
    _log: TopicLog | None = field(default=None, init=False)
    _bronze_sequence: int | None = field(default=None, init=False)

    def __call__(self) -> bool:
        if self._log is None and self._delivered():
            self._log = self._topic()
        try:
            bronze = self.catalog.load_table(self.contract.bronze_table)
            if self._bronze_sequence is None and self._log is not None and _holds(bronze, self._log):
                self._bronze_sequence = _sequence(bronze)
            return self._bronze_sequence is not None and self._merged(bronze) >= self._bronze_sequence
        except (NoSuchTableError, LedgerError):
            return False

    def _delivered(self) -> bool:
        """Whether the slot that has come least far is beyond `lsn`."""
        with psycopg.connect(self.settings.postgres) as connection:
            row = connection.execute(
                "SELECT min(confirmed_flush_lsn) - '0/0' FROM pg_replication_slots"
                " WHERE database = current_database() AND plugin = 'pgoutput' AND NOT temporary"
            ).fetchone()
        return row is not None and row[0] is not None and int(row[0]) >= self.lsn

    def _topic(self) -> TopicLog | None:
        try:
            return KafkaAdmin(self.settings, BROKER_SECONDS).topic(self.contract.topic(self.settings.topic_prefix))
        except IngestError:
            return None

    def _merged(self, bronze: Table) -> int:
        """Sequence number of the bronze snapshot that silver's head has merged, 0 for none."""
        silver = self.catalog.load_table(self.contract.silver_table)
        applied = own_properties(silver, head(silver)).get(BRONZE_SNAPSHOT)
        return _sequence(bronze, int(applied)) if applied else 0


def _holds(bronze: Table, log: TopicLog) -> bool:
    wanted = {p: Intervals(((bounds.start, bounds.stable_end),)) for p, bounds in log.partitions.items()}
    return not Ledger.read(bronze).missing(log.topic_id, wanted)


@dataclass
class GoldFence:
    """Passed when a gold table was built from its inputs as they were at the start (or later) and owes no date."""

    catalog: Catalog
    identifier: str
    _inputs: Mapping[str, int] | None = field(default=None, init=False)

    def __call__(self) -> bool:
        try:
            mark = read_mark(self.catalog.load_table(self.identifier))
        except NoSuchTableError:
            return False
        if mark is None:
            return False
        tables = {identifier: self.catalog.load_table(identifier) for identifier in mark.inputs}
        if self._inputs is None:
            self._inputs = {identifier: _sequence(table) for identifier, table in tables.items()}
        return not mark.pending and all(
            _sequence(table, mark.inputs[identifier]) >= self._inputs.get(identifier, 0)
            for identifier, table in tables.items()
        )


@dataclass(frozen=True)
class ClickHouseFence:
    """Passed when no day shows another commit than gold's last one to it."""

    settings: Settings
    catalog: Catalog

    def __call__(self) -> bool:
        return not stale_days(self.settings, self.catalog)


def _sequence(table: Table, snapshot_id: int | None = None) -> int:
    """Sequence number of a snapshot, main's head by default; 0 where it is gone, or there is none."""
    snapshot = table.metadata.snapshot_by_id(snapshot_id) if snapshot_id is not None else table.current_snapshot()
    return snapshot.sequence_number or 0 if snapshot else 0
