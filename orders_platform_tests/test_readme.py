"""The README says what is so: settings, commands, files and the worked example are compared with the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer.main
import yaml

from orders_platform.cli import app
from orders_platform.contracts import Masking, load_contract
from orders_platform.settings import PREFIX, Ports, Settings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "deploy").rglob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def documented_settings() -> dict[str, str]:
    """Name and default of each setting of ours in the README's table."""
    rows = re.findall(rf"^\| `({PREFIX}[A-Z_*]+)` \| (.*?) \|", README, re.MULTILINE)
    return {name: default.strip("`") for name, default in rows}


def existing_settings() -> dict[str, object]:
    fields = {f"{PREFIX}{name.upper()}": field.default for name, field in Settings.model_fields.items()}
    del fields[f"{PREFIX}PORTS"], fields[f"{PREFIX}KAFKA"]
    ports = {f"{PREFIX}PORT_{name.upper()}": field.default for name, field in Ports.model_fields.items()}
    return {**fields, **ports, f"{PREFIX}KAFKA__*": None}


def test_the_table_of_settings_has_every_setting_and_no_other() -> None:
    assert set(documented_settings()) == set(existing_settings())


def test_the_defaults_in_the_table_are_the_defaults() -> None:
    documented = documented_settings()
    wrong = {
        name: default
        for name, default in existing_settings().items()
        if default is not None and documented[name] != str(default)
    }
    assert wrong == {}


def commands(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


def test_every_command_that_is_named_exists() -> None:
    known = set(commands(typer.main.get_command(app)))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for words in re.findall(r"orders-platform ((?:[a-z][a-z-]*)(?: [a-z][a-z-]+)?)", text):
            path = tuple(words.split())
            assert path in known or path[:1] in known, f"{page.name}: orders-platform {words}"


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):.* ## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        for target in re.findall(r"(?:`|^ +)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert target in targets, f"{page.name}: make {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_linked_exists(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link.partition("#")[0]).exists(), link


def test_the_contract_of_the_worked_example_can_be_loaded(tmp_path: Path) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    file = tmp_path / "suppliers.yaml"
    file.write_text(examples[0], encoding="utf-8")
    contract = load_contract(file)
    assert contract.key == ("supplier_id",)
    assert contract.versions_table == "silver.suppliers_versions"
    assert contract.column("email").masking is Masking.HMAC
    assert yaml.safe_load(examples[1])[0]["name"] == contract.table
