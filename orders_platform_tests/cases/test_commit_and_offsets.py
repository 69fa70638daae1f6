"""Commit and offsets: each case of the catalogue under this heading, on a real broker and real tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.update import TableRequirement, TableUpdate
from typer.testing import CliRunner, Result

from orders_platform.cli.app import OK, WRONG, app
from orders_platform.contracts import Contract
from orders_platform.ingest import bronze
from orders_platform.ingest.bronze import bronze_table, load_day
from orders_platform.ingest.dead_letter_fate import replay
from orders_platform.ingest.dead_letters import Selection, list_dead_letters
from orders_platform.ingest.errors import LedgerError, RecordsExpiredError, TopicRecreatedError
from orders_platform.ingest.ledger import TAG, Ledger
from orders_platform.ingest.offsets import OffsetRange
from orders_platform.ingest.staging import stage_day
from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.maintenance import expire
from orders_platform.lake.silver import merge_silver
from orders_platform.settings import Settings
from orders_platform_tests.ingest.broker_admin import delete_before, drop_topic, make_topic
from orders_platform_tests.ingest.events import Record, change, contract, moment, produce
from orders_platform_tests.ingest.loads import assert_sound, ingest, rows, start
from orders_platform_tests.lake.changes import silver_rows

DAY = date(2026, 3, 1)


def orders_of(settings: Settings) -> list[object]:
    return [row[0] for row in rows(settings)]


def test_case_1_a_watermark_that_goes_back_loads_nothing_twice(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    """What is asked for counts for nothing: only what the ledger lacks is loaded, and it takes no offset twice."""
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(6)])
    assert ingest(shop_topic, DAY, {0: 4}).rows == 4
    ledger = Ledger.read(bronze_table(catalog, contract()))
    assert ingest(shop_topic, DAY, {0: 2}).snapshot_id is None
    (topic_id,) = ledger.intervals
    with pytest.raises(LedgerError, match=r"offsets \(\(2, 4\),\) of partition 0 are in the table already"):
        ledger.including(topic_id, [OffsetRange(0, 2, 6)], 4, {})
    assert ingest(shop_topic, DAY).ranges == (OffsetRange(0, 4, 6),)
    assert orders_of(shop_topic) == list(range(6))
    assert_sound(shop_topic, catalog, DAY)


def test_case_2_a_zombie_that_commits_after_its_successor_is_refused(
    shop_topic: Settings, topic: str, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that stood still while another one did its work finds the table changed, and adds nothing."""
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(5)])
    stage_day(shop_topic, contract(), DAY)
    commit, refused = bronze.commit, []

    def overtaken(*arguments: Any, **options: Any) -> int:
        """Before the zombie's first commit, its successor loads everything and more."""
        if not refused:
            monkeypatch.setattr(bronze, "commit", commit)
            produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(5, 8)])
            assert ingest(shop_topic, DAY).rows == 8
        try:
            return commit(*arguments, **options)
        except Exception as error:
            refused.append(error)
            raise

    monkeypatch.setattr(bronze, "commit", overtaken)
    assert load_day(shop_topic, catalog, contract(), DAY).rows == 0
    assert [type(error).__name__ for error in refused] == ["ConflictError"]
    assert orders_of(shop_topic) == list(range(8))
    assert_sound(shop_topic, catalog, DAY)


