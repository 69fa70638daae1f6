"""What a real shop's real Debezium wrote, kept so that it can be written again: the material of most histories."""

from __future__ import annotations

import heapq
import json
import pickle
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from operator import itemgetter
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import psycopg
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from orders_platform.contracts import Contract
from orders_platform.ingest.kafka_admin import PASSING
from orders_platform.settings import Settings

READ_SECONDS = 60.0
EMPTY_FETCH_MS = 10
"""How long the broker waits for records where there are none: the end of a partition is known only after that."""


@dataclass(frozen=True)
class Record:
    """One record of a topic, as it was read: raw key, value and headers."""

    table: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class Kept(NamedTuple):
    """A record where a log has it. `log_id` is the topic's, as the tables write it; `timestamp` is in milliseconds."""

    log_id: str
    offset: int
    timestamp: int
    record: Record

    @property
    def place(self) -> tuple[str, int, int]:
        return self.log_id, self.record.partition, self.offset

    def as_json(self) -> str:
        """All of it, as a line to be read by a person."""
        r = self.record
        headers = {name: value.decode() for name, value in r.headers}
        key, value = (part and part.decode() for part in (r.key, r.value))
        place = {"table": r.table, "log_id": self.log_id, "partition": r.partition, "offset": self.offset}
        return json.dumps({**place, "timestamp": self.timestamp, "headers": headers, "key": key, "value": value})


@dataclass(frozen=True)
class Recording:
    """The records of all tables as PostgreSQL's log had them, and what PostgreSQL held after the last."""

    records: tuple[Record, ...]
    state: Mapping[str, Mapping[tuple[Any, ...], Mapping[str, Any]]]
    """Per table, per key: the row as psycopg reads it."""

    def of(self, contracts: Iterable[Contract]) -> Recording:
        """What there is of these tables."""
        tables = {contract.table for contract in contracts}
        return Recording(
            tuple(each for each in self.records if each.table in tables),
            {table: rows for table, rows in self.state.items() if table in tables},
        )

    def save(self, file: Path) -> None:
        """Keeps it for another run: what Debezium writes of the same shop has other positions and times."""
        file.write_bytes(pickle.dumps(self))

    @classmethod
    def load(cls, file: Path) -> Recording:
        """What `save` has kept."""
        kept: Recording = pickle.loads(file.read_bytes())
        return kept

    def portions(
        self, cuts: Sequence[float], moving: Callable[[str], Sequence[int]] | None = None
    ) -> list[list[Record]]:
        """The records cut where these shares of each table's have been written: a portion has some of every table.

        `moving`: in which portions records of a table come. The others wait for the next of them; for the last of them
        none waits.
        """
        count = Counter(each.table for each in self.records)
        ends = {table: [int(count[table] * share) for share in cuts] for table in count}
        place = _next_move(moving) if moving else lambda _, number: number
        portions: list[list[Record]] = [[] for _ in range(len(cuts) + 1)]
        written = Counter[str]()
        for each in self.records:
            portions[place(each.table, bisect_right(ends[each.table], written[each.table]))].append(each)
            written[each.table] += 1
        return portions


def _next_move(moving: Callable[[str], Sequence[int]]) -> Callable[[str, int], int]:
    """Where a table's records of a portion go."""
    moves = cache(moving)
    return lambda table, number: next((each for each in moves(table) if each >= number), max(moves(table)))


