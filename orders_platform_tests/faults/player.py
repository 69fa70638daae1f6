"""Plays a history: records into topics of its own, work with faults, and at the end a pass in which all is well."""

from __future__ import annotations

import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

import clickhouse_connect
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from pyarrow.fs import FileSystem, LocalFileSystem

from orders_platform.contracts import Contract
from orders_platform.fault_points import FaultPoint
from orders_platform.settings import Settings
from orders_platform_tests.faults.history import History, Step
from orders_platform_tests.faults.oracle import differences
from orders_platform_tests.faults.passes import Pass
from orders_platform_tests.faults.recording import READ_SECONDS, Kept, Record, Recording, read_topic, write
from orders_platform_tests.faults.remote_store import RemoteStore
from orders_platform_tests.faults.work import Kind, Work
from orders_platform_tests.ingest.broker_admin import settled, wait_until_unknown

PARTITIONS = 3
TOPIC_CONFIG = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": "3600000",
    "retention.ms": "-1",  # a long history starts further back than any retention reaches
}
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
    notes: list[str] = field(default_factory=list)
    """What else is worth saying."""


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
    player = Player(history.seed, recording, shared, contracts, folder, history.days, server)
    found: list[str] = []
    try:
        with noted(found):
            player.prepare()
            for step, portion in zip(history.steps, recording.portions(history.cuts, history.moving), strict=True):
                player.play(step, portion, ACTIONS[step.fault])
            found += player.heal()
        if found:
            with noted(found):
                player.keep()
    finally:
        with noted(player.notes):  # what cannot be cleaned up makes no table wrong
            player.close()
    return Outcome(history, found, round(time.monotonic() - started, 1), player.log, player.ends, player.notes)


