"""Faults of a live stack that take more than a signal: a database put back, a connector that delivers twice."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

from orders_platform.settings import Settings
from orders_platform.stack import down, up
from orders_platform.stack.connect import worker_config
from orders_platform.stack.debezium import connector_config
from orders_platform.stack.part import places
from orders_platform.stack.postgres import NAME
from orders_platform.stack.unprivileged import data_folder

OTHER_PARTS = ("kafka", "connect", "clickhouse")
Say = Callable[[str], None]


class Backup:
    """A copy of PostgreSQL's data folder, made while the server is stopped; its slots are in it."""

    def __init__(self, settings: Settings, say: Say) -> None:
        self._settings, self._say = settings, say
        self._data = data_folder(places(settings, NAME).folder / "data")
        self._copy = self._data.with_name("data.backup")

    def take(self) -> None:
        """Stops the server, copies, starts it again. Connect lives on."""
        down(self._settings, self._say, keep=OTHER_PARTS)
        _copy(self._data, self._copy)
        up(self._settings, self._say)

    def put_back(self) -> None:
        """The server is stopped and its data are those of the copy. Connect lives on."""
        down(self._settings, self._say, keep=OTHER_PARTS)
        _copy(self._copy, self._data)


def _copy(source: Path, target: Path) -> None:
    """With owners and modes, which PostgreSQL insists on."""
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


@contextmanager
def without_exactly_once() -> Iterator[None]:
    """A Connect that is started meanwhile writes records as they come, and its offsets now and then."""
    with (
        patch(
            "orders_platform.stack.connect.worker_config",
            _with(worker_config, "exactly.once.source.support", "disabled"),
        ),
        patch(
            "orders_platform.stack.connector.connector_config",
            _with(connector_config, "exactly.once.support", "requested"),
        ),
    ):
        yield


def _with(config: Callable[..., dict[str, str]], name: str, value: str) -> Callable[..., dict[str, str]]:
    @wraps(config)
    def altered(*arguments: Any) -> dict[str, str]:
        return {**config(*arguments), name: value}

    return altered
