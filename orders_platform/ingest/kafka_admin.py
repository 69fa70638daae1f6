"""A topic as the broker describes it: id, partitions, first offsets of moments. Admin calls only, bounded in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.admin._resource import ResourceType

from orders_platform.ingest.errors import BrokerUnavailableError, TopicMissingError, UnboundedTimestampsError
from orders_platform.settings import Settings

T = TypeVar("T")

DAY_MILLISECONDS = 86_400_000
MOVING = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError._DESTROY_BROKER,
    }
)  # fmt: skip
"""A new topic answers so for some milliseconds, a broker that stood still for a second: asked until the deadline."""
PASSING = MOVING | {
    KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._TIMED_OUT_QUEUE,
    KafkaError._RESOLVE, KafkaError.REQUEST_TIMED_OUT, KafkaError.BROKER_NOT_AVAILABLE, KafkaError.NETWORK_EXCEPTION,
}  # fmt: skip
"""Error codes that mean "not now": the broker is down, starting, or moving a leader."""
ANSWER_SECONDS = 15.0
PAUSE_SECONDS = 0.1
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class LogBounds:
    """Offsets of one partition: the first kept, the last stable (the end for `read_committed`), the end of all."""

    start: int
    stable_end: int
    high_watermark: int

    @property
    def open_records(self) -> int:
        """Offsets behind an open transaction; readers of committed records cannot see them yet."""
        return self.high_watermark - self.stable_end


@dataclass(frozen=True)
class TopicLog:
    """A topic at one moment. `topic_id` is the broker's, in URL-safe base64: a topic created anew has another."""

    name: str
    topic_id: str
    cluster_id: str
    partitions: Mapping[int, LogBounds]


@dataclass(frozen=True)
class Found:
    """The first record at or after a moment: its offset and timestamp in milliseconds."""

    offset: int
    timestamp: int


class _LeaderMovingError(BrokerUnavailableError):
    """A partition's leader is being chosen."""


