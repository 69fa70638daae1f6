"""Brings parts to health, and takes them down: the same steps whichever part it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from orders_platform.stack import ports, processes
from orders_platform.stack.disk import explain_disk
from orders_platform.stack.errors import StackError
from orders_platform.stack.part import Part, Report, UnhealthyError

POLL_SECONDS = 0.1
HEAL_SECONDS = 20.0
"""How long a part that runs may fail to answer before it is started anew."""
LOG_LIMIT_BYTES = 20 * 1024 * 1024


def ensure(part: Part, report: Report, given_up: threading.Event | None = None) -> None:
    """Starts the part unless it runs and answers; a process that runs and does not answer is replaced.

    Raises:
        StackError: if it does not come up: with the reason and the end of its log.
    """
    process = part.process()
    if process is not None:
        if _answers_within(part, HEAL_SECONDS):
            return
        report(f"{part.title} (pid {process.pid}) does not answer: it is started anew")
        processes.stop(process, signals=part.stop_signals)
    ports.require_free((part,))
    started = time.monotonic()
    with explain_disk(part.folder):
        command = part.prepare(report)
        _rotate(part.log_file)
        pid = processes.start(command)
    _wait(part, pid, given_up or threading.Event())
    report(f"{part.title} {part.version} answers at {part.endpoint} after {time.monotonic() - started:.1f} s")


def ensure_all(parts: Sequence[Part], report: Report) -> None:
    """All of them at once, each on a thread of its own.

    Raises:
        StackError: with every part's problem, once all have ended well or badly.
    """
    ports.require_free(tuple(part for part in parts if part.process() is None))
    given_up = threading.Event()
    with ThreadPoolExecutor(max(1, len(parts))) as pool:
        futures = [pool.submit(ensure, part, report, given_up) for part in parts]
        try:
            errors = [error for future in futures if (error := future.exception()) is not None]
        except BaseException:  # Ctrl-C: the threads must not wait on
            given_up.set()
            raise
    if len(errors) == 1 or any(not isinstance(error, StackError) for error in errors):
        raise next((error for error in errors if not isinstance(error, StackError)), errors[0])
    if errors:
        raise StackError("\n".join(str(error) for error in errors))


def take_down(part: Part, report: Report) -> None:
    """Stops the part if it runs, and forgets its pid."""
    process = part.process()
    if process is not None:
        how = processes.stop(process, signals=part.stop_signals)
        report(f"{part.title} (pid {process.pid}) {how}")
    part.pid_file.unlink(missing_ok=True)


@contextmanager
def running(part: Part, report: Report) -> Iterator[Part]:
    """The part, up while the block runs."""
    ensure(part, report)
    try:
        yield part
    finally:
        take_down(part, report)


def _answers_within(part: Part, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while part.process() is not None:
        if all(ports.answers(port) for port in part.ports.values()):
            try:
                part.answer()
            except UnhealthyError:
                if time.monotonic() >= deadline:
                    return False
            else:
                return True
        elif time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return False


def _wait(part: Part, pid: int, given_up: threading.Event) -> None:
    """Until it answers. Raises `StackError` when it has ended, or does not within its time."""
    deadline = time.monotonic() + part.start_seconds
    last = "it does not listen"
    while time.monotonic() < deadline and not given_up.is_set():
        if part.process() is None and not processes.runs(pid):
            raise StackError(_failure(part, f"ended right after its start (pid {pid})"))
        if all(ports.answers(port) for port in part.ports.values()):
            try:
                part.answer()
            except UnhealthyError as error:
                last = str(error)
            else:
                return
        time.sleep(POLL_SECONDS)
    raise StackError(_failure(part, f"does not answer after {part.start_seconds:g} s ({last})"))


def _failure(part: Part, what: str) -> str:
    return f"{part.title} {what}; the end of {part.log_file}:\n{part.log_tail()}"


def _rotate(log_file: Path) -> None:
    """Keeps one older log, so that a stack that is started daily does not fill the disk."""
    if log_file.exists() and log_file.stat().st_size > LOG_LIMIT_BYTES:
        log_file.replace(log_file.with_suffix(".log.1"))
