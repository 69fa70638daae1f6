"""Reads one offset range of a partition, committed records only, in chunks of bounded size."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, TopicPartition

from orders_platform.ingest.arrow_columns import binary, fixed_width
from orders_platform.ingest.decoding import RECORDS
from orders_platform.ingest.errors import BrokerUnavailableError, RecordsExpiredError
from orders_platform.ingest.kafka_admin import PASSING
from orders_platform.ingest.offsets import OffsetRange
from orders_platform.settings import Settings

CHUNK_RECORDS = 100_000
CHUNK_BYTES = 32 * 1024 * 1024
"""A chunk ends at whichever comes first; it is a staged file and a unit of decoding, which bounds memory."""
FETCH_MESSAGES = 1_000
GATHER_SECONDS = 0.05
"""For how long messages are gathered into a batch. librdkafka waits it out unless the batch is full: each small range
costs as much."""
STALL_SECONDS = 60.0
"""The longest wait for the broker without a single record or end of partition."""
_GONE = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)


@dataclass(frozen=True)
class Chunk:
    """Records (schema `RECORDS` without the partition) of a part of the range; there may be none."""

    range: OffsetRange
    records: pa.Table


_FIELDS = pa.schema([each for each in RECORDS if each.name != "partition"])


@dataclass
class _Batches:
    """Records on their way into a chunk: each fetch becomes a batch at once, so that few Python objects live."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    records: int = 0
    bytes: int = 0
    last: int = -1

    def append(self, messages: Sequence[Message[Any, Any]]) -> None:
        if not messages:
            return
        offsets = np.fromiter((message.offset() for message in messages), np.int64, len(messages))
        timestamps = np.fromiter((message.timestamp()[1] for message in messages), np.int64, len(messages))
        headers = [_headers(found) if (found := message.headers()) else None for message in messages]
        arrays = [
            fixed_width(offsets, _FIELDS.field("offset").type),
            fixed_width(timestamps, _FIELDS.field("timestamp").type),
            binary([message.key() for message in messages], pa.binary()),
            binary([message.value() for message in messages], pa.binary()),
            binary(headers, pa.string()),
        ]
        self.batches.append(pa.RecordBatch.from_arrays(arrays, schema=_FIELDS))
        self.records += len(messages)
        self.bytes += arrays[2].nbytes + arrays[3].nbytes
        self.last = int(offsets[-1])

    @property
    def full(self) -> bool:
        return self.records >= CHUNK_RECORDS or self.bytes >= CHUNK_BYTES

    def table(self) -> pa.Table:
        return pa.Table.from_batches(self.batches, schema=_FIELDS)


class RangeReader:
    """A consumer without a group: it starts where it is told to and commits nothing. Close it, or use `with`."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._topic = topic
        self._servers = str(settings.kafka_config["bootstrap.servers"])
        self._errors: list[str] = []
        self._consumer = Consumer(
            {
                "fetch.message.max.bytes": 4 * 1024 * 1024,
                "queued.max.messages.kbytes": 16 * 1024,
                "queued.min.messages": 20_000,
                # A full queue pauses fetching, for a whole second by default.
                "fetch.queue.backoff.ms": 2,
                **settings.kafka_config,
                "group.id": "orders-platform",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                # The end of a partition is reported when a fetch comes back empty: half a second by default.
                "fetch.wait.max.ms": 20,
                "log_level": 0,
                "error_cb": lambda error: self._errors.append(str(error)),
            }
        )

    def __enter__(self) -> RangeReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def read(self, wanted: OffsetRange) -> Iterator[Chunk]:
        """The records of the range in order; the chunks' ranges tile it without gap.

        The range is complete when a record at or behind its last offset arrives, or the end of the partition is
        reported there: aborted and control records leave nothing to read.

        Raises:
            RecordsExpiredError: if the log now starts behind the range's first offset.
            BrokerUnavailableError: if nothing arrives for `STALL_SECONDS`.
        """
        first, batches = wanted.first, _Batches()
        if wanted.offsets:
            self._consumer.assign([TopicPartition(self._topic, wanted.partition, wanted.first)])
            deadline = time.monotonic() + STALL_SECONDS
            while True:
                messages = self._consumer.consume(num_messages=FETCH_MESSAGES, timeout=GATHER_SECONDS)
                if messages:
                    deadline = time.monotonic() + STALL_SECONDS
                elif time.monotonic() > deadline:
                    raise self._stalled(wanted)
                taken, complete = self._taken(messages, wanted)
                batches.append(taken)
                if complete:
                    break
                if batches.full:
                    end = batches.last + 1
                    yield Chunk(OffsetRange(wanted.partition, first, end), batches.table())
                    first, batches = end, _Batches()
                    deadline = time.monotonic() + STALL_SECONDS  # the chunk was staged meanwhile
            self._consumer.unassign()
        yield Chunk(OffsetRange(wanted.partition, first, wanted.next), batches.table())

    def _taken(self, messages: list[Message[Any, Any]], wanted: OffsetRange) -> tuple[list[Message[Any, Any]], bool]:
        """The records of the range among the messages, and whether the range is complete with them."""
        complete = False
        special = [message for message in messages if message.error() is not None]
        for message in special:
            error = message.error()
            if error.code() == KafkaError._PARTITION_EOF:  # type: ignore[union-attr]
                offset = message.offset()
                complete = complete or (offset is not None and offset != OFFSET_INVALID and offset >= wanted.next)
            elif error.code() in _GONE:  # type: ignore[union-attr]
                raise RecordsExpiredError(
                    f"{self._topic} {wanted}: the log no longer has offset {wanted.first} ({error}); "
                    f"nothing of this range was staged by this run"
                )
            elif error.code() not in PASSING:  # type: ignore[union-attr]
                raise KafkaException(error)
            else:
                self._errors.append(str(error))
        if special:
            messages = [message for message in messages if message.error() is None]
        if messages and messages[-1].offset() >= wanted.next - 1:  # type: ignore[operator]
            return [message for message in messages if message.offset() < wanted.next], True  # type: ignore[operator]
        return messages, complete

    def _stalled(self, wanted: OffsetRange) -> BrokerUnavailableError:
        last = f" (last error: {self._errors[-1]})" if self._errors else ""
        return BrokerUnavailableError(
            f"Kafka at {self._servers} sent nothing for {STALL_SECONDS:g} s while {self._topic} {wanted} was read"
            f"{last}; what was not staged will be read again"
        )


def _headers(headers: Any) -> bytes:
    """Pairs of name and bytes as JSON: `[[name, base64 or null], …]`."""
    pairs = [[name, None if value is None else base64.b64encode(value).decode("ascii")] for name, value in headers]
    return json.dumps(pairs).encode()
