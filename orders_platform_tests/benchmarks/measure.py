"""A measurement, and how it is taken: each hop in a fresh process, so that its peak memory is its own.

The processes are forked from one that has imported what they need, which counts in each one's memory as if it had.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec

P = ParamSpec("P")

KILOBYTE = 1024
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    ["clickhouse_connect", "orders_platform.ingest.bronze", "orders_platform.lake.audit", "pyiceberg.io.pyarrow"]
)


@dataclass(frozen=True)
class Timed:
    """What a hop says when it is done: seconds of the hop itself, and figures of its own."""

    seconds: float
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """A hop in a process of its own: `Timed`, and the process's peak resident memory in bytes."""

    seconds: float
    peak_memory_bytes: int
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """One line of the benchmark's table.

    `floor_seconds` is what DuckDB alone takes for the same rows, Parquet to Parquet; `goal` says what is aimed at.
    """

    name: str
    amount: int
    unit: str
    seconds: float
    floor_seconds: float | None = None
    peak_memory_bytes: int | None = None
    figures: dict[str, float] = field(default_factory=dict)
    goal: str = ""

    @property
    def per_second(self) -> float:
        return self.amount / self.seconds

    @property
    def times_floor(self) -> float | None:
        """How many times the floor's seconds the hop takes."""
        return self.seconds / self.floor_seconds if self.floor_seconds else None


class Stopwatch:
    """`with Stopwatch() as watch: …` and then `watch.seconds`."""

    seconds = 0.0

    def __enter__(self) -> Stopwatch:
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._start


def in_own_process(hop: Callable[P, Timed], *args: P.args, **kwargs: P.kwargs) -> Sample:
    """Runs a module-level function in a process that has done nothing yet. What it raises is raised here."""
    with ProcessPoolExecutor(1, mp_context=_PROCESSES) as process:
        timed, peak = process.submit(_with_peak, hop, args, kwargs).result()
    return Sample(timed.seconds, peak, timed.figures)


def _with_peak(hop: Callable[..., Timed], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Timed, int]:
    timed = hop(*args, **kwargs)
    return timed, peak_memory_bytes()


def peak_memory_bytes() -> int:
    """The most memory that this process had resident so far.

    Linux's `ru_maxrss` starts at the parent's value, VmHWM at that of the new program.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * KILOBYTE
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * KILOBYTE
