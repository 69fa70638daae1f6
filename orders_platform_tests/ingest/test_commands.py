"""What an operator types about dead letters and the ledger, and what a program reads of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date

import pytest
from pyiceberg.catalog import Catalog
from typer.testing import CliRunner, Result

from orders_platform.cli.app import OK, USAGE, WRONG, app
from orders_platform.ingest.bronze import bronze_table
from orders_platform.settings import Settings
from orders_platform_tests.ingest.events import Record, change, contract, moment, produce
from orders_platform_tests.ingest.loads import ingest

DAY = date(2026, 3, 1)


@pytest.fixture
def command(shop_topic: Settings, topic: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`orders-platform …` for an installation with one row and two dead letters."""
    records = [
        change(1, 1, at=moment(DAY)),
        change(2, 2, at=moment(DAY), currency=None),
        Record(b"{", b"{}", 0, moment(DAY)),
    ]
    produce(shop_topic, topic, records)
    ingest(shop_topic, DAY)
    monkeypatch.setenv("ORDERS_PLATFORM_HOME", str(shop_topic.home))
    monkeypatch.setenv("ORDERS_PLATFORM_TOPIC_PREFIX", shop_topic.topic_prefix)
    monkeypatch.setenv("ORDERS_PLATFORM_PORT_KAFKA", str(shop_topic.ports.kafka))
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_dead_letters_are_listed_replayed_and_discarded(command: Callable[..., Result]) -> None:
    listed = command("dead-letters", "list", "--table", "orders", "--class", "NotJson", "--json")
    (found,) = json.loads(listed.stdout)
    assert (found["partition"], found["offset"], found["stage"], found["value"]) == (0, 2, "decode", "ew==")
    again = command("dead-letters", "replay", "orders", "--json")
    assert again.exit_code == WRONG, "they still fail"
    assert json.loads(again.stdout)["reasons"] == {"MissingValue": 1, "NotJson": 1}
    assert command("dead-letters", "discard", "orders").exit_code == USAGE, "without a reason"
    done = command("dead-letters", "discard", "orders", "--reason", "a load test", "--by", "ann")
    assert done.exit_code == OK
    assert "2 dead letters discarded" in done.stdout
    assert json.loads(command("dead-letters", "list", "--open", "--json").stdout) == []
    shown = json.loads(command("dead-letters", "show", "orders", "0", "1", "--json").stdout)
    assert (shown["discarded"]["by"], shown["discarded"]["reason"]) == ("ann", "a load test")
    assert "a load test" in command("dead-letters", "show", "orders", "0", "1").stdout
    assert "ann: a load" in " ".join(command("dead-letters", "list", "--discarded").stdout.split())
    assert json.loads(command("dead-letters", "replay", "orders", "--json").stdout)["chosen"] == 0
    assert json.loads(command("dead-letters", "replay", "orders", "--discarded", "--json").stdout)["chosen"] == 2


def test_a_ledger_is_shown_and_rebuilt_only_where_it_is_needed(
    command: Callable[..., Result], catalog: Catalog
) -> None:
    assert command("ledger", "show", "--table", "orders").exit_code == OK
    shown = json.loads(command("ledger", "show", "--table", "orders", "--rows", "--json").stdout)["orders"]
    (partition,) = shown["partitions"]
    assert (partition["loaded"], partition["rows"], partition["dead_letters"]) == ([[0, 3]], 3, 2)
    refused = command("ledger", "rebuild", "orders")
    assert refused.exit_code == WRONG
    assert "agrees with its 3 rows" in " ".join(refused.stderr.split())
    assert "--although-believed" in refused.stderr
    # Another engine rewrites the table, and its maintenance removes the tag and what it kept.
    table = bronze_table(catalog, contract())
    table.overwrite(table.scan().to_arrow())
    table.manage_snapshots().remove_tag("ledger").commit()
    head = table.refresh().current_snapshot()
    table.maintenance.expire_snapshots().by_ids(
        [each.snapshot_id for each in table.metadata.snapshots if head and each.snapshot_id != head.snapshot_id]
    ).commit()
    lost = command("ledger", "show", "--json")
    assert lost.exit_code == WRONG
    assert "orders: " in lost.stderr
    assert "ledger rebuild" in json.loads(lost.stdout)["orders"]["problem"]
    assert "partitions" in json.loads(lost.stdout)["customers"], "one table's problem hides no other table"
    altered = json.loads(command("drift", "list", "--json").stdout)["orders"]
    assert (altered["differs"], "ledger rebuild" in altered["open"]["message"]) == (None, True)
    assert "orders: what was seen is not known" in command("drift", "list").stdout
    rebuilt = command("ledger", "rebuild", "orders", "--json")
    assert rebuilt.exit_code == OK, rebuilt.output
    said = json.loads(rebuilt.stdout)
    assert said["rows"] == 3
    assert any("tombstones" in each for each in said["unknown"])
    assert command("ledger", "show", "--table", "orders").exit_code == OK
