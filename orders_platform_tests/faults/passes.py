"""Passes of the platform in processes of their own, so that they can be killed, frozen and raced.

A fork server that has imported everything, and started nothing, makes a pass cost its work and no interpreter.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from orders_platform import fault_points
from orders_platform.fault_points import FaultPoint

PASS_SECONDS = 240.0
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["orders_platform_tests.faults.preload"])


def _pass(environment: Mapping[str, str], log: Path) -> None:
    """One `sync` in this process; exits 0 when caught up, 1 (by its exception, which the log shows) when it failed."""
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    from orders_platform.defs.sync import sync
    from orders_platform.settings import load

    sync(load())


class Pass:
    """A running pass over all that is behind."""

    def __init__(self, environment: Mapping[str, str], log: Path, die_at: FaultPoint | None = None, times: int = 1):
        fault = {fault_points.VARIABLE: f"{die_at}:{times}" if die_at else ""}
        self._process: ForkServerProcess = _SERVER.Process(target=_pass, args=({**environment, **fault}, log))
        self._process.start()

    def wait(self, seconds: float = PASS_SECONDS) -> int:
        """Its exit code; negative is the signal that ended it. Raises `TimeoutError` after ending it."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self.kill()
            raise TimeoutError(f"a pass did not end within {seconds} s")
        return self._process.exitcode

    def kill(self) -> int:
        """Ends it as a lost machine would."""
        self._process.kill()
        self._process.join()
        return self._process.exitcode or 0

    def kill_after(self, seconds: float) -> int:
        """Lets it work for a while, then ends it, unless it was done before."""
        self._process.join(seconds)
        return self.kill()

    def freeze_after(self, seconds: float) -> None:
        """Stops it in mid-step, unless it was done before."""
        time.sleep(seconds)
        if self._process.is_alive() and self._process.pid:
            os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets a frozen one go on."""
        if self._process.is_alive() and self._process.pid:
            os.kill(self._process.pid, signal.SIGCONT)
