"""Faults of the store: staged files that are lost or damaged before they are read, and a disk that is full."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from orders_platform.fault_points import FaultPoint
from orders_platform_tests.faults.history import Step
from orders_platform_tests.faults.player import Player
from orders_platform_tests.faults.work import Kind, Work

LAG = Work(Kind.LAG_SENSOR)
SMALLEST_BYTES, LARGEST_BYTES = 2_000, 60_000


def staged_file(damage: Callable[[Path], None]) -> Callable[[Player, Step], None]:
    """The run dies once files are staged; one of them is damaged before the next run reads it."""

    def act(player: Player, step: Step) -> None:
        player.start(LAG, FaultPoint.BRONZE_BEFORE_COMMIT).wait()
        files = sorted(Path(player.settings.staging).rglob("*.parquet"))
        if files:
            damage(files[step.chance % len(files)])
        player.run(step, LAG)

    return act


def disk_full(player: Player, step: Step) -> None:
    """No file can grow beyond a size that some need: writes fail in the middle."""
    limit = SMALLEST_BYTES + step.chance % (LARGEST_BYTES - SMALLEST_BYTES)
    player.run(step, Work(Kind.LAG_SENSOR, file_bytes=limit))


def delete(file: Path) -> None:
    file.unlink()


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
