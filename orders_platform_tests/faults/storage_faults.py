"""Faults of the store: staged files lost or damaged before they are read, a full disk, an S3 server that misbehaves."""

from __future__ import annotations

import random
from collections.abc import Callable

from pyarrow.fs import FileSelector, FileSystem

from orders_platform.fault_points import FaultPoint
from orders_platform_tests.faults.history import Step
from orders_platform_tests.faults.player import Player
from orders_platform_tests.faults.store_proxy import Disturbance, StoreFault
from orders_platform_tests.faults.work import Kind, Work

LAG = Work(Kind.LAG_SENSOR)
SMALLEST_BYTES, LARGEST_BYTES = 2_000, 60_000
REQUESTS = 400
"""About as many requests as a run over five tables makes."""
COUNTS = {StoreFault.ANSWER_503: (1, 2, 12, 60), StoreFault.LATE_ANSWER: (1, 2), StoreFault.UPLOAD_CUT: (1, 2, 12)}
LATE_SECONDS = 4.0
"""More than the S3 client below PyIceberg waits for a byte."""


def staged_file(damage: Callable[[FileSystem, str], None]) -> Callable[[Player, Step], None]:
    """The run dies once files are staged; one of them is damaged before the next run reads it."""

    def act(player: Player, step: Step) -> None:
        read = _staged(player)
        player.start(LAG, FaultPoint.BRONZE_BEFORE_COMMIT).wait()
        files = sorted(_staged(player) - read)
        if files:
            damage(player.staged[0], files[step.chance % len(files)])
        player.run(step, LAG)

    return act


def disk_full(player: Player, step: Step) -> None:
    """No file can grow beyond a size that some need: writes fail in the middle."""
    limit = SMALLEST_BYTES + step.chance % (LARGEST_BYTES - SMALLEST_BYTES)
    player.run(step, Work(Kind.LAG_SENSOR, file_bytes=limit))


def store(fault: StoreFault, seconds: float = 0.0) -> Callable[[Player, Step], None]:
    """The S3 server goes wrong for some requests: few of them are healed by being sent again, many end the run."""

    def act(player: Player, step: Step) -> None:
        assert player.store is not None, "a history with this fault is on S3"
        chance = random.Random(step.chance)
        first, count = chance.randint(1, REQUESTS), chance.choice(COUNTS[fault])
        player.store.proxy.disturb(Disturbance(fault, first, count, seconds))
        code = player.start(LAG).wait()
        player.ended(step, code, f"{player.store.proxy.heal()} requests from the {first}th on")

    return act


def delete(files: FileSystem, path: str) -> None:
    files.delete_file(path)


def truncate(files: FileSystem, path: str) -> None:
    content = _read(files, path)
    _write(files, path, content[: len(content) // 2])


def flip_a_byte(files: FileSystem, path: str) -> None:
    content = bytearray(_read(files, path))
    content[len(content) // 2] ^= 0xFF
    _write(files, path, bytes(content))


def _staged(player: Player) -> set[str]:
    files, root = player.staged
    found = files.get_file_info(FileSelector(root, allow_not_found=True, recursive=True))
    return {each.path for each in found if each.extension == "parquet"}


def _read(files: FileSystem, path: str) -> bytes:
    with files.open_input_stream(path) as stream:
        return stream.read()


def _write(files: FileSystem, path: str, content: bytes) -> None:
    with files.open_output_stream(path) as stream:
        stream.write(content)
