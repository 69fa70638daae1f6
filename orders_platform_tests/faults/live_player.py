"""Plays histories on the whole live stack.

Every history has a stack of its own, which it may kill. The platform works as it does on recorded topics.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from orders_platform.contracts import Contract
from orders_platform.defs.repair import repair
from orders_platform.ingest.errors import PositionFellError, RecordsExpiredError
from orders_platform.lake.catalog import open_catalog
from orders_platform.settings import Settings
from orders_platform.stack import down, status, up, wait_until_captured
from orders_platform.stack.connect_rest import ConnectRest
from orders_platform.stack.connector import request_snapshot
from orders_platform.stack.debezium import CONNECTOR, SLOT, read_slot
from orders_platform.stack.recovery import PostgresRestoredError
from orders_platform.stack.shop import ShopError, run_shop
from orders_platform_tests.faults.live_faults import Backup, without_exactly_once
from orders_platform_tests.faults.live_history import LiveFault, LiveHistory
from orders_platform_tests.faults.oracle import differences
from orders_platform_tests.faults.passes import Pass
from orders_platform_tests.faults.player import noted
from orders_platform_tests.faults.recording import Kept, read_state, read_topic
from orders_platform_tests.faults.true_history import TrueHistory
from orders_platform_tests.faults.work import Kind, Work

RATE = 100.0
CHANGES = 150
LOST_CHANGES = 50
WAIT_SECONDS = 60.0
LAG = Work(Kind.LAG_SENSOR)


@dataclass
class LiveOutcome:
    """What became of a live history; `differences` is empty when the tables are right."""

    history: LiveHistory
    differences: list[str]
    seconds: float
    log: Path
    ends: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What happened while nobody looked, among others."""


def play_live(history: LiveHistory, settings: Settings, contracts: Sequence[Contract], folder: Path) -> LiveOutcome:
    """Plays a live history on a stack with these settings, which it starts and stops."""
    started = time.monotonic()
    player = LivePlayer(history, settings, contracts, folder)
    found: list[str] = []
    try:
        with noted(found):
            player.prepare()
            for fault in history.faults:
                player.play(fault)
            found += player.heal()
    finally:
        with noted(player.notes):
            down(settings, player.say)
    return LiveOutcome(history, found, round(time.monotonic() - started, 1), player.log, player.ends, player.notes)


