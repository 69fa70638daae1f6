"""Faults of the log: records delivered twice, transactions that are aborted or stay open, partitions added."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import replace

from confluent_kafka import Producer
from confluent_kafka.admin import NewPartitions

from orders_platform_tests.faults.history import Step
from orders_platform_tests.faults.player import Player
from orders_platform_tests.faults.recording import Record
from orders_platform_tests.faults.work import Kind, Work

LAG = Work(Kind.LAG_SENSOR)
ABORTED = 20


def delivered_twice(player: Player, step: Step, portion: Sequence[Record]) -> None:
    """A connector without exactly-once support starts again: the last records of each partition come once more."""
    player.write(portion)
    chance = random.Random(step.chance)
    player.write(player.written[-chance.randint(1, max(1, len(player.written) // 2)) :])
    player.run(step, LAG)


def aborted_transaction(player: Player, step: Step, portion: Sequence[Record], work: Work = LAG) -> None:
    """At the end of the range that is read stand records that never were, and a marker that is none."""
    player.write(portion)
    producer = _transactional(player, step)
    producer.begin_transaction()
    write = player.written[-ABORTED:]
    player.write(write, producer)
    del player.written[-len(write) :]
    producer.abort_transaction(30)
    player.run(step, work)


def transaction_over_midnight(player: Player, step: Step, portion: Sequence[Record]) -> None:
    """Half of the portion is in a transaction that is committed after the next day has begun."""
    half = len(portion) // 2
    player.write(portion[:half])
    producer = _transactional(player, step)
    producer.begin_transaction()
    player.write(portion[half:], producer)
    player.run(step, LAG)
    player.after_next_write.append(lambda: producer.commit_transaction(30))


def partitions_increased(player: Player, step: Step, portion: Sequence[Record]) -> None:
    """Topics get a fourth partition, and half of the keys of each other one move there: those keys' order is torn."""
    if player.place is not _moved:
        wanted = [NewPartitions(c.topic(player.settings.topic_prefix), 4) for c in player.contracts]
        for future in player.admin.create_partitions(wanted).values():
            future.result(timeout=30)
        player.place = _moved
    player.write(portion)
    player.run(step, LAG)


def _moved(record: Record) -> Record:
    return replace(record, partition=3) if zlib.crc32(record.key or b"") % 2 else record


def _transactional(player: Player, step: Step) -> Producer:
    name = f"{player.name}-{step.chance}"
    producer = Producer({**player.settings.kafka_config, "transactional.id": name, "transaction.timeout.ms": 600_000})
    producer.init_transactions(30)
    return producer
