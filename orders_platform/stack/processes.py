"""Processes that outlive the command that started them, and how to find them again.

A part is recognised by its own command line (it names a folder of this stack), never by a number in a file alone: after
a power cut the number in a pid file may belong to anyone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from orders_platform.stack import launch
from orders_platform.stack.errors import StackError

TERM_SECONDS = 15.0
KILL_SECONDS = 60.0
LAUNCH_SECONDS = 120.0


@dataclass(frozen=True)
class Command:
    """What to run for a part.

    `mark` is an argument that no other stack's process has. `user` is whom to become (only root can).
    """

    arguments: tuple[str, ...]
    mark: str
    log_file: Path
    pid_file: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    user: str | None = None


def start(command: Command) -> int:
    """Starts it in a session of its own, so that a Ctrl-C in this terminal does not reach it; output goes to its log.

    Returns:
        Its pid; the process may have ended already.

    Raises:
        OSError: if its log cannot be written.
        StackError: if it cannot be launched.
    """
    command.log_file.parent.mkdir(parents=True, exist_ok=True)
    command.pid_file.parent.mkdir(parents=True, exist_ok=True)
    launcher = [sys.executable, "-I", "-S", launch.__file__, "--pid-file", str(command.pid_file)]
    launcher += ["--user", command.user] if command.user else []
    launcher += ["--cwd", str(command.cwd)] if command.cwd else []
    with command.log_file.open("ab") as log:
        done = subprocess.run(
            [*launcher, "--", *command.arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **command.environment},
            timeout=LAUNCH_SECONDS,
            check=False,
        )
    if done.returncode != 0:
        raise StackError(f"{command.arguments[0]} could not be launched: see {command.log_file}")
    return int(command.pid_file.read_text(encoding="ascii"))


def find(mark: str, pid_file: Path) -> psutil.Process | None:
    """The running process with that mark: the one of the pid file, else whichever has it (the file may be lost)."""
    pid = _read_pid(pid_file)
    if pid is not None and (process := _with_mark(pid, mark)):
        return process
    candidates = [found for pid in psutil.pids() if (found := _with_mark(pid, mark))]
    # A server's own children may share its command line: the parent is the part.
    pids = {process.pid for process in candidates}
    return next((process for process in candidates if _parent(process) not in pids), None)


def runs(pid: int) -> bool:
    """Whether there is a process of this number that has not ended, whatever it is at the moment."""
    try:
        return _runs(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def stop(
    process: psutil.Process,
    term_seconds: float = TERM_SECONDS,
    signals: Sequence[int] = (),
) -> str:
    """Asks it to end, then insists; returns what it took, such as `stopped` or `killed after 15 s`.

    `signals` are sent in turn (SIGTERM if none is given), each with `term_seconds` to end, then SIGKILL.

    Raises:
        StackError: if it is still there after SIGKILL (stuck in the kernel, on a dead disk for example).
    """
    import signal

    family = [process, *_descendants(process)]
    how = "stopped"
    for number in signals or (signal.SIGTERM,):
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            break
        if _gone([process], term_seconds):
            break
    else:
        how = f"killed after {term_seconds:g} s"
        for member in family:
            _kill(member)
    if not _gone([process], KILL_SECONDS):
        raise StackError(
            f"process {process.pid} does not end, not even by SIGKILL: look at its state with ps, then reboot"
        )
    for member in family:
        _kill(member)
    _gone(family, KILL_SECONDS)
    return how


def memory_bytes(process: psutil.Process) -> int:
    """What the process and its children hold; pages that they share are counted once where the system says so."""
    total = 0
    for member in [process, *_descendants(process)]:
        try:
            full = member.memory_full_info()
            total += getattr(full, "pss", full.rss)
        except psutil.Error:
            continue
    return total


def _read_pid(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _with_mark(pid: int, mark: str) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE or mark not in process.cmdline():
            return None
        return process
    except psutil.Error:
        return None


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def _gone(processes: list[psutil.Process], seconds: float) -> bool:
    """Whether all have ended within the time."""
    deadline = time.monotonic() + seconds
    while True:
        if not any(_runs(process) for process in processes):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
