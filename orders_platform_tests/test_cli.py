"""The command line: what it says, what it exits with, what a program can read."""

from __future__ import annotations

import json
import pkgutil
import socket
from collections.abc import Iterator
from decimal import Decimal
from importlib import import_module
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from orders_platform.cli.app import INTERRUPTED, NOT_COMPARED, OK, USAGE, WRONG, app, is_known
from orders_platform.cli.changes import show_demo
from orders_platform.defs.demo import DemoReport, RevenueRow
from orders_platform.defs.sync import SyncReport
from orders_platform.quality.report import ReconcileReport
from orders_platform.settings import Settings
from orders_platform.stack.debezium import SLOT
from orders_platform.stack.shop import ShopReport

COMMANDS = (
    "up", "down", "status", "demo", "shop", "sync", "reconcile", "doctor",
    "dead-letters list", "dead-letters show", "dead-letters replay", "dead-letters discard",
    "gaps list", "gaps accept", "gaps repair", "ledger show", "ledger rebuild",
    "drift list", "drift accept",
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
    assert all(f"{code} " in output for code in (OK, WRONG, USAGE, NOT_COMPARED, INTERRUPTED))
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
def test_sync_without_a_broker_says_so_in_one_sentence_and_in_one_document() -> None:
    result = call("sync", "--json")
    assert result.exit_code == WRONG
    assert "did not answer within" in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    document = json.loads(result.stdout)
    assert document["caught_up"] is False
    assert "did not answer within" in document["failures"][0]


@pytest.mark.usefixtures("home")
def test_a_comparison_that_could_not_be_made_is_told_from_a_difference() -> None:
    result = call("reconcile", "--json")
    assert result.exit_code == NOT_COMPARED
    document = json.loads(result.stdout)
    assert document["equal"] is None
    assert "database cannot be read" in document["failures"][0]


def test_the_doctor_finds_a_taken_port_and_says_so_to_programs(home: Settings) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", home.ports.kafka))
        other.listen()
        for_people, for_programs = call("doctor"), call("doctor", "--json")
    assert for_people.exit_code == for_programs.exit_code == WRONG
    wrong = [finding for finding in json.loads(for_programs.stdout) if not finding["ok"]]
    assert any("ORDERS_PLATFORM_PORT_KAFKA" in finding["what"] and finding["remedy"] for finding in wrong)
    assert "ORDERS_PLATFORM_PORT_KAFKA" in for_people.stdout


def _exceptions() -> Iterator[type[Exception]]:
    """Every exception class that the domain's packages define."""
    for package in ("contracts", "ingest", "lake", "quality", "serving", "stack"):
        folder = import_module(f"orders_platform.{package}")
        for module in pkgutil.iter_modules(folder.__path__, f"{folder.__name__}."):
            for each in vars(import_module(module.name)).values():
                if isinstance(each, type) and issubclass(each, Exception) and each.__module__ == module.name:
                    yield each


def test_no_error_of_ours_ends_in_a_traceback() -> None:
    found = {each.__qualname__: is_known(each.__new__(each)) for each in _exceptions()}
    assert {"GoldMarkError", "LoadError", "DayOutOfRangeError", "ContractError", "StackError"} <= set(found)
    assert [name for name, known in found.items() if not known] == []


def test_an_error_that_nobody_foresaw_keeps_its_traceback() -> None:
    assert not is_known(ZeroDivisionError("division by zero"))


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


OF_SOMEBODY = {
    "ORDERS_PLATFORM_POSTGRES_DSN": "postgresql://me:secret@db.example.com:5433/their_shop",
    "ORDERS_PLATFORM_KAFKA__BOOTSTRAP_SERVERS": "kafka.example.com:9092",
    "ORDERS_PLATFORM_STAGING_URL": "s3://lake/staging",
    "ORDERS_PLATFORM_CLICKHOUSE_URL": "https://clickhouse.example.com",
    "PYICEBERG_CATALOG__ORDERS__URI": "https://catalog.example.com",
}


@pytest.mark.parametrize("variable", OF_SOMEBODY)
def test_the_demo_writes_to_nobodys_systems(home: Settings, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, OF_SOMEBODY[variable])
    result = call("demo")
    assert result.exit_code == WRONG
    said = " ".join(result.stderr.split())
    assert "nothing was started and nothing written" in said
    assert variable in said
    assert "Unset" in said
    assert not home.home.exists()


@pytest.mark.parametrize("command", [["shop", "--minutes", "0"], ["up", "--for-shop"]], ids=["shop", "make dev SHOP="])
def test_the_shop_writes_to_somebodys_database_only_when_told(
    home: Settings, monkeypatch: pytest.MonkeyPatch, shop_dsn: str, command: list[str]
) -> None:
    monkeypatch.setenv("ORDERS_PLATFORM_POSTGRES_DSN", shop_dsn)
    result = call(*command)
    assert result.exit_code == WRONG
    said = " ".join(result.stderr.split())
    assert shop_dsn.rpartition("/")[2] in said
    assert "ORDERS_PLATFORM_POSTGRES_DSN" in said
    assert "--into-postgres-dsn" in said
    assert _tables(shop_dsn) == 0
    assert not home.home.exists()


@pytest.mark.usefixtures("home")
def test_the_shop_that_is_told_says_where_it_writes(monkeypatch: pytest.MonkeyPatch, shop_dsn: str) -> None:
    monkeypatch.setenv("ORDERS_PLATFORM_POSTGRES_DSN", shop_dsn)
    result = call("shop", "--minutes", "0", "--into-postgres-dsn")
    assert result.exit_code == OK, result.output
    assert f"the shop writes to {shop_dsn.rpartition('/')[2]} at 127.0.0.1:" in " ".join(result.stderr.split())
    assert _tables(shop_dsn) == 5


def _tables(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        (row,) = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return int(row[0])


def test_a_refusal_shows_no_password(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERS_PLATFORM_POSTGRES_DSN", OF_SOMEBODY["ORDERS_PLATFORM_POSTGRES_DSN"])
    home.home.mkdir()
    for command in (["shop"], ["down"]):
        output = call(*command).output
        assert "their_shop at db.example.com:5433" in " ".join(output.split())
        assert "secret" not in output


def test_what_stays_in_a_database_that_is_not_ours_is_said(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    home.home.mkdir()
    assert call("down").output.strip() == ""
    monkeypatch.setenv("ORDERS_PLATFORM_POSTGRES_DSN", OF_SOMEBODY["ORDERS_PLATFORM_POSTGRES_DSN"])
    assert f"SELECT pg_drop_replication_slot('{SLOT}')" in call("down").stderr


def test_make_dev_starts_nothing_where_the_ui_has_no_port(home: Settings) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", home.ports.dagster))
        other.listen()
        result = call("up", "--for-ui")
    assert result.exit_code == WRONG
    said = " ".join(result.stderr.split())
    assert "nothing was started" in said
    assert "ORDERS_PLATFORM_PORT_DAGSTER" in said
    assert not home.home.exists()


def test_a_cent_between_the_dashboard_and_postgresql_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    key = ("2026-11-20", "EU-WEST", "EUR")
    row = RevenueRow(key, orders=1, clickhouse=Decimal("10.00"), postgres=Decimal("10.01"), postgres_orders=1)
    report = DemoReport(ShopReport(), SyncReport(), ReconcileReport((), 0.0), (row,))
    assert not report.equal
    show_demo(report)
    printed = capsys.readouterr().out
    assert "\u2260" in printed
    assert "1 rows of daily revenue, NOT EQUAL" in printed


def test_ctrl_c_has_its_own_exit_code(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orders_platform.stack.doctor", interrupted)
    assert call("doctor").exit_code == INTERRUPTED
    assert not Path(home.home).exists()
