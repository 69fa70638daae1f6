"""Whether a follower holds everything that its source held at a moment: what differs after that is no delay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from orders_platform.contracts import Contract
from orders_platform.ingest.errors import IngestError
from orders_platform.ingest.kafka_admin import KafkaAdmin
from orders_platform.lake.gold_mark import read_mark
from orders_platform.serving.daily_revenue import stale_days
from orders_platform.settings import Settings

BROKER_SECONDS = 3.0


@dataclass
class SilverFence:
    """Passed when silver has merged every change that was committed in PostgreSQL below `lsn`.

    Three steps, each asked only when the one before has passed: Debezium has delivered everything below `lsn` to Kafka
    (its replication slot says so); bronze holds the topic as far as it reached then; silver has merged that bronze.
    Where one of them cannot be asked, it has not passed.
    """

    settings: Settings
    catalog: Catalog
    contract: Contract
    lsn: int
    _ends: Mapping[int, int] | None = field(default=None, init=False)

    def __call__(self) -> bool:
        if self._ends is None and self._delivered():
            self._ends = self._log_ends()
        return self._ends is not None and self._merged(self._ends)

    def _delivered(self) -> bool:
        with psycopg.connect(self.settings.postgres) as connection:
            row = connection.execute(
                "SELECT min(confirmed_flush_lsn) - '0/0' FROM pg_replication_slots"
                " WHERE database = current_database() AND plugin = 'pgoutput' AND NOT temporary"
            ).fetchone()
        return row is not None and row[0] is not None and int(row[0]) >= self.lsn

    def _log_ends(self) -> Mapping[int, int] | None:
        try:
            log = KafkaAdmin(self.settings, BROKER_SECONDS).topic(self.contract.topic(self.settings.topic_prefix))
        except IngestError:
            return None
        return {partition: bounds.stable_end for partition, bounds in log.partitions.items()}

    def _merged(self, ends: Mapping[int, int]) -> bool:
        return False


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
