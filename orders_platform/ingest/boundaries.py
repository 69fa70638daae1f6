"""What is remembered of a topic beside its staged files, as the broker forgets it: where it began, where days end.

After retention, every old lookup answers the log's start, and an expired day would look validly empty. So the first
offset of a day is written once, when it is first known, and never looked up again. So is where the log began when the
topic was first seen: what disappears behind that was lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa

from orders_platform.ingest.errors import StagedFileError, TopicRecreatedError
from orders_platform.ingest.gaps import END, Gap, GapKind
from orders_platform.ingest.kafka_admin import TopicLog
from orders_platform.ingest.staging_files import Storage


@dataclass(frozen=True)
class TopicMemory:
    """Small files under `<topic>/<topic id>/`, each put once if it is absent."""

    storage: Storage
    topic: str
    topic_id: str

    def day_starts(self, day: date) -> dict[int, int]:
        """For each partition in which it is known: the offset of the first record at or after the day's 00:00 UTC."""
        folder = self._folder(f"days/{day.isoformat()}")
        names = self.storage.names(folder)
        return {int(name.removesuffix(".json")): int(self._read(f"{folder}/{name}")["offset"]) for name in names}

    def keep_day_start(self, day: date, partition: int, offset: int) -> int:
        """Remembers a day's start, and returns what is remembered: the value of whoever came first."""
        name = f"{self._folder(f'days/{day.isoformat()}')}/{partition:05d}.json"
        return int(self._put(name, {"offset": offset})["offset"])

    def origins(self, log: TopicLog) -> dict[int, int]:
        """For each partition: the start of the log when the topic was first seen; 0 for partitions added later.

        Where the file was lost the log seems to begin where it starts now: the ledger knows better (`gone_from_log`).

        Raises:
            TopicRecreatedError: if the topic was first seen in another cluster.
        """
        starts = {str(partition): bounds.start for partition, bounds in log.partitions.items()}
        name = self._folder("origin.json")
        try:
            first = self._read(name)
        except FileNotFoundError:
            first = self._put(name, {"cluster_id": log.cluster_id, "partitions": starts})
        if first["cluster_id"] != log.cluster_id:
            lost = tuple((partition, 0, END) for partition in log.partitions)
            raise TopicRecreatedError(
                f"topic {self.topic} was read from cluster {first['cluster_id']} and is now in {log.cluster_id} "
                f"under the same id: offsets of both do not belong together. Nothing was loaded; if Kafka's settings "
                f"name the wrong cluster, mend them",
                Gap(GapKind.REPLACED, self.topic_id, lost, log.topic_id, log.cluster_id),
            )
        return {partition: int(first["partitions"].get(str(partition), 0)) for partition in log.partitions}

    def remember_origins(self, log: TopicLog, origins: Mapping[int, int]) -> None:
        """Lets the log have begun at these offsets, unless it was seen before."""
        starts = {str(partition): offset for partition, offset in origins.items()}
        self._put(self._folder("origin.json"), {"cluster_id": log.cluster_id, "partitions": starts})

    def _folder(self, name: str) -> str:
        return f"{self.topic}/{self.topic_id}/{name}"

    def _read(self, name: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(self.storage.read(name).to_pybytes())
        except ValueError as error:
            raise StagedFileError(name, f"not JSON ({error}): remove it, it will be made again") from error
        return content

    def _put(self, name: str, content: dict[str, Any]) -> dict[str, Any]:
        if self.storage.put(name, pa.py_buffer(json.dumps(content).encode())):
            return content
        return self._read(name)
