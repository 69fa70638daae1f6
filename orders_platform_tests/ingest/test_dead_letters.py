"""Dead letters keep everything, can be decoded again or discarded, and stop a table when they are many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from pyiceberg.catalog import Catalog

from orders_platform.contracts import Contract
from orders_platform.defs.location import build_location
from orders_platform.defs.resources.platform import Platform
from orders_platform.ingest.bronze import bronze_table
from orders_platform.ingest.dead_letter_fate import discard, replay
from orders_platform.ingest.dead_letter_limit import check_dead_letters
from orders_platform.ingest.dead_letters import Selection, count_dead_letters, list_dead_letters, show_dead_letter
from orders_platform.ingest.errors import TooManyDeadLettersError
from orders_platform.ingest.gap_acceptance import accept, open_gap
from orders_platform.ingest.ledger import Ledger
from orders_platform.ingest.silver_gate import refuse_unfit
from orders_platform.lake.audit import check_silver, mark_audited
from orders_platform.lake.silver import merge_silver
from orders_platform.settings import Settings
from orders_platform_tests.ingest.broker_admin import drop_topic, make_topic
from orders_platform_tests.ingest.events import Record, change, contract, envelope, moment, order, produce
from orders_platform_tests.ingest.loads import assert_sound, ingest, rows
from orders_platform_tests.lake.changes import silver_rows

DAY = date(2026, 3, 1)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def lenient(*columns: str) -> Contract:
    """The contract of orders after a fix: these columns may be null."""
    strict = contract()
    fixed = tuple(replace(c, required=c.required and c.name not in columns) for c in strict.columns)
    return replace(strict, columns=fixed, version="1.1.0")


@pytest.fixture
def letters(shop_topic: Settings, topic: str) -> Settings:
    """Two good orders; two without currency, of which one is changed later; one record that is no JSON."""
    records = [
        change(1, 10, at=moment(DAY)),
        change(2, 20, at=moment(DAY), currency=None),
        change(3, 30, at=moment(DAY), currency=None),
        Record(b"\xff{", {"order_id": 9}, 0, moment(DAY), (("h", b"x"), ("h", b""))),
        change(3, 40, "u", at=moment(DAY), status="paid"),
        change(4, 50, at=moment(DAY)),
    ]
    produce(shop_topic, topic, records)
    ingest(shop_topic, DAY)
    return shop_topic


def test_a_dead_letter_says_all_that_is_known_of_the_record(letters: Settings, topic: str, catalog: Catalog) -> None:
    letter = show_dead_letter(letters, catalog, contract(), 0, 3)
    assert letter is not None
    said = letter.to_dict()
    assert said.pop("message")
    topic_id = said.pop("topic_id")
    assert topic_id in Ledger.read(bronze_table(catalog, contract())).intervals
    assert said == {
        "table": "orders", "topic": topic, "partition": 0, "offset": 3, "timestamp": "2026-03-01T12:00:00+00:00",
        "ingest_day": "2026-03-01", "stage": "decode", "error_class": "NotJson", "contract_version": "1.0.0",
        "key": "eyJvcmRlcl9pZCI6IDl9", "value": "/3s=", "headers": [["h", "eA=="], ["h", ""]], "discarded": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("selection", "offsets"),
    [
        (Selection(), [3, 2, 1]),
        (Selection(error_class="MissingValue"), [2, 1]),
        (Selection(stage="decode", partition=0, offset=2), [2]),
        (Selection(day=date(2026, 3, 2)), []),
        (Selection(stage="other"), []),
        (Selection(partition=1), []),
        (Selection(discarded=True), []),
    ],
    ids=str,
)
def test_lists_are_filtered(letters: Settings, catalog: Catalog, selection: Selection, offsets: list[int]) -> None:
    assert [each.offset for each in list_dead_letters(letters, catalog, contract(), selection)] == offsets


def test_of_one_offset_of_a_topic_made_anew_the_newest_letter_is_shown(
    letters: Settings, topic: str, catalog: Catalog
) -> None:
    """Three logs on one day, whichever of their files a scan meets first."""
    assert show_at(letters, catalog, 3) == moment(DAY)
    for minute in (2, 1):
        drop_topic(letters, topic)
        make_topic(letters)
        produce(letters, topic, [Record(b"{", b"{}", 0, moment(DAY, minute=minute))] * 4)
        stops = open_gap(letters, catalog, contract())
        assert stops is not None
        assert stops.gap is not None
        accept(letters, catalog, contract(), stops.gap.name, reason="made anew", by="ann")
        ingest(letters, DAY)
        assert show_at(letters, catalog, 3) == moment(DAY, minute=2), "the newest by Kafka's clock"
    found = list_dead_letters(letters, catalog, contract(), Selection(offset=3))
    assert [letter.timestamp.minute for letter in found] == [2, 1, 0]


def show_at(settings: Settings, catalog: Catalog, offset: int) -> datetime:
    letter = show_dead_letter(settings, catalog, contract(), 0, offset)
    assert letter is not None
    return letter.timestamp


def test_what_fails_again_stays_with_the_reason_of_now_and_replaying_twice_changes_nothing(
    letters: Settings, catalog: Catalog
) -> None:
    unfixed = replay(letters, catalog, contract(), Selection())
    assert (unfixed.chosen, unfixed.left, unfixed.snapshot_id) == (3, 3, None)
    discard(letters, catalog, contract(), Selection(error_class="NotJson"), "noise", "ann")
    fixed = replay(letters, catalog, lenient("currency"), Selection())
    assert (fixed.chosen, fixed.rows, fixed.left, fixed.reasons) == (3, 2, 1, {"NotJson": 1})
    letter = show_dead_letter(letters, catalog, contract(), 0, 3)
    assert letter is not None
    assert (letter.contract_version, letter.discarded and letter.discarded.reason) == ("1.1.0", "noise")
    assert replay(letters, catalog, lenient("currency"), Selection()).snapshot_id is None
    assert [row[0] for row in rows(letters, "order_id")] == [1, 2, 3, None, 3, 4]
    assert_sound(letters, catalog, DAY)


def test_a_record_that_turns_out_to_make_no_row_leaves_the_table_and_its_count(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    produce(shop_topic, topic, [change(1, 1, at=moment(DAY)), Record(b"{", b"{}", 0, moment(DAY))])
    ingest(shop_topic, DAY)
    table = bronze_table(catalog, contract())
    letter = show_dead_letter(shop_topic, catalog, contract(), 0, 1)
    assert letter is not None
    # As if a former decoder had not known heartbeats: the record is one.
    content = table.scan().to_arrow().to_pylist()
    content[1]["_raw"]["value"] = b'{"ts_ms": 1}'
    import pyarrow as pa

    table.overwrite(pa.Table.from_pylist(content, schema=table.schema().as_arrow()))
    fate = replay(shop_topic, catalog, contract(), Selection())
    assert (fate.rows, fate.skipped, fate.left) == (0, 1, 0)
    assert len(rows(shop_topic)) == 1
    assert_sound(shop_topic, catalog, DAY)


def test_a_replay_takes_what_a_load_would_take(shop_topic: Settings, topic: str, catalog: Catalog) -> None:
    """The shop has dropped a column that the contract requires, and widened another; a third one hid both."""
    altered = []
    for order_id, day in ((1, DAY), (2, DAY + timedelta(days=1))):
        row = {name: value for name, value in order(order_id).items() if name != "status"}
        row |= {"total": f"{order_id}000000000000.25", "customer_id": "seven"}
        altered.append(Record(envelope("c", row, order_id), {"order_id": order_id}, 0, moment(day)))
    produce(shop_topic, topic, altered)
    for day in (DAY, DAY + timedelta(days=1)):
        assert ingest(shop_topic, day).dead == 1
    letters = list_dead_letters(shop_topic, catalog, contract())
    assert {(each.error_class, "customer_id" in each.message) for each in letters} == {("WrongType", True)}
    # Iceberg makes no text of a number: the column of now gets a name of its own.
    customer = replace(
        contract().column("customer_id"), name="customer", source_type="text", physical_name="customer_id"
    )
    columns = tuple(customer if each.name == "customer_id" else each for each in contract().columns)
    fixed = replace(contract(), columns=columns)
    fate = replay(shop_topic, catalog, fixed, Selection())
    assert (fate.rows, fate.left) == (2, 0)
    assert rows(shop_topic, "order_id, status, total::VARCHAR, customer") == [
        (1, None, "1000000000000.25", "seven"), (2, None, "2000000000000.25", "seven"),
    ]  # fmt: skip
    merge_silver(shop_topic, catalog, fixed)
    assert [str(row["total"]) for row in silver_rows(shop_topic, catalog, fixed)] == [
        "1000000000000.25", "2000000000000.25",
    ]  # fmt: skip
    assert_sound(shop_topic, catalog, DAY)
    assert replay(shop_topic, catalog, fixed, Selection()).snapshot_id is None


def test_discarded_letters_stay_visible_with_who_and_why_and_can_be_replayed(
    letters: Settings, catalog: Catalog
) -> None:
    with pytest.raises(ValueError, match="reason"):
        discard(letters, catalog, contract(), Selection(), " ", "ann")
    fate = discard(letters, catalog, contract(), Selection(error_class="MissingValue"), "tests of the shop", "ann")
    assert fate.discarded == 2
    again = discard(letters, catalog, contract(), Selection(error_class="MissingValue"), "another reason", "bob")
    assert (again.discarded, again.snapshot_id) == (0, None)
    found = list_dead_letters(letters, catalog, contract(), Selection(discarded=True))
    assert [(each.offset, each.discarded and each.discarded.by) for each in found] == [(2, "ann"), (1, "ann")]
    assert count_dead_letters(letters, catalog, contract()) == {"NotJson": 1}
    assert_sound(letters, catalog, DAY)
    assert replay(letters, catalog, lenient("currency"), Selection(discarded=True)).rows == 2
    assert count_dead_letters(letters, catalog, contract()) == {"NotJson": 1}


def test_a_few_warn_and_many_stop_until_they_are_discarded(letters: Settings, catalog: Catalog) -> None:
    few = check_dead_letters(letters, catalog, contract(), DAY)
    assert (few.passed, few.warns_only, few.metadata["dead_letters"]) == (False, True, 3)
    assert "dead-letters replay orders" in few.description
    refuse_unfit(letters, catalog, contract())
    tight = replace(contract(), dead_letter_count=2, dead_letter_share=0.49)
    many = check_dead_letters(letters, catalog, tight, DAY)
    assert (many.passed, many.warns_only) == (False, False)
    assert check_dead_letters(letters, catalog, replace(tight, dead_letter_share=0.5), DAY).warns_only
    with pytest.raises(TooManyDeadLettersError, match="3 dead letters among 6 records of 2026-03-01"):
        refuse_unfit(letters, catalog, tight)
    discard(letters, catalog, contract(), Selection(), "known", "ann")
    refuse_unfit(letters, catalog, tight)
    assert check_dead_letters(letters, catalog, contract(), DAY).passed


def test_days_that_silver_has_taken_do_not_stop_later_ones(letters: Settings, topic: str, catalog: Catalog) -> None:
    merge_silver(letters, catalog, contract())
    mark_audited(catalog, contract())
    tight = replace(contract(), dead_letter_count=0)
    refuse_unfit(letters, catalog, tight)
    produce(letters, topic, [change(7, 70, at=moment(date(2026, 3, 2)))])
    ingest(letters, date(2026, 3, 2))
    refuse_unfit(letters, catalog, tight)


class Runs:
    """Dagster's runs of the chain of `orders` up to silver."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.settings, self.instance = settings, instance
        self.job = build_location(Platform(settings)).resolve_job_def("kafka_to_silver")

    def run(self, *layers: str) -> dg.ExecuteInProcessResult:
        keys = [dg.AssetKey(f"{layer}_orders") for layer in layers]
        return self.job.execute_in_process(
            QUIET, self.instance, partition_key=DAY.isoformat(), raise_on_error=False, asset_selection=keys
        )

    def severity(self, result: dg.ExecuteInProcessResult) -> Any:
        found = [each for each in result.get_asset_check_evaluations() if each.check_name == "few_dead_letters"]
        return found[0].passed, found[0].severity


@pytest.fixture
def runs(letters: Settings) -> Iterator[Runs]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Runs(letters, instance)


def test_in_dagster_a_few_let_silver_follow_and_many_hold_it_back_in_every_run(
    runs: Runs, letters: Settings, topic: str, catalog: Catalog
) -> None:
    first = runs.run("staging", "bronze", "silver")
    assert first.success
    assert runs.severity(first) == (False, dg.AssetCheckSeverity.WARN)
    assert len(silver_rows(letters, catalog, contract())) == 3
    produce(letters, topic, [change(i, i, at=moment(DAY), currency=None) for i in range(100, 120)])
    many = runs.run("staging", "bronze", "silver")
    assert not many.success
    assert runs.severity(many) == (False, dg.AssetCheckSeverity.ERROR)
    assert not runs.run("silver").success, "a run of silver alone publishes what the check had stopped"
    assert len(silver_rows(letters, catalog, contract())) == 3
    replay(letters, catalog, lenient("currency"), Selection())
    assert runs.run("silver").success
    assert len(silver_rows(letters, catalog, contract())) == 24
    outcome = check_silver(letters, catalog, contract())
    assert outcome.passed, outcome.description