def read_topic(settings: Settings, contract: Contract) -> list[Kept]:
    """Every committed record of a table's topic, read with a consumer that has nothing of ours."""
    topic = contract.topic(settings.topic_prefix)
    admin = AdminClient(settings.kafka_config)
    log_id = _log_id(admin, topic)
    consumer = Consumer(
        {
            **settings.kafka_config,
            "group.id": "oracle",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": EMPTY_FETCH_MS,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=READ_SECONDS).topics[topic].partitions
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
        open_partitions, found, heard = set(partitions), [], monotonic()
        while open_partitions:
            message = consumer.poll(READ_SECONDS)
            if message is None:
                raise TimeoutError(f"{topic}: partitions {open_partitions} did not end within {READ_SECONDS} s")
            if message.error() is not None:
                if message.error().code() == KafkaError._PARTITION_EOF:
                    open_partitions.discard(message.partition())
                elif message.error().code() not in PASSING or monotonic() - heard > READ_SECONDS:
                    raise RuntimeError(str(message.error()))
                continue
            heard = monotonic()
            headers = tuple((name, value or b"") for name, value in message.headers() or ())
            record = Record(contract.table, message.partition(), message.key(), message.value(), headers)
            found.append(Kept(log_id, message.offset(), message.timestamp()[1], record))
        return found
    finally:
        consumer.close()


def read_ends(settings: Settings, contract: Contract) -> dict[tuple[str, int], int]:
    """Of a table's topic: the offset behind the last of each partition, by log and partition."""
    topic = contract.topic(settings.topic_prefix)
    admin = AdminClient(settings.kafka_config)
    partitions = admin.list_topics(topic, timeout=READ_SECONDS).topics[topic].partitions
    wanted = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in partitions}
    log_id = _log_id(admin, topic)
    return {
        (log_id, place.partition): future.result(READ_SECONDS).offset
        for place, future in admin.list_offsets(wanted, isolation_level=IsolationLevel.READ_UNCOMMITTED).items()
    }


def _log_id(admin: AdminClient, topic: str) -> str:
    """A topic's id, as the tables write it."""
    described = admin.describe_topics(TopicCollection([topic]))[topic].result(READ_SECONDS)
    return str(described.topic_id).rstrip("=").replace("+", "-").replace("/", "_")


def read_state(dsn: str, contracts: Iterable[Contract]) -> dict[str, dict[tuple[Any, ...], dict[str, Any]]]:
    """Every row of every table, by key, in one snapshot."""
    with psycopg.connect(dsn) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        connection.execute("SET LOCAL TIME ZONE 'UTC'")
        state = {}
        for contract in contracts:
            columns = ", ".join(f'"{name}"' for name in contract.column_names)
            rows = connection.execute(f"SELECT {columns} FROM {contract.schema}.{contract.table}").fetchall()  # type: ignore[arg-type]
            named = [dict(zip(contract.column_names, row, strict=True)) for row in rows]
            state[contract.table] = {tuple(row[k] for k in contract.key): row for row in named}
    return state


def record(settings: Settings, contracts: Sequence[Contract]) -> Recording:
    """Takes down what the topics and PostgreSQL hold; the shop must stand still and Debezium have caught up."""
    queues: dict[tuple[str, int], list[Record]] = {}
    for contract in contracts:
        for kept in read_topic(settings, contract):
            queues.setdefault((contract.table, kept.record.partition), []).append(kept.record)
    merged = heapq.merge(*(_placed(queue) for queue in queues.values()), key=itemgetter(0))
    return Recording(tuple(each for _, each in merged), read_state(settings.postgres, contracts))


def _placed(queue: Iterable[Record]) -> Iterator[tuple[tuple[int, int], Record]]:
    """The records of a partition with their places in PostgreSQL's log; a tombstone stays behind its delete."""
    place = (0, 0)
    for each in queue:
        if change := envelope(each):
            committed, lsn = (int(part or 0) for part in json.loads(change["source"]["sequence"]))
            place = max(place, (committed or lsn, lsn))
        yield place, each


def write(
    settings: Settings,
    contracts: Sequence[Contract],
    records: Iterable[Record],
    time: datetime,
    producer: Producer | None = None,
) -> None:
    """Produces records to the topics of `settings`, each to the partition that it came from, with that timestamp."""
    topics = {contract.table: contract.topic(settings.topic_prefix) for contract in contracts}
    producer = producer or Producer({**settings.kafka_config, "enable.idempotence": True, "linger.ms": 5})
    for r in records:
        producer.produce(
            topics[r.table],
            value=r.value,
            key=r.key,
            partition=r.partition,
            headers=list(r.headers),
            timestamp=int(time.timestamp() * 1000),
        )
        producer.poll(0)
    if left := producer.flush(READ_SECONDS):
        raise TimeoutError(f"{left} records were not written within {READ_SECONDS} s")


def envelope(record: Record) -> dict[str, Any] | None:
    """The Debezium envelope of a record, with exact numbers; None for a tombstone."""
    if record.value is None:
        return None
    parsed: dict[str, Any] = json.loads(record.value, parse_float=Decimal)
    return parsed
