"""The table of cases is complete, and names tests that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CATALOGUE = HERE.parents[2] / "shared" / "CDC-CASES.md"


@dataclass(frozen=True)
class Row:
    """A row of a table under a heading; `numbers` are the cases that it is about, none for a row without number."""

    heading: str
    numbers: frozenset[int]
    cells: tuple[str, ...]


def rows(file: Path) -> Iterator[Row]:
    heading = ""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ").strip()
        elif line.startswith("|") and heading:
            cells = tuple(cell.strip() for cell in line.strip("|").split("|"))
            first = cells[0]
            if first in ("#", "case", "what happens") or set(first) <= set("-"):
                continue
            numbers = (
                frozenset(map(int, re.findall(r"\d+", first))) if re.fullmatch(r"[\d, –]+", first) else frozenset()
            )
            yield Row(heading, numbers, cells)


def names_in(file: str) -> set[str]:
    tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


OURS = list(rows(HERE / "README.md"))


@pytest.mark.parametrize("row", OURS, ids=lambda row: f"{row.heading}: {row.cells[1]}"[:60])
def test_every_row_names_tests_that_exist(row: Row) -> None:
    named = re.findall(r"`(?:([\w./]+)::)?(test_[\w*]+)`", row.cells[2])
    assert named, "a promise without a test"
    file = ""
    for in_file, pattern in named:
        file = in_file or file
        assert any(fnmatch(name, pattern) for name in names_in(file)), f"{file} has no {pattern}"
    for number in row.numbers:
        assert re.search(rf"_{number}_", row.cells[2].replace("*", "_")), f"case {number} is in the name of no test"


def test_every_case_of_the_catalogue_has_a_row() -> None:
    if not CATALOGUE.exists():
        pytest.skip(f"{CATALOGUE} is not here: there is nothing to compare the table with")
    wanted = list(rows(CATALOGUE))
    assert len(wanted) > 40
    promised = {(row.heading, number) for row in OURS for number in row.numbers}
    missing = {(row.heading, number) for row in wanted for number in row.numbers} - promised
    assert not missing, f"without a row in README.md: {sorted(missing)}"
    for heading in {row.heading for row in wanted}:
        unnumbered = [sum(row.heading == heading and not row.numbers for row in table) for table in (wanted, OURS)]
        assert unnumbered[0] <= unnumbered[1], f"{heading}: {unnumbered[0]} rows without a number, {unnumbered[1]} here"