@contextmanager
def noted(found: list[str]) -> Iterator[None]:
    """Whatever a history meets is what is found of it, and ends no other."""
    try:
        yield
    except TimeoutError as error:
        found.append(str(error) or traceback.format_exc())
    except Exception:  # noqa: BLE001 the failure of a part says as much as a wrong table
        found.append(traceback.format_exc())


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
        self.notes: list[str] = []
        self.written: list[Record] = []
        self.earlier: dict[str, list[Kept]] = {}
        """What the topics held before they lost it, per table."""
        self.partitions = PARTITIONS
        self.accepts = False
        """Whether a gap was accepted: a table that is rolled back to before that stops once more."""
        self.unheard: list[str] = []
        """What should have stopped a run, and has not."""
        self.after_next_write: list[Callable[[], object]] = []
        """What waits for the next portion: a transaction that stays open until then."""
        self.after_everything: list[Work] = []
        """What is done when all has been carried, with nothing behind it that would mend what it breaks."""
        self.place: Callable[[Record], Record] = lambda record: record
        """To which partition a record goes."""
        self._recording = recording
        self.first_day = datetime.now(UTC) - timedelta(days=days - 1)
        self.day = self.first_day

    def prepare(self) -> None:
        """Topics whose records carry the times that the history gives them, so that it spans days; a database."""
        self._make_topics()
        self._say_to_clickhouse(f"CREATE DATABASE IF NOT EXISTS {self.name}")
        self.settings.home.mkdir(parents=True, exist_ok=True)

    def keep(self) -> None:
        """Puts what is not in the history's folder there: topics, ClickHouse's table, and what was on S3."""
        if self.store:
            self.store.keep(self.folder / "s3")
        with (self.folder / "topics.jsonl").open("w", encoding="utf-8") as file:
            for contract in self.contracts:
                for kept in read_topic(self.settings, contract):
                    file.write(kept.as_json() + "\n")
        client = clickhouse_connect.get_client(dsn=self.settings.clickhouse)
        if client.command("EXISTS TABLE daily_revenue"):
            shown = client.raw_query("SELECT * FROM daily_revenue", fmt="TSVWithNames")
            (self.folder / "daily_revenue.tsv").write_bytes(shown)
        client.close()

    def close(self) -> None:
        """Frees what is not in the history's folder."""
        if self.store:
            self.store.close()
        for future in self.admin.delete_topics(self.topics).values():
            with suppress(KafkaException):
                future.result(READ_SECONDS)
        self._say_to_clickhouse(f"DROP DATABASE IF EXISTS {self.name}")

    def _say_to_clickhouse(self, command: str) -> None:
        client = clickhouse_connect.get_client(dsn=self._front)
        client.command(command)
        client.close()

    @property
    def staged(self) -> tuple[FileSystem, str]:
        """Where staged files are, as pyarrow has it."""
        if self.store:
            return self.store.files, f"{self.store.prefix}/staging"
        return LocalFileSystem(), self.settings.staging

    @property
    def topics(self) -> list[str]:
        return [contract.topic(self.settings.topic_prefix) for contract in self.contracts]

    def _make_topics(self) -> None:
        wanted = [NewTopic(name, num_partitions=self.partitions, config=TOPIC_CONFIG) for name in self.topics]
        deadline = time.monotonic() + READ_SECONDS
        while wanted:
            made = self.admin.create_topics(wanted)
            wanted = [topic for topic in wanted if not _is_made(made[topic.topic], deadline)]

    def make_topics_anew(self) -> None:
        """Deletes the topics and makes others of their names."""
        for future in self.admin.delete_topics(self.topics).values():
            future.result(READ_SECONDS)
        wait_until_unknown(self.admin, self.topics)
        self._make_topics()

    @cached_property
    def admin(self) -> AdminClient:
        return AdminClient(self.settings.kafka_config)

    @property
    def days(self) -> tuple[date, date]:
        """The first day of the history, and the one that it has reached."""
        return self.first_day.date(), self.day.date()

    @property
    def first_order_date(self) -> date:
        placed: Iterable[datetime] = (order["created_at"] for order in self._recording.state["orders"].values())
        return min(placed).astimezone(self.settings.time_zone).date()

    def play(self, step: Step, portion: Sequence[Record], action: Action) -> None:
        """Lets the fault happen to the portion, which is a day of its own."""
        action(self, step, portion)
        self.day += timedelta(days=1)

    def heal(self) -> list[str]:
        """Passes until one ends well, what comes after everything, then what the oracle finds."""
        self._close()
        self._settle()
        codes = []
        for _ in range(HEALING_PASSES):
            codes.append(self.start().wait())
            if codes[-1] and self.accepts:
                self.start(Work(Kind.GAPS_ACCEPTED)).wait()
            if codes[-1] == 0:
                self.unheard += [
                    f"{work} ended with {code} after everything"
                    for work in self.after_everything
                    if (code := self.start(work).wait())
                ]
                return self.unheard + differences(self.settings, self.contracts, self._recording.state, self.earlier)
        return [f"the platform did not catch up when all was well: passes ended with {codes}, see {self.log}"]

    def remember(self, step: Step) -> list[Kept]:
        """Loads all that the topics hold and takes it down, as the oracle may not find it there later.

        Raises:
            TimeoutError: if it cannot be loaded.
        """
        self._close()
        self._settle()
        held = [kept for contract in self.contracts for kept in read_topic(self.settings, contract)]
        for kept in held:
            self.earlier.setdefault(kept.record.table, []).append(kept)
        codes = []
        while len(codes) < HEALING_PASSES:
            codes.append(self.run(step))
            if codes[-1] == 0:
                return held
        raise TimeoutError(f"{step}: the platform did not catch up before it: runs ended with {codes}, see {self.log}")

    def _settle(self) -> None:
        """Waits until the outcome of every transaction is in its log: the producer has its answer before."""
        for topic in self.topics:
            settled(self.settings, topic)

    def start(self, work: Work | None = None, die_at: FaultPoint | None = None, times: int = 1) -> Pass:
        """A process at work for this installation."""
        return Pass(self.environment, self.log, work, die_at, times)

    def run(self, step: Step, work: Work | None = None) -> int:
        """Work to its end; by default what the lag sensor asks for, as that costs least."""
        code = self.start(work or Work(Kind.LAG_SENSOR)).wait()
        self.ended(step, code)
        return code

    def stop_and_accept(self, step: Step, error: type[Exception]) -> None:
        """A run that must stop with this error, and what an operator does then."""
        before = len(self.log.read_text())
        code = self.run(step)
        if code != 1 or error.__name__ not in self.log.read_text()[before:]:
            self.unheard.append(f"{step}: the run ended with {code} and said nothing of a {error.__name__}")
        self.accepts = True
        self.run(step, Work(Kind.GAPS_ACCEPTED))

    def delete_records(self, ends: Mapping[tuple[str, int], int]) -> None:
        """Retention takes what is before these offsets, by table and partition; -1 is everything."""
        topics = {contract.table: contract.topic(self.settings.topic_prefix) for contract in self.contracts}
        below = [TopicPartition(topics[table], partition, end) for (table, partition), end in ends.items()]
        for future in self.admin.delete_records(below).values():
            future.result(timeout=READ_SECONDS)

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


def _is_made(future: Future[None], deadline: float) -> bool:
    """False while one of that name is still being removed."""
    try:
        future.result(READ_SECONDS)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS or time.monotonic() > deadline:
            raise
        time.sleep(0.1)
        return False
    return True


Action = Callable[[Player, Step, Sequence[Record]], None]
