"""Plays a history: records into topics of its own, work with faults, and at the end a pass in which all is well."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

import clickhouse_connect
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from pyarrow.fs import FileSystem, LocalFileSystem

from orders_platform.contracts import Contract
from orders_platform.fault_points import FaultPoint
from orders_platform.settings import Settings
from orders_platform_tests.faults.history import History, Step
from orders_platform_tests.faults.oracle import NOTHING, Records, differences
from orders_platform_tests.faults.passes import Pass
from orders_platform_tests.faults.recording import Record, Recording, write
from orders_platform_tests.faults.remote_store import RemoteStore
from orders_platform_tests.faults.work import Kind, Work

HOUR_MS = 3_600_000
HEALING_PASSES = 3


@dataclass
class Outcome:
    """What became of a history; `differences` is empty when the tables are right."""

    history: History
    differences: list[str]
    seconds: float
    log: Path
    ends: list[str] = field(default_factory=list)
    """How each disturbed process ended."""


def play(
    history: History,
    recording: Recording,
    shared: Settings,
    contracts: Sequence[Contract],
    folder: Path,
    server: Mapping[str, str] | None = None,
) -> Outcome:
    """Plays one history against the broker and the ClickHouse of `shared`, in a home and topics of its own.

    `server`: the AWS SDK's variables of an S3 server, which a history with faults of such a one needs.
    """
    from orders_platform_tests.faults.recorded_faults import ACTIONS

    started = time.monotonic()
    player = Player(history.seed, recording, shared, contracts, folder, len(history.steps), server)
    found = []
    try:
        player.prepare()
        for step, portion in zip(history.steps, recording.portions(history.cuts), strict=True):
            player.play(step, portion, ACTIONS[step.fault])
        found = player.heal()
    except TimeoutError as error:
        found = [str(error)]
    finally:
        player.close(keep=bool(found))
    return Outcome(history, found, round(time.monotonic() - started, 1), player.log, player.ends)


class Player:
    """One history under way: its installation, its topics, the day that it has reached."""

    def __init__(
        self,
        seed: int,
        recording: Recording,
        shared: Settings,
        contracts: Sequence[Contract],
        folder: Path,
        days: int = 1,
        server: Mapping[str, str] | None = None,
    ) -> None:
        self.contracts = contracts
        self.folder = folder
        self.name = f"h{seed}_{uuid.uuid4().hex[:8]}"
        front = urlsplit(shared.clickhouse)
        self._front = shared.clickhouse
        self.store = RemoteStore(server, self.name) if server else None
        self.environment: Mapping[str, str] = {
            "ORDERS_PLATFORM_HOME": str(folder / "home"),
            "ORDERS_PLATFORM_TOPIC_PREFIX": self.name,
            "ORDERS_PLATFORM_KAFKA__BOOTSTRAP_SERVERS": shared.kafka_config["bootstrap.servers"],
            "ORDERS_PLATFORM_CLICKHOUSE_URL": front._replace(path=f"/{self.name}").geturl(),
            "ORDERS_PLATFORM_LAG_THRESHOLD_RECORDS": "1",
            **(self.store.environment if self.store else {}),
        }
        own = {
            "home": folder / "home",
            "topic_prefix": self.name,
            "kafka": {"bootstrap.servers": shared.kafka_config["bootstrap.servers"]},
            "clickhouse_url": self.environment["ORDERS_PLATFORM_CLICKHOUSE_URL"],
        }
        self.settings = self.store.settings(own) if self.store else Settings(_env_file=None, **own)
        self.log = folder / "passes.log"
        self.ends: list[str] = []
        self.written: list[Record] = []
        self.earlier: Records = NOTHING
        """What the topics held before they lost it."""
        self.after_next_write: list[Callable[[], object]] = []
        """What waits for the next portion: a transaction that stays open until then."""
        self.place: Callable[[Record], Record] = lambda record: record
        """To which partition a record goes."""
        self._recording = recording
        self.first_day = datetime.now(UTC) - timedelta(days=days - 1)
        self.day = self.first_day

    def prepare(self) -> None:
        """Topics whose records carry the times that the history gives them, so that it spans days; a database."""
        config = {
            "message.timestamp.type": "CreateTime",
            "message.timestamp.after.max.ms": str(HOUR_MS),
            "retention.ms": "-1",  # a long history starts further back than any retention reaches
        }
        topics = [
            NewTopic(c.topic(self.settings.topic_prefix), num_partitions=3, config=config) for c in self.contracts
        ]
        for future in self.admin.create_topics(topics).values():
            future.result(timeout=30)
        client = clickhouse_connect.get_client(dsn=self._front)
        client.command(f"CREATE DATABASE IF NOT EXISTS {self.name}")
        client.close()
        self.settings.home.mkdir(parents=True, exist_ok=True)

    def close(self, *, keep: bool) -> None:
        """Frees what is not in the history's folder; `keep`: it is put there before."""
        if self.store:
            if keep:
                self.store.keep(self.folder / "s3")
            self.store.close()

    @property
    def staged(self) -> tuple[FileSystem, str]:
        """Where staged files are, as pyarrow has it."""
        if self.store:
            return self.store.files, f"{self.store.prefix}/staging"
        return LocalFileSystem(), self.settings.staging

    @cached_property
    def admin(self) -> AdminClient:
        return AdminClient(self.settings.kafka_config)

    @property
    def days(self) -> tuple[date, date]:
        """The first day of the history, and the one that it has reached."""
        return self.first_day.date(), self.day.date()

    def play(self, step: Step, portion: Sequence[Record], action: Action) -> None:
        """Lets the fault happen to the portion, which is a day of its own."""
        action(self, step, portion)
        self.day += timedelta(days=1)

    def heal(self) -> list[str]:
        """Passes until one ends well, then what the oracle finds."""
        self._close()
        codes = []
        for _ in range(HEALING_PASSES):
            codes.append(self.start().wait())
            if codes[-1] == 0:
                return differences(self.settings, self.contracts, self._recording.state, self.earlier)
        return [f"the platform did not catch up when all was well: passes ended with {codes}, see {self.log}"]

    def start(self, work: Work | None = None, die_at: FaultPoint | None = None, times: int = 1) -> Pass:
        """A process at work for this installation."""
        return Pass(self.environment, self.log, work, die_at, times)

    def run(self, step: Step, work: Work | None = None) -> int:
        """Work to its end; by default what the lag sensor asks for, as that costs least."""
        code = self.start(work or Work(Kind.LAG_SENSOR)).wait()
        self.ended(step, code)
        return code

    def ended(self, step: Step, code: int, how: str = "") -> None:
        self.ends.append(f"{step}: {code}" + (f" ({how})" if how else ""))

    def write(self, records: Sequence[Record], producer: Producer | None = None) -> None:
        """Adds records to the topics, with the time of the day that the history has reached."""
        write(self.settings, self.contracts, [self.place(record) for record in records], self.day, producer)
        self.written += records
        if producer is None:
            self._close()

    def _close(self) -> None:
        waiting, self.after_next_write = self.after_next_write, []
        for each in waiting:
            each()


Action = Callable[[Player, Step, Sequence[Record]], None]