class KafkaAdmin:
    """Admin calls against one cluster that end, one way or the other, within `seconds` (`ANSWER_SECONDS`) in all.

    Only the calls take of that time: what is done between two of them (a ledger read from a slow store) is not the
    broker's silence.

    Raises:
        BrokerUnavailableError: from every method, when the time is over or the broker cannot be reached.
    """

    def __init__(self, settings: Settings, seconds: float | None = None) -> None:
        self._seconds = ANSWER_SECONDS if seconds is None else seconds
        self._left_seconds = self._seconds
        self._deadline = 0.0
        self._servers = str(settings.kafka_config["bootstrap.servers"])
        self._logged: list[str] = []
        milliseconds = int(self._seconds * 1000)
        config: dict[str, Any] = {
            **settings.kafka_config,
            "socket.timeout.ms": milliseconds,
            "socket.connection.setup.timeout.ms": max(1000, milliseconds),
            # Connection errors reach us as exceptions; on stderr they would only repeat.
            "log_level": 0,
            "error_cb": lambda error: self._logged.append(str(error)),
        }
        self._client = AdminClient(config)

    def topic(self, name: str) -> TopicLog:
        """The topic's id and the bounds of its partitions, the last stable offset read first.

        Raises:
            TopicMissingError: naming the topic.
        """
        return self._asked(lambda: self._topic(name))

    def _topic(self, name: str) -> TopicLog:
        described = self._ask(lambda left: self._client.describe_topics(TopicCollection([name]), request_timeout=left))
        cluster = self._call(lambda left: self._client.describe_cluster(request_timeout=left), "describe the cluster")
        try:
            description = self._result(described[name], f"describe topic {name}")
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise TopicMissingError(
                    f"topic {name} does not exist on {self._servers}: start the connector (on one machine: "
                    f"`orders-platform up`), see that its table.include.list names the table, or check topic_prefix"
                ) from None
            raise
        numbers = [partition.id for partition in description.partitions]
        stable = self._offsets(name, numbers, _LATEST)
        start = self._offsets(name, numbers, _EARLIEST)
        high = self._offsets(name, numbers, _LATEST, committed=False)
        bounds = {p: LogBounds(start[p], stable[p], high[p]) for p in sorted(numbers)}
        return TopicLog(name, path_safe(str(description.topic_id)), cluster.cluster_id, bounds)

    def wait_until_led(self, name: str) -> None:
        """Until the broker tells of a topic that was just made, and each of its partitions has a leader.

        Raises:
            TopicMissingError: if it still does not after `seconds`.
        """
        until = time.monotonic() + self._seconds
        while True:
            try:
                self.topic(name)
            except TopicMissingError:
                if time.monotonic() >= until:
                    raise
                time.sleep(PAUSE_SECONDS)
            else:
                return

    def first_at(self, name: str, moments: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Found | None]:
        """For each (partition, milliseconds since 1970): the first committed record at or after it, if there is one."""
        wanted = list(dict.fromkeys(moments))
        return self._asked(lambda: self._first_at(name, wanted))

    def _first_at(self, name: str, wanted: list[tuple[int, int]]) -> dict[tuple[int, int], Found | None]:
        asked = []
        for partition, moment in wanted:
            spec = {TopicPartition(name, partition): OffsetSpec.for_timestamp(moment)}
            asked.append(
                self._client.list_offsets(
                    spec, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=self._left()
                )
            )
        found = {}
        for place, futures in zip(wanted, asked, strict=True):
            (future,) = futures.values()
            answer = self._result(future, f"look up {_moment(place[1])} in {name}[{place[0]}]")
            found[place] = None if answer.offset < 0 else Found(answer.offset, answer.timestamp)
        return found

    def refuse_unbounded_timestamps(self, name: str) -> None:
        """Raises `UnboundedTimestampsError` where producers may write timestamps more than a day ahead."""
        config = self._asked(lambda: self._config(name))
        ahead = int(config["message.timestamp.after.max.ms"].value)
        if config["message.timestamp.type"].value != "LogAppendTime" and ahead > DAY_MILLISECONDS:
            raise UnboundedTimestampsError(
                f"topic {name} takes any timestamp from its producers, and one record from the future would move all "
                f"later ones into its day: set message.timestamp.type=LogAppendTime, or message.timestamp.after.max.ms "
                f"to at most {DAY_MILLISECONDS}; nothing was read"
            )

    def _config(self, name: str) -> dict[str, Any]:
        resource = ConfigResource(ResourceType.TOPIC, name)
        futures = self._ask(lambda left: self._client.describe_configs([resource], request_timeout=left))
        found: dict[str, Any] = self._result(futures[resource], f"read the settings of {name}")
        return found

    def _offsets(self, name: str, partitions: list[int], spec: OffsetSpec, committed: bool = True) -> dict[int, int]:
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        places = {TopicPartition(name, partition): spec for partition in partitions}
        futures = self._ask(lambda left: self._client.list_offsets(places, isolation_level=level, request_timeout=left))
        return {tp.partition: self._result(f, f"list offsets of {name}").offset for tp, f in futures.items()}

    def _asked(self, ask: Callable[[], T]) -> T:
        """What `ask` returns; it asks again as long as a partition's leader is being chosen.

        It takes of the time that all calls have.
        """
        began = time.monotonic()
        self._deadline = began + self._left_seconds
        try:
            while True:
                try:
                    return ask()
                except _LeaderMovingError:
                    time.sleep(PAUSE_SECONDS)
        finally:
            self._left_seconds -= time.monotonic() - began

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0.05:
            raise self._unavailable("no answer")
        return left

    def _ask(self, call: Callable[[float], T]) -> T:
        return call(self._left())

    def _call(self, call: Callable[[float], Future[Any]], what: str) -> Any:
        return self._result(self._ask(call), what)

    def _result(self, future: Future[Any], what: str) -> Any:
        try:
            return future.result(timeout=max(0.0, self._deadline - time.monotonic()))  # at 0 s: what has come
        except TimeoutError:
            raise self._unavailable(f"no answer to: {what}") from None
        except KafkaException as error:
            if error.args[0].code() in MOVING and self._left():
                raise _LeaderMovingError(error.args[0].str()) from error
            if error.args[0].code() in PASSING:
                raise self._unavailable(f"{what}: {error.args[0].str()}") from error
            raise

    def _unavailable(self, what: str) -> BrokerUnavailableError:
        self._client.poll(0)  # brings what was logged
        last = f" (last error: {self._logged[-1]})" if self._logged else ""
        return BrokerUnavailableError(
            f"Kafka at {self._servers} did not answer within {self._seconds:g} s: {what}{last}; nothing is lost"
        )


def path_safe(base64: str) -> str:
    """Base64 that can be a folder's name."""
    return base64.rstrip("=").replace("+", "-").replace("/", "_")


def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()
