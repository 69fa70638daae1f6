"""Plays a history: records into topics of its own, passes with faults, and at the end a pass in which all is well."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import clickhouse_connect
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from orders_platform.contracts import Contract
from orders_platform.fault_points import FaultPoint
from orders_platform.lake.catalog import open_catalog
from orders_platform.settings import Settings
from orders_platform_tests.faults.history import Fault, History, Step
from orders_platform_tests.faults.oracle import differences
from orders_platform_tests.faults.passes import Pass
from orders_platform_tests.faults.recording import Record, Recording, write

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
    """How each disturbed pass ended."""


def play(
    history: History, recording: Recording, shared: Settings, contracts: Sequence[Contract], folder: Path
) -> Outcome:
    """Plays one history against the broker and the ClickHouse of `shared`, in a home and topics of its own."""
    started = time.monotonic()
    player = Player(history, recording, shared, contracts, folder)
    player.prepare()
    for step, portion in zip(history.steps, recording.portions(history.cuts), strict=True):
        player.play(step, portion)
    found = player.heal()
    return Outcome(history, found, round(time.monotonic() - started, 1), player.log, player.ends)


class Player:
    """One history under way."""

    def __init__(
        self, history: History, recording: Recording, shared: Settings, contracts: Sequence[Contract], folder: Path
    ) -> None:
        self._history = history
        self._recording = recording
        self._contracts = contracts
        self._database = f"h{history.seed}_{os.getpid()}"
        front = urlsplit(shared.clickhouse)
        self._front = shared.clickhouse
        self.environment: Mapping[str, str] = {
            "ORDERS_PLATFORM_HOME": str(folder / "home"),
            "ORDERS_PLATFORM_TOPIC_PREFIX": self._database,
            "ORDERS_PLATFORM_KAFKA__BOOTSTRAP_SERVERS": shared.kafka_config["bootstrap.servers"],
            "ORDERS_PLATFORM_CLICKHOUSE_URL": front._replace(path=f"/{self._database}").geturl(),
        }
        self.settings = Settings(
            _env_file=None,  # type: ignore[call-arg]
            home=folder / "home",
            topic_prefix=self._database,
            kafka={"bootstrap.servers": shared.kafka_config["bootstrap.servers"]},
            clickhouse_url=self.environment["ORDERS_PLATFORM_CLICKHOUSE_URL"],  # type: ignore[arg-type]
        )
        self.log = folder / "passes.log"
        self.ends: list[str] = []
        self._written: list[Record] = []
        self._day = datetime.now(UTC) - timedelta(days=len(history.steps) - 1)

    def prepare(self) -> None:
        """Topics whose records carry the times that the history gives them, so that it spans days; a database."""
        config = {
            "message.timestamp.type": "CreateTime",
            "message.timestamp.after.max.ms": str(HOUR_MS),
            "retention.ms": "-1",  # a long history starts further back than any retention reaches
        }
        topics = [
            NewTopic(c.topic(self.settings.topic_prefix), num_partitions=3, config=config) for c in self._contracts
        ]
        admin = AdminClient(self.settings.kafka_config)
        for future in admin.create_topics(topics).values():
            future.result(timeout=30)
        client = clickhouse_connect.get_client(dsn=self._front)
        client.command(f"CREATE DATABASE IF NOT EXISTS {self._database}")
        client.close()
        self.settings.home.mkdir(parents=True, exist_ok=True)

    def play(self, step: Step, portion: Sequence[Record]) -> None:
        """Writes the portion as a day of its own, and lets the fault happen."""
        self._write(portion)
        actions: Mapping[Fault, Callable[[Step], None]] = {
            Fault.NONE: self._undisturbed,
            Fault.KILLED_AT_POINT: self._killed_at_point,
            Fault.KILLED_AT_RANDOM: self._killed_at_random,
            Fault.TWO_AT_ONCE: self._two_at_once,
            Fault.FROZEN_AND_OVERTAKEN: self._frozen_and_overtaken,
            Fault.DELIVERED_TWICE: self._delivered_twice,
            Fault.ABORTED_TRANSACTION: self._aborted_transaction,
            Fault.OPEN_TRANSACTION: self._open_transaction,
            Fault.STAGED_FILE_DELETED: self._staged_file(lambda file: file.unlink()),
            Fault.STAGED_FILE_TRUNCATED: self._staged_file(lambda file: os.truncate(file, file.stat().st_size // 2)),
            Fault.STAGED_FILE_CORRUPTED: self._staged_file(_flip_a_byte),
            Fault.BRONZE_ROLLED_BACK: self._bronze_rolled_back,
            Fault.SNAPSHOTS_EXPIRED: self._snapshots_expired,
            Fault.PAST_DAY_AGAIN: self._two_at_once,
            Fault.DASHBOARD_LOST: self._dashboard_lost,
        }
        actions[step.fault](step)
        self._day += timedelta(days=1)

    def heal(self) -> list[str]:
        """Passes until one ends well, then what the oracle finds."""
        codes = []
        for _ in range(HEALING_PASSES):
            codes.append(self._start().wait())
            if codes[-1] == 0:
                return differences(self.settings, self._contracts, self._recording.state)
        return [f"the platform did not catch up when all was well: passes ended with {codes}, see {self.log}"]

    def _start(self, step: Step | None = None) -> Pass:
        return Pass(self.environment, self.log, step.point if step else None, step.times if step else 1)

    def _end(self, step: Step, code: int) -> None:
        self.ends.append(f"{step}: {code}")

    def _write(self, records: Sequence[Record], producer: Producer | None = None) -> None:
        write(self.settings, self._contracts, records, self._day, producer)
        self._written += records

    def _undisturbed(self, step: Step) -> None:
        self._end(step, self._start().wait())

    def _killed_at_point(self, step: Step) -> None:
        self._end(step, self._start(step).wait())

    def _killed_at_random(self, step: Step) -> None:
        self._end(step, self._start().kill_after(step.seconds))

    def _two_at_once(self, step: Step) -> None:
        first, second = self._start(), self._start()
        self._end(step, first.wait())
        self._end(step, second.wait())

    def _frozen_and_overtaken(self, step: Step) -> None:
        frozen = self._start()
        frozen.freeze_after(step.seconds)
        overtaking = self._start()
        try:
            # A frozen run may hold the lock of a local catalog; the one that overtakes it must not wait for ever.
            with suppress(TimeoutError):
                self._end(step, overtaking.wait(30))
        finally:
            frozen.thaw()
        self._end(step, frozen.wait())

    def _delivered_twice(self, step: Step) -> None:
        """A connector without exactly-once support starts again: the last records of each partition come once more."""
        chance = random.Random(step.chance)
        self._write(self._written[-chance.randint(1, max(1, len(self._written) // 2)) :])
        self._end(step, self._start().wait())

    def _aborted_transaction(self, step: Step) -> None:
        producer = self._transactional(f"aborted-{self._database}-{step.chance}")
        producer.begin_transaction()
        write(self.settings, self._contracts, self._written[-20:], self._day, producer)
        producer.abort_transaction(30)
        self._end(step, self._start().wait())

    def _open_transaction(self, step: Step) -> None:
        """A transaction is open while the pass runs, and aborted afterwards: nothing of it may ever be read."""
        producer = self._transactional(f"open-{self._database}-{step.chance}")
        producer.begin_transaction()
        write(self.settings, self._contracts, self._written[-20:], self._day, producer)
        self._end(step, self._start().wait())
        producer.abort_transaction(30)

    def _transactional(self, name: str) -> Producer:
        producer = Producer({**self.settings.kafka_config, "transactional.id": name, "transaction.timeout.ms": 600_000})
        producer.init_transactions(30)
        return producer

    def _staged_file(self, damage: Callable[[Path], None]) -> Callable[[Step], None]:
        def act(step: Step) -> None:
            """The run dies once files are staged; one of them is damaged before the next run reads it."""
            dying = Pass(self.environment, self.log, FaultPoint.BRONZE_BEFORE_COMMIT)
            dying.wait()
            files = sorted(Path(self.settings.staging).rglob("*.parquet"))
            if files:
                damage(files[step.chance % len(files)])
            self._end(step, self._start().wait())

        return act

    def _bronze_rolled_back(self, step: Step) -> None:
        self._end(step, self._start().wait())
        catalog = open_catalog(self.settings)
        table = catalog.load_table(self._contracts[step.chance % len(self._contracts)].bronze_table)
        history = table.history()
        if len(history) > 1:
            table.manage_snapshots().rollback_to_snapshot(history[-2].snapshot_id).commit()
        self._end(step, self._start().wait())

    def _snapshots_expired(self, step: Step) -> None:
        self._end(step, self._start().wait())
        catalog = open_catalog(self.settings)
        for contract in self._contracts:
            for name in (contract.bronze_table, contract.silver_table):
                table = catalog.load_table(name)
                table.maintenance.expire_snapshots().older_than(datetime.now(UTC) + timedelta(minutes=1)).commit()

    def _dashboard_lost(self, step: Step) -> None:
        self._end(step, self._start().wait())
        client = clickhouse_connect.get_client(dsn=self.settings.clickhouse)
        client.command("TRUNCATE TABLE IF EXISTS daily_revenue")
        client.close()


def _flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
