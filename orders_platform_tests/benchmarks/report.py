"""The benchmark's result: a table for people, JSON for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from orders_platform_tests.benchmarks.measure import Measurement
from orders_platform_tests.benchmarks.sizes import Sizes

MEGABYTE = 1_000_000


def print_table(measurements: Sequence[Measurement], console: Console) -> None:
    """One line a measurement, and below what else each found.

    `x floor` is how many times the seconds of DuckDB alone a hop takes.
    """
    table = Table(box=None, pad_edge=False)
    for heading in ("", "amount", "seconds", "a second", "floor s", "x floor", "peak MB"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for m in measurements:
        table.add_row(
            m.name,
            f"{m.amount:,}",
            f"{m.seconds:.2f}",
            f"{m.per_second:,.0f}",
            "" if m.floor_seconds is None else f"{m.floor_seconds:.2f}",
            "" if m.times_floor is None else f"{m.times_floor:.1f}",
            "" if m.peak_memory_bytes is None else f"{m.peak_memory_bytes / MEGABYTE:,.0f}",
        )
    console.print(table)
    console.print()
    for m in measurements:
        figures = ", ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in m.figures.items())
        goal = f" (goal: {m.goal})" if m.goal else ""
        console.print(f"{m.name}: {figures}{goal}", highlight=False)


def write_json(measurements: Sequence[Measurement], sizes: Sizes, folder: Path) -> Path:
    """Writes `<folder>/<time>.json` with the machine, the sizes and every figure. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    document = {
        "at": now.isoformat(timespec="seconds"),
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "sizes": asdict(sizes),
        "measurements": [{**asdict(m), "per_second": m.per_second, "times_floor": m.times_floor} for m in measurements],
    }
    path = folder / f"{now:%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
