"""Whether a follower holds everything that its source held at a moment: what differs after that is no delay."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from orders_platform.contracts import Contract
from orders_platform.ingest.errors import IngestError, LedgerError
from orders_platform.ingest.kafka_admin import KafkaAdmin, TopicLog
from orders_platform.ingest.ledger import Ledger
from orders_platform.ingest.offsets import Intervals
from orders_platform.lake.commits import head, own_properties
from orders_platform.lake.silver import BRONZE_SNAPSHOT
from orders_platform.quality.gold_inputs import sequence
from orders_platform.quality.shop_snapshot import confirmed_position, mark_present
from orders_platform.serving.daily_revenue import stale_days
from orders_platform.settings import Settings

BROKER_SECONDS = 3.0


@dataclass
class SilverFence:
    """Passed when silver has merged every change that was committed in PostgreSQL before the fence was made.

    Three steps, each asked when the one before has passed: Debezium has delivered everything up to then to Kafka (its
    replication slot says so); bronze holds the topic as far as it reached then; silver has merged that bronze.
    A step that cannot be asked has not passed.
    """

    settings: Settings
    catalog: Catalog
    contract: Contract
    _lsn: int = field(init=False)
    _log: TopicLog | None = field(default=None, init=False)
    _bronze_sequence: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._lsn = mark_present(self.settings.postgres)

    def __call__(self) -> bool:
        if self._log is None and self._delivered():
            self._log = self._topic()
        try:
            bronze = self.catalog.load_table(self.contract.bronze_table)
            if self._bronze_sequence is None and self._log is not None and _holds(bronze, self._log):
                self._bronze_sequence = sequence(bronze)
            return self._bronze_sequence is not None and self._merged(bronze) >= self._bronze_sequence
        except (NoSuchTableError, LedgerError):
            return False

    def _delivered(self) -> bool:
        confirmed = confirmed_position(self.settings.postgres)
        return confirmed is not None and confirmed >= self._lsn

    def _topic(self) -> TopicLog | None:
        try:
            return KafkaAdmin(self.settings, BROKER_SECONDS).topic(self.contract.topic(self.settings.topic_prefix))
        except IngestError:
            return None

    def _merged(self, bronze: Table) -> int:
        """Sequence number of the bronze snapshot that silver's head has merged, 0 for none."""
        silver = self.catalog.load_table(self.contract.silver_table)
        applied = own_properties(silver, head(silver)).get(BRONZE_SNAPSHOT)
        return sequence(bronze, int(applied)) if applied else 0


def _holds(bronze: Table, log: TopicLog) -> bool:
    # Up to the high watermark: what the slot has confirmed may be marked as committed a moment later.
    wanted = {p: Intervals(((bounds.start, bounds.high_watermark),)) for p, bounds in log.partitions.items()}
    ledger = Ledger.read(bronze)
    return not ledger.missing(ledger.known(log).topic_id, wanted)


@dataclass(frozen=True)
class ClickHouseFence:
    """Passed when no day shows another commit than gold's last one to it."""

    settings: Settings
    catalog: Catalog

    def __call__(self) -> bool:
        return not stale_days(self.settings, self.catalog)