def test_case_3_of_two_writers_at_once_each_record_is_loaded_by_one(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    """One wins, the other plans again from the new ledger: no duplicate, no gap."""
    produce(shop_topic, topic, [change(i, i, partition=i % 3, at=moment(DAY)) for i in range(300)])
    both = [start(shop_topic, DAY), start(shop_topic, DAY)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert sorted(orders_of(shop_topic)) == list(range(300))
    assert_sound(shop_topic, catalog, DAY)


def test_case_4_a_replacement_starts_where_the_ledger_ends_whatever_kafkas_settings_say(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    """No consumer group, no `auto.offset.reset`: the ledger alone says where to go on."""
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(3)])
    ingest(shop_topic, DAY, {0: 1})
    latest = {"AUTO_OFFSET_RESET": "latest", "GROUP_ID": "a-new-group"}
    replacement = Settings(**{**shop_topic.model_dump(), "kafka": latest, "_env_file": None})
    produce(shop_topic, topic, [change(3, 3, at=moment(DAY))])
    assert ingest(replacement, DAY).ranges == (OffsetRange(0, 1, 4),)
    assert orders_of(shop_topic) == list(range(4))
    assert_sound(shop_topic, catalog, DAY)


@pytest.fixture
def command(shop_topic: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`orders-platform …` for this installation."""
    monkeypatch.setenv("ORDERS_PLATFORM_HOME", str(shop_topic.home))
    monkeypatch.setenv("ORDERS_PLATFORM_TOPIC_PREFIX", shop_topic.topic_prefix)
    monkeypatch.setenv("ORDERS_PLATFORM_PORT_KAFKA", str(shop_topic.ports.kafka))
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def accept(command: Callable[..., Result], kind: str) -> dict[str, Any]:
    """Accepts what `gaps list` says, as an operator does, and returns the record of it."""
    listed = command("gaps", "list", "--table", "orders", "--json")
    assert listed.exit_code == WRONG
    found = json.loads(listed.stdout)["orders"]["open"]
    assert found["name"].startswith(f"{kind}:")
    done = command("gaps", "accept", "orders", found["name"], "--reason", "lost for good", "--by", "ann", "--json")
    assert done.exit_code == OK, done.output
    after = command("gaps", "list", "--table", "orders", "--json")
    assert after.exit_code == OK
    (record,) = json.loads(after.stdout)["orders"]["accepted"]
    assert (record["reason"], record["by"], record["name"]) == ("lost for good", "ann", found["name"])
    return dict(record)


def test_case_5_a_topic_made_again_is_a_loud_error_until_one_command_accepts_it(
    shop_topic: Settings, topic: str, catalog: Catalog, command: Callable[..., Result]
) -> None:
    """The error names both ids and how far the former log was loaded; accepting reads the new one from its start."""
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(3)])
    ingest(shop_topic, DAY)
    drop_topic(shop_topic, topic)
    make_topic(shop_topic)
    produce(shop_topic, topic, [change(9, 9, at=moment(DAY))])
    with pytest.raises(TopicRecreatedError, match=r"so far it had id .* \(loaded up to \[0\] 2\): it was deleted"):
        ingest(shop_topic, DAY)
    assert orders_of(shop_topic) == [0, 1, 2]
    assert accept(command, "replaced")["ranges"] == [[0, 3, 2**63 - 1]]
    ingest(shop_topic, DAY)
    assert sorted(rows(shop_topic)) == [(0,), (1,), (2,), (9,)]
    assert_sound(shop_topic, catalog, DAY)


def test_case_6_records_that_expired_unread_are_named_and_passed_over_only_by_decision(
    shop_topic: Settings, topic: str, catalog: Catalog, command: Callable[..., Result]
) -> None:
    """The lost range stands in the error, and after the decision in the ledger, through every later commit."""
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(10)])
    ingest(shop_topic, DAY, {0: 3})
    delete_before(shop_topic, topic, 0, 6)
    with pytest.raises(RecordsExpiredError, match=r"lost offsets \[0\] 3–5 before they were loaded"):
        ingest(shop_topic, DAY)
    assert orders_of(shop_topic) == [0, 1, 2]
    assert accept(command, "expired")["ranges"] == [[0, 3, 6]]
    assert ingest(shop_topic, DAY).rows == 4
    produce(shop_topic, topic, [change(20, 20, at=moment(DAY))])
    ingest(shop_topic, DAY)
    shown = command("ledger", "show", "--table", "orders", "--rows", "--json")
    partition = json.loads(shown.stdout)["orders"]["partitions"][0]
    assert (partition["loaded"], partition["lost"]) == ([[0, 3], [6, 11]], [[3, 6]])
    assert (partition["offsets"], partition["rows"]) == (8, 8)
    assert_sound(shop_topic, catalog, DAY)


Commit = Callable[[SqlCatalog, Table, tuple[TableRequirement, ...], tuple[TableUpdate, ...]], CommitTableResponse]


@contextmanager
def troubled(patch: pytest.MonkeyPatch, error: Exception, *, landed: bool) -> Iterator[list[Exception]]:
    """The catalog answers the next commit of bronze with an error, after it has landed or instead of it."""
    real: Commit = SqlCatalog.commit_table  # type: ignore[assignment]
    raised: list[Exception] = []

    def answer(
        self: SqlCatalog, table: Table, requirements: Sequence[TableRequirement], updates: Sequence[TableUpdate]
    ) -> CommitTableResponse:
        if raised:
            return real(self, table, tuple(requirements), tuple(updates))
        raised.append(error)
        if landed:
            real(self, table, tuple(requirements), tuple(updates))
        raise error

    with patch.context() as within:
        within.setattr(SqlCatalog, "commit_table", answer)
        yield raised


def data_files(settings: Settings) -> set[Path]:
    return set((settings.home / "warehouse" / "bronze").rglob("*.parquet"))


def two_loads(settings: Settings, topic: str, catalog: Catalog) -> None:
    """One record is loaded, four more are staged."""
    produce(settings, topic, [change(0, 0, at=moment(DAY))])
    ingest(settings, DAY)
    produce(settings, topic, [change(i, i, at=moment(DAY)) for i in range(1, 5)])
    stage_day(settings, contract(), DAY)
    assert bronze_table(catalog, contract()).metadata.snapshots


@pytest.mark.parametrize("error", [ConnectionError("reset"), CommitFailedException("busy")], ids=["down", "busy"])
def test_case_8_a_catalog_error_in_mid_commit_drops_nothing(
    shop_topic: Settings, topic: str, catalog: Catalog, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The run plans again from the table and loads the same records, once."""
    two_loads(shop_topic, topic, catalog)
    with troubled(monkeypatch, error, landed=False) as raised:
        assert load_day(shop_topic, catalog, contract(), DAY).rows == 4
    assert raised
    assert orders_of(shop_topic) == list(range(5))
    assert_sound(shop_topic, catalog, DAY)


def test_case_9_offsets_survive_the_expiry_of_the_snapshot_that_held_them(
    shop_topic: Settings, topic: str, catalog: Catalog
) -> None:
    """The head carries them; after another engine's compaction, a tag keeps the snapshot that does."""
    for number in range(3):
        produce(shop_topic, topic, [change(number, number, at=moment(DAY))])
        ingest(shop_topic, DAY)
    table = bronze_table(catalog, contract())
    assert expire(table, keep=1) == 2
    assert ingest(shop_topic, DAY).snapshot_id is None
    table.refresh().overwrite(table.scan().to_arrow())  # a compaction that knows nothing of the ledger
    assert expire(table, keep=1) == 1
    assert TAG in table.metadata.refs
    produce(shop_topic, topic, [change(3, 3, at=moment(DAY))])
    assert ingest(shop_topic, DAY).rows == 1
    assert sorted(rows(shop_topic)) == [(0,), (1,), (2,), (3,)]
    assert_sound(shop_topic, catalog, DAY)


@pytest.mark.parametrize(
    "error", [ConnectionError("reset"), CommitFailedException("409")], ids=["answer lost", "retried, answered 409"]
)
def test_case_10_a_commit_that_landed_without_an_answer_is_not_done_again(
    shop_topic: Settings, topic: str, catalog: Catalog, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The retry finds its range in the head's ledger; nothing that the commit wrote is deleted."""
    two_loads(shop_topic, topic, catalog)
    with troubled(monkeypatch, error, landed=True) as raised:
        load_day(shop_topic, catalog, contract(), DAY)
    assert raised
    assert len(bronze_table(catalog, contract()).metadata.snapshots) == 2
    assert orders_of(shop_topic) == list(range(5))
    assert_sound(shop_topic, catalog, DAY)


@pytest.mark.parametrize("landed", [True, False], ids=["it had landed", "it had not"])
def test_case_11_files_of_a_commit_in_unknown_state_are_left_alone(
    shop_topic: Settings, topic: str, catalog: Catalog, monkeypatch: pytest.MonkeyPatch, landed: bool
) -> None:
    """Who does not know whether a commit landed deletes nothing: its files may be the table's."""
    two_loads(shop_topic, topic, catalog)
    before = data_files(shop_topic)
    with troubled(monkeypatch, ConnectionError("reset"), landed=landed):
        load_day(shop_topic, catalog, contract(), DAY)
    planned = bronze_table(catalog, contract()).scan().plan_files()
    known = {Path(task.file.file_path.removeprefix("file://")) for task in planned}
    assert data_files(shop_topic) >= before | known
    assert len(data_files(shop_topic)) == len(before) + (1 if landed else 2)
    assert orders_of(shop_topic) == list(range(5))


@pytest.mark.parametrize("damage", ["gone", "cut", "half written beside it"])
def test_case_13_a_half_written_object_is_never_read(
    shop_topic: Settings, topic: str, catalog: Catalog, damage: str
) -> None:
    """A staged file's name is its range, and its footer repeats it; data files never have a name twice."""
    for part in range(3):
        produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(part * 5, part * 5 + 5)])
        stage_day(shop_topic, contract(), DAY)
    victim = sorted(Path(shop_topic.staging).rglob("*.parquet"))[1]
    half = victim.read_bytes()[:100]
    if damage == "gone":
        victim.unlink()
    elif damage == "cut":
        victim.write_bytes(half)
    else:
        (victim.parent / f"{victim.name}.4711.tmp").write_bytes(half)
    load_day(shop_topic, catalog, contract(), DAY)
    assert orders_of(shop_topic) == list(range(15))
    assert_sound(shop_topic, catalog, DAY)


def elsewhere(settings: Settings, home: Path) -> Settings:
    """An installation of its own on the same topics."""
    return Settings(_env_file=None, home=home, ports=settings.ports, topic_prefix=settings.topic_prefix)  # type: ignore[call-arg]


def undisturbed(settings: Settings, of: Contract, *days: date) -> list[dict[str, object]]:
    """Silver as one load of each day makes it."""
    with_catalog = open_catalog(settings)
    for day in days:
        stage_day(settings, of, day)
        load_day(settings, with_catalog, of, day)
    merge_silver(settings, with_catalog, of)
    return silver_rows(settings, with_catalog, of)


def test_case_45_one_poison_record_stops_nothing_and_takes_its_place_after_a_fix(
    shop_topic: Settings, topic: str, catalog: Catalog, tmp_path: Path
) -> None:
    """It is kept with place, reason and bytes; the rest goes on; a replay leads to the same tables as no failure."""
    produce(
        shop_topic,
        topic,
        [
            change(1, 10, at=moment(DAY)),
            change(1, 20, "u", at=moment(DAY), currency=None, status="paid"),
            change(2, 30, at=moment(DAY), currency=None),
            change(3, 40, at=moment(DAY), currency=None),
            Record({**change(3, 50, "d").value}, {"order_id": 3}, 0, moment(DAY)),
        ],
    )
    assert (ingest(shop_topic, DAY).rows, ingest(shop_topic, DAY).rows) == (2, 0)
    merge_silver(shop_topic, catalog, contract())
    produce(shop_topic, topic, [change(2, 60, "u", at=moment(DAY), status="shipped")])
    assert ingest(shop_topic, DAY).rows == 1
    merge_silver(shop_topic, catalog, contract())
    poison = list_dead_letters(shop_topic, catalog, contract())
    assert [(each.partition, each.offset, each.error_class) for each in poison] == [
        (0, offset, "MissingValue") for offset in (3, 2, 1)
    ]
    assert all(each.value and b'"currency": null' in each.value for each in poison)

    strict = contract()
    columns = tuple(replace(c, required=c.required and c.name != "currency") for c in strict.columns)
    fixed = replace(strict, columns=columns, version="1.1.0")
    assert replay(shop_topic, catalog, fixed, Selection()).rows == 3
    merge_silver(shop_topic, catalog, fixed)
    assert_sound(shop_topic, catalog, DAY)
    healed = silver_rows(shop_topic, catalog, fixed)
    assert healed == undisturbed(elsewhere(shop_topic, tmp_path / "undisturbed"), fixed, DAY)
    assert [(row["order_id"], row["status"], row["_deleted"]) for row in healed] == [
        (1, "paid", False), (2, "shipped", False), (3, None, True),
    ]  # fmt: skip
    assert replay(shop_topic, catalog, fixed, Selection()).snapshot_id is None
