"""Somebody adds a column in the shop: one alert says so, and `drift list` until the contract has it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orders_platform.cli import app
from orders_platform.contracts import load_contracts
from orders_platform.defs.sync import load
from orders_platform.ingest.dead_letter_fate import discard
from orders_platform.ingest.dead_letters import Selection
from orders_platform.ingest.ledger_rebuild import rebuild
from orders_platform.ingest.topics import create_topics
from orders_platform.lake.catalog import open_catalog
from orders_platform.settings import Settings
from orders_platform_tests.ingest.events import Record, change, produce

TOPIC = "altered.public.orders"


@pytest.fixture
def altered(broker: Settings, tmp_path: Path) -> Settings:
    """An installation on topics of its own, with one order as the contract has it."""
    settings = Settings(_env_file=None, home=tmp_path / "home", ports=broker.ports, topic_prefix="altered")  # type: ignore[call-arg]
    create_topics(settings, load_contracts())
    produce(settings, TOPIC, [change(1, 100)])
    load(settings, ["orders"])
    return settings


def alerts(caplog: pytest.LogCaptureFixture) -> list[tuple[int, dict[str, str]]]:
    return [
        (each.levelno, json.loads(each.message)) for each in caplog.records if each.name == "orders_platform.alerts"
    ]


def test_a_column_that_the_shop_adds_is_told_once_and_listed_until_the_contract_has_it(
    altered: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deletes, dead letters and decisions say nothing of the table's columns, and make nobody forget them."""
    with caplog.at_level(logging.INFO, "orders_platform.alerts"):
        assert alerts(caplog) == []
        produce(altered, TOPIC, [change(1, 200, "u", gift_note="for you")])
        load(altered, ["orders"])
        produce(altered, TOPIC, [change(1, 300, "u", gift_note="for you too")])
        load(altered, ["orders"])
        for silent in ([change(1, 310, "d")], [Record(b"no JSON", {"order_id": 2})]):
            produce(altered, TOPIC, silent)
            load(altered, ["orders"])
        (orders,) = [each for each in load_contracts() if each.table == "orders"]
        discard(altered, open_catalog(altered), orders, Selection(), "of no use", "ann")
        rebuild(altered, open_catalog(altered), orders, although_believed=True)
        produce(altered, TOPIC, [change(3, 320, gift_note="again")])
        load(altered, ["orders"])
        produce(altered, TOPIC, [change(3, 330, "d")])
        load(altered, ["orders"])
    ((level, alert),) = alerts(caplog)
    assert level == logging.WARNING
    assert (alert["alert"], alert["table"], alert["changes"]) == ("schema_drift", "orders", "added gift_note")
    assert "orders-platform gaps repair orders" in alert["remedy"]
    monkeypatch.setenv("ORDERS_PLATFORM_HOME", str(altered.home))
    monkeypatch.setenv("ORDERS_PLATFORM_TOPIC_PREFIX", altered.topic_prefix)
    monkeypatch.setenv("ORDERS_PLATFORM_PORT_KAFKA", str(altered.ports.kafka))
    listed = CliRunner().invoke(app, ["drift", "list", "--json"])
    assert listed.exit_code == 0, listed.output
    assert json.loads(listed.output)["orders"] == {
        "open": None,
        "differs": "added gift_note",
        "evolved": {"gift_note": "string"},
        "widened": {},
        "accepted": [],
    }