class LivePlayer:
    """One live history under way."""

    def __init__(self, history: LiveHistory, settings: Settings, contracts: Sequence[Contract], folder: Path) -> None:
        self._settings = settings
        self._contracts = contracts
        self._seed = history.seed
        ports = {f"ORDERS_PLATFORM_PORT_{name.upper()}": str(port) for name, port in settings.ports}
        self._environment = {
            "ORDERS_PLATFORM_HOME": str(settings.home),
            "ORDERS_PLATFORM_LAG_THRESHOLD_RECORDS": "1",
            **ports,
        }
        self._earlier: dict[str, list[Kept]] = {}
        self._true_history = TrueHistory(settings, [contract for contract in contracts if contract.versions_table])
        self._restored = False
        self._unheard: list[str] = []
        """What should have stopped a run, and has not."""
        self.log = folder / "passes.log"
        self.ends: list[str] = []
        self.notes: list[str] = []

    def say(self, line: str) -> None:
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def prepare(self) -> None:
        """A running stack, a shop with a past, and all of it carried as far as silver."""
        up(self._settings, self.say)
        wait_until_captured(self._settings)
        self._true_history.watch()
        run_shop(self._settings.postgres, RATE, None, self._seed, history_days=2, max_changes=CHANGES, orders_a_day=40)

    def play(self, fault: LiveFault) -> None:
        if fault is LiveFault.CONNECTOR_WITHOUT_EXACTLY_ONCE:
            with without_exactly_once():
                self._kill("connect")
                up(self._settings, self.say)
                self._play(fault)
            self._kill("connect")
            up(self._settings, self.say)
        elif fault is LiveFault.POSTGRES_RESTORED:
            backup = Backup(self._settings, self.say)
            backup.take()
            self._play(fault)
            self._restore(backup)
        else:
            self._play(fault)

    def _play(self, fault: LiveFault) -> None:
        actions: Mapping[LiveFault, Callable[[], None]] = {
            LiveFault.NONE: lambda: None,
            LiveFault.CONNECT_KILLED: lambda: self._kill("connect"),
            LiveFault.BROKER_KILLED: lambda: self._kill("kafka"),
            LiveFault.POSTGRES_CRASHED: lambda: self._kill("postgres"),
            LiveFault.ALL_KILLED: lambda: self._kill("connect", "kafka", "postgres", "clickhouse"),
            LiveFault.OFFSETS_LOST_SLOT_KEPT: lambda: self._lose(slot=False, offsets=True),
            LiveFault.OFFSETS_AND_SLOT_LOST: lambda: self._lose(slot=True, offsets=True),
            LiveFault.SLOT_LOST: lambda: self._lose(slot=True, offsets=False),
            LiveFault.INCREMENTAL_SNAPSHOT: self._read_anew,
            LiveFault.RECORDS_LOST: lambda: None,
            LiveFault.POSTGRES_RESTORED: lambda: None,
            LiveFault.CONNECTOR_WITHOUT_EXACTLY_ONCE: lambda: self._kill("connect"),
        }
        without_slot = fault in (LiveFault.SLOT_LOST, LiveFault.OFFSETS_AND_SLOT_LOST)
        if without_slot:
            wait_until_captured(self._settings)
        under_way = Pass(self._environment, self.log, LAG)
        with self._shop():
            time.sleep(random.Random(self._seed).uniform(0.2, 1.0))
            with self._true_history.blindfold() if without_slot else nullcontext():
                actions[fault]()
                up(self._settings, self.say, new_slot=fault is LiveFault.SLOT_LOST)
                if without_slot:
                    self._wait_for(self._captures)
        self.ends.append(f"{fault}: {under_way.wait()}")
        if fault is LiveFault.RECORDS_LOST:
            self._lose_records()
        self.ends.append(f"{fault}, after it: {Pass(self._environment, self.log, LAG).wait()}")

    def heal(self) -> list[str]:
        """Once Debezium has caught up: passes until one ends well, then what the oracle finds."""
        up(self._settings, self.say)
        wait_until_captured(self._settings, 120)
        codes = []
        for _ in range(3):
            codes.append(Pass(self._environment, self.log).wait())
            if codes[-1] == 0:
                state = read_state(self._settings.postgres, self._contracts)
                found = differences(self._settings, self._contracts, state, self._earlier, restored=self._restored)
                return self._unheard + found + self._changes_without_version()
        return [f"the platform did not catch up when all was well: passes ended with {codes}, see {self.log}"]

    def _changes_without_version(self) -> list[str]:
        """What PostgreSQL's triggers saw and no version tells of; what nobody captured is only said."""
        found = []
        for contract in self._true_history.contracts:
            versions = (
                open_catalog(self._settings).load_table(str(contract.versions_table)).scan().to_arrow().to_pylist()
            )
            missing, said = self._true_history.compare(contract, versions)
            found += missing
            self.notes.append(said)
        return found

    @contextmanager
    def _shop(self) -> Iterator[None]:
        """A shop that writes meanwhile, and again when PostgreSQL is back; it has made its changes at the end."""
        stop = threading.Event()

        def write() -> None:
            left = CHANGES
            while left > 0 and not stop.is_set():
                try:
                    left -= run_shop(self._settings.postgres, RATE, None, self._seed, max_changes=left, stop=stop).total
                except (ShopError, psycopg.OperationalError):
                    time.sleep(0.5)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            yield
        finally:
            thread.join(WAIT_SECONDS)
            stop.set()
            thread.join()

    def _kill(self, *names: str) -> None:
        """Ends these parts as a lost machine would."""
        for part in status(self._settings).parts:
            if part.name in names and part.pid is not None:
                process = psutil.Process(part.pid)
                process.send_signal(signal.SIGKILL)
                psutil.wait_procs([process], timeout=10)

    def _lose(self, *, slot: bool, offsets: bool) -> None:
        """Connect's offsets, PostgreSQL's slot or both are gone, while a transaction is open and rows are deleted."""
        rest = ConnectRest(self._settings)
        with psycopg.connect(self._settings.postgres) as in_flight:
            in_flight.execute("UPDATE customers SET full_name = full_name || '!' WHERE customer_id % 7 = 0")
            rest.stop(CONNECTOR)
            self._wait_for(lambda: (found := rest.status(CONNECTOR)) is not None and found.state == "STOPPED")
            self._wait_for(lambda: (held := read_slot(self._settings.postgres)) is None or not held.active)
            with psycopg.connect(self._settings.postgres, autocommit=True) as connection:
                connection.execute("DELETE FROM inventory WHERE product_id = (SELECT min(product_id) FROM inventory)")
                if slot:
                    connection.execute("SELECT pg_drop_replication_slot(%s)", [SLOT])
                    for _ in range(2):  # of two changes of a row that nobody captures a snapshot reads the second
                        connection.execute(
                            "UPDATE customers SET full_name = full_name || '#' "
                            "WHERE customer_id = (SELECT min(customer_id) FROM customers)"
                        )
            if offsets:
                rest.delete_offsets(CONNECTOR)

    def _read_anew(self) -> None:
        """An incremental snapshot of all tables, while the shop writes and a transaction is open across it."""
        with psycopg.connect(self._settings.postgres) as in_flight:
            in_flight.execute("UPDATE customers SET full_name = full_name || '?' WHERE customer_id % 5 = 0")
            request_snapshot(self._settings.postgres, [f"{c.schema}.{c.table}" for c in self._contracts])
            time.sleep(2)
            in_flight.execute("DELETE FROM inventory WHERE product_id = (SELECT max(product_id) FROM inventory)")

    def _remember(self) -> None:
        """Loads what there is, and takes down what the topics hold: the oracle cannot read it there afterwards."""
        wait_until_captured(self._settings)
        self.ends.append(f"before records are lost: {Pass(self._environment, self.log, LAG).wait()}")
        for contract in self._contracts:
            self._earlier.setdefault(contract.table, []).extend(read_topic(self._settings, contract))

    def _lose_records(self) -> None:
        """Retention was shorter than a pause: what was captured in it is gone. Accepted, and repaired."""
        self._remember()
        with self._true_history.blindfold():
            run_shop(self._settings.postgres, RATE, None, self._seed, max_changes=LOST_CHANGES)
            with psycopg.connect(self._settings.postgres, autocommit=True) as connection:
                connection.execute("DELETE FROM inventory WHERE product_id = (SELECT max(product_id) FROM inventory)")
        wait_until_captured(self._settings)
        topics = [contract.topic(self._settings.topic_prefix) for contract in self._contracts]
        admin = AdminClient(self._settings.kafka_config)
        starts = {
            place: future.result(timeout=30).low_watermark
            for place, future in admin.delete_records(
                [TopicPartition(topic, p, -1) for topic in topics for p in range(3)]
            ).items()
        }
        # A broker that is killed before it has noted that brings the records back.
        noted = self._settings.home / "kafka" / "data" / "log-start-offset-checkpoint"
        lines = {f"{place.topic} {place.partition} {start}" for place, start in starts.items() if start}
        self._wait_for(lambda: lines <= set(noted.read_text(encoding="utf-8").splitlines()))
        self._stops("records are lost", RecordsExpiredError)
        self._accept_gaps()
        for contract in self._contracts:
            repair(self._settings, contract, "the matrix", self.say)

    def _restore(self, backup: Backup) -> None:
        """What was captured and loaded since the backup has never been. The shop goes on from the backup."""
        wait_until_captured(self._settings)
        self.ends.append(f"before PostgreSQL is restored: {Pass(self._environment, self.log, LAG).wait()}")
        backup.put_back()
        try:
            up(self._settings, self.say)
        except PostgresRestoredError as error:
            self.notes.append(f"up: {error}")
            up(self._settings, self.say, new_slot=True)
        with self._shop():
            pass
        wait_until_captured(self._settings)
        self._stops("PostgreSQL is restored", PositionFellError)
        self._restored = True
        self._accept_gaps()

    def _stops(self, after: str, error: type[Exception]) -> None:
        """A run that must stop with this error."""
        before = len(self.log.read_text())
        code = Pass(self._environment, self.log, LAG).wait()
        self.ends.append(f"{after}: {code}")
        if code != 1 or error.__name__ not in self.log.read_text()[before:]:
            self._unheard.append(f"{after}: the run ended with {code} and said nothing of a {error.__name__}")

    def _accept_gaps(self) -> None:
        accepted = Pass(self._environment, self.log, Work(Kind.GAPS_ACCEPTED)).wait()
        self.ends.append(f"gaps accepted: {accepted}")

    def _captures(self) -> bool:
        """Whether there is a slot which tells of every transaction that is still to commit."""
        with psycopg.connect(self._settings.postgres) as connection:
            found = connection.execute(
                "SELECT active AND confirmed_flush_lsn IS NOT NULL FROM pg_replication_slots WHERE slot_name = %s",
                [SLOT],
            ).fetchone()
        return bool(found and found[0])

    @staticmethod
    def _wait_for(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"what was waited for did not come within {WAIT_SECONDS:g} s")
            time.sleep(0.05)
