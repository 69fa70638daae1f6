"""An installation without the `stack` extra, for parts that all run elsewhere: its commands say what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def _needed(wanted: list[str]) -> set[str]:
    """The distributions that these requirements bring along here."""
    found: set[tuple[str, str]] = set()
    waiting = [(Requirement(each), "") for each in wanted]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        for asked in ("", *requirement.extras):
            if (requirement.name, asked) in found:
                continue
            try:
                further = distribution(requirement.name).requires or []
            except PackageNotFoundError:
                continue
            found.add((requirement.name, asked))
            waiting += [(Requirement(each), asked) for each in further]
    return {name for name, _ in found}


@pytest.fixture(scope="module")
def without_extras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with links to those of the main dependencies, and to no other."""
    folder = tmp_path_factory.mktemp("packages")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in _needed(project["dependencies"]):
        found = distribution(name)
        for top in {file.parts[0] for file in found.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            link = folder / top
            if not link.exists():
                link.symlink_to(Path(str(found.locate_file(top))))
    return folder


@pytest.mark.parametrize("command", ["doctor", "status", "down"])
def test_commands_work_without_the_parts_of_one_machine(without_extras: Path, tmp_path: Path, command: str) -> None:
    done = subprocess.run(
        # -S: without the packages of the interpreter that runs the tests.
        [sys.executable, "-S", "-m", "orders_platform.cli", command],
        env={**os.environ, "PYTHONPATH": f"{without_extras}{os.pathsep}{ROOT}", "ORDERS_PLATFORM_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    assert done.returncode == (0 if command == "down" else 1), done.stderr
    if command == "doctor":
        assert "not installed: PostgreSQL, ClickHouse" in " ".join(done.stdout.split())
