"""What all parts of the stack have in common: a name, ports, a command, and a question that shows health."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from orders_platform.settings import Settings
from orders_platform.stack.errors import StackError
from orders_platform.stack.processes import Command, find

Report = Callable[[str], None]
LOG_TAIL_LINES = 15


class UnhealthyError(StackError):
    """A part runs, or should, and does not answer as it must."""


@dataclass(frozen=True)
class Part:
    """One server of the stack.

    `ports` are named by the setting that changes them. `prepare` writes its configuration, makes its first data and
    says what to run; `answer` asks a real question and returns what it learnt, or raises `UnhealthyError`.
    """

    name: str
    title: str
    endpoint: str
    version: str
    ports: Mapping[str, int]
    folder: Path
    mark: str
    log_file: Path
    pid_file: Path
    prepare: Callable[[Report], Command]
    answer: Callable[[], str]
    start_seconds: float = 120.0
    stop_signals: tuple[int, ...] = ()

    def process(self) -> psutil.Process | None:
        """Its running process, if there is one."""
        return find(self.mark, self.pid_file)

    def log_tail(self) -> str:
        """The last lines of its log, for an error message."""
        try:
            lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "(no log)"
        return "\n".join(lines[-LOG_TAIL_LINES:]) or "(its log is empty)"


@dataclass(frozen=True)
class Places:
    """Where a part keeps its things under the home folder."""

    home: Path
    name: str

    @property
    def folder(self) -> Path:
        return self.home / self.name

    @property
    def log_file(self) -> Path:
        return self.home / "logs" / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        return self.home / "run" / f"{self.name}.pid"


def installed_version(package: str) -> str:
    """The version of a part that comes as a wheel; without the `stack` extra the part is there and says so."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def places(settings: Settings, name: str) -> Places:
    """The places of a part in this installation."""
    return Places(settings.home, name)
