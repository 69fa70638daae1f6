"""The command line: what it says, what it exits with, what a program can read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from orders_platform.cli.app import INTERRUPTED, OK, USAGE, WRONG, app
from orders_platform.settings import Settings

COMMANDS = (
    "up", "down", "status", "demo", "shop", "sync", "reconcile", "doctor",
    "dead-letters list", "dead-letters show", "dead-letters replay", "dead-letters discard",
    "gaps list", "gaps accept", "gaps repair", "ledger show", "ledger rebuild",
)  # fmt: skip


@pytest.fixture
def home(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The environment of an installation in which nothing runs."""
    monkeypatch.setenv("ORDERS_PLATFORM_HOME", str(settings.home))
    for name, port in settings.ports.model_dump().items():
        monkeypatch.setenv(f"ORDERS_PLATFORM_PORT_{name.upper()}", str(port))
    return settings


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = call(*command.split(), "--help")
    assert result.exit_code == OK
    assert len(result.output.splitlines()) > 5


def test_the_first_screen_says_where_to_begin_and_what_exit_codes_mean() -> None:
    output = call("--help").output
    assert "First time? orders-platform demo" in output
    assert "Exit codes" in output
    assert all(command.split()[0] in output for command in COMMANDS)


@pytest.mark.parametrize("command", [["sync"], ["status"], ["ledger", "show"], ["demo"]])
def test_wrong_settings_are_all_named_and_exit_2(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERS_PLATFORM_ENV", "staging")
    result = call(*command)
    assert result.exit_code == USAGE
    assert "ORDERS_PLATFORM_POSTGRES_DSN must be set in staging" in " ".join(result.stderr.split())
    assert "ORDERS_PLATFORM_PII_KEY" in result.stderr


def test_an_unknown_option_is_wrong_usage() -> None:
    assert call("sync", "--no-such-option").exit_code == USAGE


@pytest.mark.usefixtures("home")
def test_a_stack_that_is_down_is_said_to_programs_too() -> None:
    result = call("status", "--json")
    assert result.exit_code == WRONG
    document = json.loads(result.stdout)
    assert document["parts"]
    assert not any(part["healthy"] for part in document["parts"])


@pytest.mark.usefixtures("home")
def test_sync_without_a_broker_says_so_in_one_sentence() -> None:
    result = call("sync")
    assert result.exit_code == WRONG
    assert "did not answer within" in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def test_the_demo_refuses_to_start_a_stack_in_production(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "ENV": "production", "KAFKA__BOOTSTRAP_SERVERS": "k:9092", "POSTGRES_DSN": "postgresql://p/shop",
        "STAGING_URL": str(home.home), "CLICKHOUSE_URL": "http://c:8123", "PII_KEY": "a secret",
    }  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(f"ORDERS_PLATFORM_{name}", value)
    monkeypatch.setenv("PYICEBERG_CATALOG__ORDERS__URI", "http://catalog:8181")
    monkeypatch.setenv("PYICEBERG_CATALOG__ORDERS__TYPE", "rest")
    result = call("demo")
    assert result.exit_code == WRONG
    assert "ORDERS_PLATFORM_ENV must be local" in " ".join(result.stderr.split())


def test_ctrl_c_has_its_own_exit_code(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orders_platform.stack.doctor", interrupted)
    assert call("doctor").exit_code == INTERRUPTED
    assert not Path(home.home).exists()
