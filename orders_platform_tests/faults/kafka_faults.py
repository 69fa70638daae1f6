"""Faults of the log: records twice, transactions aborted or open, partitions added, topics made anew, midnight."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import chain

from confluent_kafka import Producer

from orders_platform.ingest.errors import RecordsExpiredError, TopicRecreatedError
from orders_platform_tests.faults.clock_faults import Midnight
from orders_platform_tests.faults.history import Step
from orders_platform_tests.faults.player import PARTITIONS, Player
from orders_platform_tests.faults.recording import Record
from orders_platform_tests.faults.work import Kind, Work
from orders_platform_tests.ingest.broker_admin import add_partitions

LAG = Work(Kind.LAG_SENSOR)
ABORTED = 20
DESCRIPTIONS, LOOKUPS = 10, 2
"""How often a run over five tables asks what a topic is, at least, and for moments in it after each."""


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
        player.partitions = PARTITIONS + 1
        for topic in player.topics:
            add_partitions(player.settings, topic, player.partitions)
        player.place = _moved
    player.write(portion)
    player.run(step, LAG)


def topic_recreated(player: Player, step: Step, portion: Sequence[Record]) -> None:
    """All was loaded when the topics are deleted and made again; what comes then waits until somebody accepts that."""
    half = len(portion) // 2
    player.write(portion[:half])
    player.remember(step)
    player.make_topics_anew()
    player.write(portion[half:])
    player.stop_and_accept(step, TopicRecreatedError)
    player.run(step, LAG)


def records_expired(player: Player, step: Step, portion: Sequence[Record]) -> None:
    """Retention takes records that nobody has read. It is noticed and accepted, and the shop sends them again."""
    player.write(portion[:1])  # a table of which nothing was read has nothing to miss
    player.remember(step)
    player.write(portion[1:])
    tables = {each.table for each in portion[1:]}
    player.delete_records({(table, partition): -1 for table in tables for partition in range(player.partitions)})
    if any(kept.record.table in tables for kept in chain.from_iterable(player.earlier.values())):
        player.stop_and_accept(step, RecordsExpiredError)
    player.write(portion[1:])
    player.run(step, LAG)


def records_deleted(player: Player, step: Step, portion: Sequence[Record]) -> None:
    """Retention takes what was loaded, all of it or a part: nobody misses it."""
    half = len(portion) // 2
    player.write(portion[:half])
    ends = {(kept.record.table, kept.record.partition): kept.offset for kept in player.remember(step)}
    share = step.chance % 3 / 2
    player.delete_records({place: int(offset * share) + 1 for place, offset in ends.items()})
    player.write(portion[half:])
    player.run(step, LAG)


def midnight_in_a_run(player: Player, step: Step, portion: Sequence[Record]) -> None:
    """A day ends between two calls of a run, with records on both sides."""
    chance = random.Random(step.chance)
    midnight = Midnight(player.day.date(), chance.randint(1, DESCRIPTIONS), chance.randint(0, LOOKUPS))
    by_hand = Work(Kind.DAYS_BY_HAND, days=(midnight.day, midnight.day))
    midnight_after(player, step, portion, replace(chance.choice([LAG, by_hand]), midnight=midnight))


def midnight_after(player: Player, step: Step, portion: Sequence[Record], work: Work) -> None:
    third = len(portion) // 3
    player.write(portion[:third])
    run = player.start(work)
    came = run.wait_until_frozen()
    player.write(portion[third : 2 * third])
    player.day += timedelta(days=1)
    player.write(portion[2 * third :])
    run.thaw()
    player.ended(step, run.wait(), str(work.midnight) if came else "it was done before midnight")


def _moved(record: Record) -> Record:
    return replace(record, partition=3) if zlib.crc32(record.key or b"") % 2 else record


def _transactional(player: Player, step: Step) -> Producer:
    name = f"{player.name}-{step.chance}"
    producer = Producer({**player.settings.kafka_config, "transactional.id": name, "transaction.timeout.ms": 600_000})
    producer.init_transactions(30)
    return producer
