"""A change of the shop's table is accepted exactly, when it stops the table, and no decision undoes another."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from pyiceberg.catalog import Catalog
from typer.testing import CliRunner

from orders_platform.cli.app import OK, USAGE, WRONG, app
from orders_platform.ingest import drift_acceptance
from orders_platform.ingest.bronze import bronze_table
from orders_platform.ingest.drift import decision_update, decisions
from orders_platform.ingest.drift_acceptance import NoSuchDriftError, accept, open_drift
from orders_platform.ingest.errors import GapError, SchemaDriftError
from orders_platform.ingest.gap_acceptance import accept as accept_gap
from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.commits import CommitUnknownError, ConflictError, send
from orders_platform.settings import Settings
from orders_platform_tests.ingest.broker_admin import delete_before, drop_topic, make_topic
from orders_platform_tests.ingest.events import Record, contract, envelope, moment, order, produce
from orders_platform_tests.ingest.loads import ingest, rows

DAY = date(2026, 3, 1)
CHANGE = "columns:-status+state"


def altered(order_id: int, gone: str = "status", new: str = "state") -> Record:
    """An order of a table whose column `gone` is no more, and which has the column `new`."""
    row = order(order_id)
    row[new] = row.pop(gone)
    return Record(envelope("c", row, order_id), {"order_id": order_id}, 0, moment(DAY))


@pytest.fixture
def stopped(shop_topic: Settings, topic: str) -> Settings:
    """An installation that has stopped at a renamed column, as it seems."""
    produce(shop_topic, topic, [Record(envelope("c", order(1), 1), {"order_id": 1}, 0, moment(DAY)), altered(2)])
    with pytest.raises(SchemaDriftError) as error:
        ingest(shop_topic, DAY)
    assert error.value.change == CHANGE
    return shop_topic


def decide(settings: Settings, change: str, reason: str = "known") -> dict[str, str]:
    return accept(settings, open_catalog(settings), contract(), change, reason=reason, by="ann")


def accepted(catalog: Catalog) -> list[str]:
    return [each["change"] for each in decisions(bronze_table(catalog, contract()))]


def test_only_the_change_that_stops_the_table_is_accepted_and_by_its_name(stopped: Settings, catalog: Catalog) -> None:
    for other in ("columns:-status+stat", "key:id", "columns:-currency+money", ""):
        with pytest.raises(NoSuchDriftError, match=rf"what does is '{CHANGE.replace('+', '[+]')}'.*Nothing was"):
            decide(stopped, other)
    with pytest.raises(ValueError, match="reason"):
        decide(stopped, CHANGE, " ")
    assert accepted(catalog) == []
    first = decide(stopped, CHANGE)
    assert decide(stopped, CHANGE, "another reason") == first
    assert ingest(stopped, DAY).rows == 2
    assert accepted(catalog) == [CHANGE]


def test_nothing_is_accepted_in_advance(shop_topic: Settings, topic: str, catalog: Catalog) -> None:
    with pytest.raises(NoSuchDriftError, match=r"no change of the shop's table stops orders now"):
        decide(shop_topic, CHANGE)
    produce(shop_topic, topic, [altered(2)])
    with pytest.raises(SchemaDriftError):
        ingest(shop_topic, DAY)
    assert accepted(catalog) == []


def test_each_of_two_changes_is_decided_upon_when_it_is_met(stopped: Settings, topic: str, catalog: Catalog) -> None:
    second = "columns:-currency+money"
    produce(stopped, topic, [altered(3, "currency", "money")])
    with pytest.raises(NoSuchDriftError):
        decide(stopped, second)
    decide(stopped, CHANGE)
    with pytest.raises(SchemaDriftError) as error:
        ingest(stopped, DAY)
    assert error.value.change == second
    decide(stopped, second)
    ingest(stopped, DAY)
    assert accepted(catalog) == [CHANGE, second]
    assert rows(stopped) == [(1,), (2,), (3,)]


@pytest.mark.parametrize("outcome", [None, ConflictError, CommitUnknownError], ids=["landed", "refused", "no answer"])
def test_of_two_decisions_at_once_neither_is_lost(
    stopped: Settings, catalog: Catalog, monkeypatch: pytest.MonkeyPatch, outcome: type[Exception] | None
) -> None:
    """Somebody else decides between the look at the table and the commit, which may be refused or not answered."""
    other = {"change": "key:id", "reason": "known", "by": "bob", "at": "2026-03-01T00:00:00+00:00"}
    calls: list[int] = []

    def overtaken(*args: Any) -> None:
        calls.append(len(calls))
        if len(calls) == 1:
            send(open_catalog(stopped).load_table("bronze.orders"), (decision_update(other),), ())
            if outcome is ConflictError:
                raise ConflictError("somebody else was quicker")
        send(*args)
        if len(calls) == 1 and outcome is CommitUnknownError:
            raise CommitUnknownError("no answer")

    monkeypatch.setattr(drift_acceptance, "send", overtaken)
    decision = decide(stopped, CHANGE)
    assert decisions(catalog.load_table("bronze.orders")) == [other, decision]
    assert len(calls) == (2 if outcome is ConflictError else 1)


def test_what_else_stops_the_table_is_said_first(stopped: Settings, topic: str, catalog: Catalog) -> None:
    """Records that are gone, and nothing staged of them."""
    produce(stopped, topic, [altered(3), altered(4)])
    delete_before(stopped, topic, 0, 3)
    with pytest.raises(GapError, match=r"gaps accept TABLE expired:"):
        decide(stopped, CHANGE)
    assert accepted(catalog) == []


def test_a_change_within_what_is_staged_of_a_topic_that_is_no_more_is_decided_upon_first(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    """Accepting the new topic loads the rest of the former one: neither decision waits for the other for ever."""
    produce(shop_topic, topic, [Record(envelope("c", order(1), 1), {"order_id": 1}, 0, moment(DAY)), altered(2)])
    ingest(shop_topic, DAY, {0: 1})
    with pytest.raises(SchemaDriftError):
        ingest(shop_topic, DAY)
    drop_topic(shop_topic, topic)
    make_topic(shop_topic)
    decide(shop_topic, CHANGE)
    with pytest.raises(GapError) as stops:
        open_drift(shop_topic, catalog, contract())
    assert stops.value.gap is not None
    accept_gap(shop_topic, catalog, contract(), stops.value.gap.name, reason="made anew", by="ann")
    assert rows(shop_topic) == [(1,), (2,)]
    assert open_drift(shop_topic, catalog, contract()) is None


@pytest.fixture
def commanded(stopped: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The same, and the commands work on it."""
    monkeypatch.setenv("ORDERS_PLATFORM_HOME", str(stopped.home))
    monkeypatch.setenv("ORDERS_PLATFORM_TOPIC_PREFIX", stopped.topic_prefix)
    monkeypatch.setenv("ORDERS_PLATFORM_PORT_KAFKA", str(stopped.ports.kafka))
    return stopped


