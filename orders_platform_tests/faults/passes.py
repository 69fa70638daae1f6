"""The platform's work in processes of their own, so that it can be killed, frozen and raced.

A fork server that has imported everything, and started nothing, makes a process cost its work and no interpreter.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from mmap import mmap
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import psutil

from orders_platform import fault_points
from orders_platform.fault_points import Point
from orders_platform_tests.faults.work import Work

PASS_SECONDS = 240.0
SERVER = multiprocessing.get_context("forkserver")
_STARTING = threading.Lock()
SERVER.set_forkserver_preload(["orders_platform_tests.faults.preload"])


def _pass(work: Work, environment: Mapping[str, str], log: Path) -> None:
    """Does the work here; exits 0 when it is done, 1 (by its exception, which the log shows) when it failed."""
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    from orders_platform.settings import load
    from orders_platform_tests.faults.forked_dbt import use_forked_dbt

    if work.freeze:  # before dbt's server is forked, as two of the points are passed by dbt
        fault_points.signal = _FreezingOnce()  # type: ignore[assignment]
    use_forked_dbt()
    work.run(load())


class _FreezingOnce:
    """Stands for `signal` where a process would die at a point: it stops there instead.

    Once only, in whichever of the processes that were forked from this one comes first: what a thawed run does again
    is done by another dbt, which has passed no point yet.
    """

    def __init__(self) -> None:
        self._has_stopped = mmap(-1, 1)  # memory that is shared with what is forked from here

    @property
    def SIGKILL(self) -> int:
        if self._has_stopped[0]:
            return 0  # a signal that does nothing
        self._has_stopped[0] = 1
        return signal.SIGSTOP


class Pass:
    """A process at work."""

    def __init__(
        self,
        environment: Mapping[str, str],
        log: Path,
        work: Work | None = None,
        die_at: Point | None = None,
        times: int = 1,
    ):
        fault = {fault_points.VARIABLE: f"{die_at}:{times}" if die_at else ""}
        arguments = (work or Work(), {**environment, **fault}, log)
        self._process: ForkServerProcess = SERVER.Process(target=_pass, args=arguments)
        with _STARTING:
            self._process.start()
            # Whoever starts a process asks all of these whether they have ended. How one ended can be read only once:
            # another thread that waits for it would be told 255.
            multiprocessing.process._children.discard(self._process)  # type: ignore[attr-defined]

    def wait(self, seconds: float = PASS_SECONDS) -> int:
        """Its exit code; negative is the signal that ended it. Raises `TimeoutError` after ending it."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self.kill()
            raise TimeoutError(f"a pass did not end within {seconds} s")
        return self._process.exitcode

    def kill(self) -> int:
        """Ends it, and what is frozen of it, as a lost machine would."""
        frozen = self._frozen()
        self._process.kill()
        for process in frozen:
            with suppress(psutil.NoSuchProcess):
                process.kill()
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

    def wait_until_frozen(self) -> bool:
        """Whether it, or dbt in it, has stopped itself at a point; False if it has ended before."""
        deadline = time.monotonic() + PASS_SECONDS
        while self._process.is_alive() and time.monotonic() < deadline:
            if self._frozen():
                return True
            time.sleep(0.02)
        return False

    def thaw(self) -> None:
        """Lets it go on wherever it is frozen."""
        for process in self._frozen():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def _frozen(self) -> list[psutil.Process]:
        """Those of its processes that are stopped: itself, or dbt, for which it waits."""
        found = []
        with suppress(psutil.NoSuchProcess):  # it may end between two looks
            own = psutil.Process(self._process.pid)
            for process in (own, *own.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    if process.status() == psutil.STATUS_STOPPED:
                        found.append(process)
        return found
