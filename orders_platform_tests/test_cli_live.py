"""The commands that carry, compare and show, as a person types them, on a stack that runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import clickhouse_connect
import pytest
from typer.testing import CliRunner, Result

from orders_platform.cli.app import OK, WRONG, app
from orders_platform.settings import Settings
from orders_platform.stack import down, status, wait_until_captured
from orders_platform.stack.shop import run_shop
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.waiting import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.timeout(300)

SMALL_DEMO = ("demo", "--rate", "20", "--seconds", "1", "--history", "1")
STRAY_ROW = "INSERT INTO daily_revenue (order_date, region, currency, orders) VALUES ('2001-01-01', 'X', 'EUR', 1)"


def call(settings: Settings, *arguments: str) -> Result:
    """What the command does where the environment names this installation."""
    ports = {f"ORDERS_PLATFORM_PORT_{name.upper()}": str(port) for name, port in settings.ports.model_dump().items()}
    return CliRunner().invoke(app, list(arguments), env={"ORDERS_PLATFORM_HOME": str(settings.home), **ports})


@pytest.fixture(scope="module")
def first_pass(live_stack: Settings) -> Result:
    """What `sync --json` said after a shop had written."""
    run_shop(live_stack.postgres, 5000, None, 11, 1, max_changes=100, orders_a_day=10)
    wait_until_captured(live_stack)
    return call(live_stack, "sync", "--json")


@pytest.fixture
def carried(live_stack: Settings, first_pass: Result) -> Settings:
    """The stack, everything carried once."""
    assert first_pass.exit_code == OK, first_pass.output
    return live_stack


@pytest.fixture
def stray_row(carried: Settings) -> Iterator[None]:
    """A row in ClickHouse that gold does not have, of a day that nobody loads again."""
    client = clickhouse_connect.get_client(dsn=carried.clickhouse)
    client.command(STRAY_ROW)
    yield
    client.command("ALTER TABLE daily_revenue DROP PARTITION 20010101")
    client.close()


def test_sync_says_what_it_carried_and_then_that_nothing_is_left(carried: Settings, first_pass: Result) -> None:
    document = json.loads(first_pass.stdout)
    assert document["caught_up"] is True
    assert document["hops"]["silver"]["rows"] > 0
    again = call(carried, "sync")
    assert again.exit_code == OK
    assert "0 runs" in again.stdout


def test_reconcile_finds_all_equal(carried: Settings) -> None:
    result = call(carried, "reconcile", "--json")
    assert result.exit_code == OK, result.output
    document = json.loads(result.stdout)
    assert document["equal"] is True
    assert all(table["equal"] for table in document["tables"])


@pytest.mark.usefixtures("stray_row")
def test_reconcile_names_the_row_that_differs(carried: Settings) -> None:
    result = call(carried, "reconcile", "--limit", "1", "--wait", "2", "--json")
    assert result.exit_code == WRONG
    (unequal,) = (table for table in json.loads(result.stdout)["tables"] if not table["equal"])
    assert len(unequal["differences"]) == 1
    assert "2001-01-01" in json.dumps(unequal["differences"])


def test_the_doctor_finds_a_stack_that_is_well(carried: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orders_platform.stack.diagnosis.NEEDED_MEMORY_BYTES", 0)
    result = eventually(lambda: call(carried, "doctor", "--json"), lambda result: result.exit_code == OK)
    assert [finding for finding in json.loads(result.stdout) if not finding["ok"]] == []
    assert result.exit_code == OK


def test_the_demo_leaves_a_stack_that_ran_before_running(carried: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orders_platform.stack.supervise.HEAL_SECONDS", PATIENCE_SECONDS)
    before = {part.name: part.pid for part in status(carried).parts}
    result = call(carried, *SMALL_DEMO)
    assert result.exit_code == OK, result.output
    assert "left running" in " ".join(result.stderr.split())
    assert {part.name: part.pid for part in status(carried).parts} == before


def test_the_demo_begins_with_nothing_shows_equal_figures_and_leaves_nothing_running(
    new_home: Callable[[str], Path],
) -> None:
    settings = new_settings(new_home("demo"))
    try:
        result = call(settings, *SMALL_DEMO)
        assert result.exit_code == OK, result.output
        assert not status(settings).running
    finally:
        down(settings)
    assert "order date" in result.stdout
    assert all(hop in result.stdout for hop in ("staging", "bronze", "silver", "gold", "clickhouse"))
    assert "silver.orders" in result.stdout
    assert "all equal" in result.stdout
    assert "\u2260" not in result.stdout
