"""Processes that outlive us: started clean, found again, stopped for certain."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from orders_platform.stack import processes
from orders_platform.stack.errors import StackError
from orders_platform.stack.processes import Command
from orders_platform_tests.waiting import eventually

PATIENT = "import time\nprint('ready', flush=True)\ntime.sleep(60)"
STUBBORN = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + PATIENT
FAMILY = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n" + PATIENT


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[str]:
    """An argument that no other process has; what still has it at the end is killed."""
    mark = f"--mark={tmp_path}"
    yield mark
    while (left := processes.find(mark, tmp_path / "pid")) is not None:
        processes.stop(left, term_seconds=0)


def _start(folder: Path, mark: str, program: str) -> psutil.Process:
    command = Command((sys.executable, "-c", program, mark), mark, folder / "logs" / "log", folder / "run" / "pid")
    pid = processes.start(command)
    assert eventually(lambda: "ready" in command.log_file.read_text(encoding="utf-8"))
    return psutil.Process(pid)


def test_a_process_is_found_by_its_mark_even_without_its_pid_file(tmp_path: Path, mark: str) -> None:
    process = _start(tmp_path, mark, PATIENT)
    pid_file = tmp_path / "run" / "pid"
    assert pid_file.read_text(encoding="ascii") == f"{process.pid}\n"
    assert processes.find(mark, pid_file) == process
    pid_file.unlink()
    assert processes.find(mark, pid_file) == process


@pytest.mark.parametrize(
    "content", [str(os.getpid()), "1", "999999999", "", "not a number"], ids=["own", "init", "nobody", "empty", "text"]
)
def test_a_pid_file_that_names_someone_else_is_not_believed(tmp_path: Path, content: str) -> None:
    pid_file = tmp_path / "pid"
    pid_file.write_text(content, encoding="ascii")
    assert processes.find(f"--mark={tmp_path}", pid_file) is None


def test_it_has_a_session_of_its_own_and_can_be_interrupted_although_we_cannot(tmp_path: Path, mark: str) -> None:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        process = _start(tmp_path, mark, PATIENT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    assert processes.stop(process, signals=(signal.SIGTERM,)) == "stopped"
    assert processes.find(mark, tmp_path / "run" / "pid") is None


def test_a_process_that_ignores_the_request_is_killed(tmp_path: Path, mark: str) -> None:
    process = _start(tmp_path, mark, STUBBORN)
    assert processes.stop(process, term_seconds=0.3) == "killed after 0.3 s"
    assert processes.find(mark, tmp_path / "run" / "pid") is None


def test_its_children_end_with_it(tmp_path: Path, mark: str) -> None:
    process = _start(tmp_path, mark, FAMILY)
    children = process.children()
    assert len(children) == 1
    assert processes.memory_bytes(process) > 1_000_000
    processes.stop(process)
    assert [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []


def test_one_that_has_ended_is_no_longer_found_and_can_be_stopped_again(tmp_path: Path, mark: str) -> None:
    process = _start(tmp_path, mark, PATIENT)
    process.kill()
    psutil.wait_procs([process], timeout=20)
    assert processes.find(mark, tmp_path / "run" / "pid") is None
    assert processes.stop(process) == "stopped"
    assert processes.memory_bytes(process) == 0


def test_a_program_that_does_not_exist_says_so_in_its_log(tmp_path: Path, mark: str) -> None:
    command = Command((str(tmp_path / "none"), mark), mark, tmp_path / "log", tmp_path / "pid")
    processes.start(command)
    deadline = time.monotonic() + 20
    while processes.find(mark, command.pid_file) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "FileNotFoundError" in command.log_file.read_text(encoding="utf-8")


def test_one_that_cannot_be_launched_is_an_error(tmp_path: Path, mark: str) -> None:
    command = Command((sys.executable, mark), mark, tmp_path / "log", tmp_path / "pid", cwd=tmp_path / "none")
    (tmp_path / "pid").mkdir()
    with pytest.raises(StackError, match=r"could not be launched: see .*log"):
        processes.start(command)