def listed(group: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, [group, "list", "--json"])
    return done.exit_code, {table: each["open"] for table, each in json.loads(done.stdout).items()}


def test_a_list_names_what_stops_each_table_now_and_one_hides_no_other(commanded: Settings) -> None:
    code, stops = listed("drift")
    assert (code, stops["orders"]["change"]) == (WRONG, CHANGE)
    assert f"drift accept orders {CHANGE}" in stops["orders"]["message"].replace("'", "")
    assert stops["customers"]["change"] is None, "its topic is not there, which is another problem"
    assert "customers" in stops["customers"]["message"]
    code, stops = listed("gaps")
    assert (code, stops["orders"]["name"]) == (WRONG, None)
    assert CHANGE in stops["orders"]["message"]
    shown = CliRunner().invoke(app, ["gaps", "list"])
    assert "gaps accept orders" not in shown.stdout, "there is no gap"
    decide(commanded, CHANGE)
    shown = CliRunner().invoke(app, ["drift", "list", "--table", "orders"])
    assert (shown.exit_code, "STOPPED" in shown.stdout) == (OK, False)
    assert f"accepted {CHANGE} (known)" in " ".join(shown.stdout.split())


def test_the_command_refuses_a_typo_and_says_what_stops_the_table(commanded: Settings, catalog: Catalog) -> None:
    command = lambda *words: CliRunner().invoke(app, ["drift", "accept", "orders", *words])  # noqa: E731
    typo = command("columns:-status+stat", "--reason", "known")
    assert typo.exit_code == WRONG
    assert f"what does is '{CHANGE}'" in " ".join(typo.stderr.split())
    assert command(CHANGE, "--reason", " ").exit_code == USAGE
    assert accepted(catalog) == []
    done = command(CHANGE, "--reason", "known", "--by", "ann", "--json")
    assert done.exit_code == OK, done.output
    assert {name: json.loads(done.stdout)[name] for name in ("change", "reason", "by")} == {
        "change": CHANGE, "reason": "known", "by": "ann",
    }  # fmt: skip
    assert ingest(commanded, DAY).rows == 2
