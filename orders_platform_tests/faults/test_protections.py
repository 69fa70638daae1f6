"""What each protection is there for: a history that ends well with it, and is found out to be wrong without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from orders_platform.contracts import load_contracts
from orders_platform.fault_points import FaultPoint
from orders_platform.lake.catalog import open_catalog
from orders_platform.settings import Settings
from orders_platform_tests.faults import kafka_faults, table_faults
from orders_platform_tests.faults.history import Fault, Step
from orders_platform_tests.faults.matrix import HISTORY_DAYS
from orders_platform_tests.faults.oracle_ingest import ingest_differences
from orders_platform_tests.faults.oracle_published import published_differences
from orders_platform_tests.faults.player import Player
from orders_platform_tests.faults.protections import Protection
from orders_platform_tests.faults.recording import Recording, read_topic
from orders_platform_tests.faults.work import Kind, Work

pytestmark = pytest.mark.timeout(600)
CONTRACTS = load_contracts()
FEW = [contract for contract in CONTRACTS if contract.table in ("customers", "orders")]
"""Enough for what guards each table by itself."""
STEP = Step(Fault.NONE, chance=1)


def _zombie(player: Player, recording: Recording, work: Work) -> None:
    """A run that is about to commit stands still, another loads the same records, and it goes on."""
    player.write(recording.records)
    zombie = player.start(replace(work, freeze=True), FaultPoint.BRONZE_BEFORE_COMMIT)
    assert zombie.wait_until_frozen()
    player.run(STEP, work)
    zombie.thaw()
    zombie.wait()


def _replay(player: Player, recording: Recording, work: Work) -> None:
    """All has been carried when the older half comes once more."""
    player.write(recording.records)
    player.run(STEP, work)
    player.write(recording.records[: len(recording.records) // 2])


def _in_flight(player: Player, recording: Recording, work: Work) -> None:
    """A snapshot has read rows while a transaction that had changed them was open: it wrote first and says so last."""
    player.write(recording.records)
    player.run(STEP, work)


def _expired(player: Player, recording: Recording, work: Work) -> None:
    """Records are deleted from the log between two loads."""
    first, second, third = recording.portions((0.4, 0.6))
    player.write(first)
    player.run(STEP, work)
    player.write(second)
    player.earlier[FEW[0].table] = read_topic(player.settings, FEW[0])
    topic = FEW[0].topic(player.settings.topic_prefix)
    ends = [TopicPartition(topic, p, -1) for p in range(3)]  # -1: everything up to the end
    for future in player.admin.delete_records(ends).values():
        future.result(timeout=30)
    player.write(third)


def _aborted(player: Player, recording: Recording, work: Work) -> None:
    """The log ends with records of a transaction that never was."""
    kafka_faults.aborted_transaction(player, STEP, recording.records, work)


def _two_publishers(player: Player, recording: Recording, work: Work) -> None:
    """A run that is about to publish gold stands still, another publishes what has come since, and it goes on."""
    first, second = recording.portions((0.5,))
    player.write(first)
    player.run(STEP, work)
    zombie = player.start(replace(work, kind=Kind.DATES_SENSOR, freeze=True), FaultPoint.GOLD_BEFORE_PUBLISH)
    assert zombie.wait_until_frozen()
    player.write(second)
    player.run(STEP, replace(work, kind=Kind.SYNC))
    zombie.thaw()
    zombie.wait()


def _ledger_lost(player: Player, recording: Recording, work: Work) -> None:
    """Another engine has rewritten bronze, dropped the tag that guards the ledger, and expired the rest."""
    player.write(recording.records)
    player.run(STEP, work)
    catalog = open_catalog(player.settings)
    for contract in FEW:
        table = catalog.load_table(contract.bronze_table)
        for name in [name for name in table.refs() if name != "main"]:
            table.manage_snapshots().remove_tag(name).commit()
        table_faults.compact(catalog, contract.bronze_table)
        table = catalog.load_table(contract.bronze_table)
        table.maintenance.expire_snapshots().older_than(datetime.now(UTC) + timedelta(minutes=1)).commit()


def _made_anew(player: Player, recording: Recording, work: Work) -> None:
    """The topics are deleted and made again; what comes then has offsets that were loaded, and some beyond."""
    first, second = recording.portions((0.3,))
    player.write(first)
    player.run(STEP, work)
    for contract in FEW:
        player.earlier[contract.table] = read_topic(player.settings, contract)
    player.make_topics_anew()
    player.write(second)


def _line_doubled(player: Player, recording: Recording, work: Work) -> None:
    """Somebody has added a row to silver that is there already. Its check fails; later a sensor asks what is stale."""
    player.write(recording.records)
    player.run(STEP, replace(work, kind=Kind.SYNC))
    lines = open_catalog(player.settings).load_table("silver.line_items")
    lines.append(lines.scan("_deleted == false", limit=1).to_arrow())
    today = player.first_day.date()
    assert player.run(STEP, replace(work, kind=Kind.DAYS_BY_HAND, days=(today, today))) == 1
    player.run(STEP, replace(work, kind=Kind.DATES_SENSOR))


def _two_loaders(player: Player, recording: Recording, work: Work) -> None:
    """A run that is about to show a day stands still, another shows what has come since, and it goes on."""
    first, second = recording.portions((0.5,))
    player.write(first)
    last = HISTORY_DAYS + 1  # the days of the past come first
    zombie = player.start(replace(work, kind=Kind.SYNC, freeze=True), FaultPoint.CLICKHOUSE_BEFORE_SWAP, last)
    assert zombie.wait_until_frozen()
    player.write(second)
    player.run(STEP, replace(work, kind=Kind.SYNC))
    zombie.thaw()
    zombie.wait()


HISTORIES: Mapping[Protection, Callable[[Player, Recording, Work], None]] = {
    Protection.CONDITIONAL_COMMIT: _zombie,
    Protection.ORDER_OF_CHANGES: _replay,
    Protection.ORDER_OF_COMMITS: _in_flight,
    Protection.GAP_CHECK: _expired,
    Protection.READ_COMMITTED: _aborted,
    Protection.FAST_FORWARD: _two_publishers,
    Protection.MISSING_LEDGER_IS_AN_ERROR: _ledger_lost,
    Protection.TOPICS_BY_ID: _made_anew,
    Protection.ONLY_WHAT_WAS_AUDITED: _line_doubled,
    Protection.GOLD_LOOKED_AT_AGAIN: _two_loaders,
}
ERRORS = {
    Protection.GAP_CHECK: "RecordsExpiredError",
    Protection.MISSING_LEDGER_IS_AN_ERROR: "LedgerMissingError",
    Protection.TOPICS_BY_ID: "TopicRecreatedError",
    Protection.ONLY_WHAT_WAS_AUDITED: "keys_unique_and_equal_to_bronze",
}
STOPPED = tuple(ERRORS)
"""Where the protection stops the table and waits for a decision, rather than healing by itself."""

SILENT = (Protection.GAP_CHECK, Protection.TOPICS_BY_ID)
"""Without these nobody would hear of what is lost."""
BEYOND_SILVER = (Protection.FAST_FORWARD, Protection.ONLY_WHAT_WAS_AUDITED, Protection.GOLD_LOOKED_AT_AGAIN)


@pytest.mark.parametrize("protection", Protection)
def test_without_a_protection_a_history_ends_in_wrong_tables(
    protection: Protection, recording: Recording, live_stack: Settings, tmp_path: Path
) -> None:
    code, found = _play(protection, Work(Kind.LAG_SENSOR, without=protection), recording, live_stack, tmp_path)
    assert found != [], "the history does not need this protection"
    if protection in SILENT:
        assert code == 0, "something else has stopped it"


@pytest.mark.parametrize("protection", [each for each in Protection if each not in STOPPED])
def test_with_it_the_same_history_ends_in_the_right_tables(
    protection: Protection, recording: Recording, live_stack: Settings, tmp_path: Path
) -> None:
    assert _play(protection, Work(Kind.LAG_SENSOR), recording, live_stack, tmp_path) == (0, [])


@pytest.mark.parametrize("protection", STOPPED)
def test_with_it_the_same_history_stops_before_anything_is_wrong(
    protection: Protection, recording: Recording, live_stack: Settings, tmp_path: Path
) -> None:
    code, found = _play(protection, Work(Kind.LAG_SENSOR), recording, live_stack, tmp_path)
    assert code == 1
    assert ERRORS[protection] in (tmp_path / "passes.log").read_text()
    if protection in BEYOND_SILVER:
        assert found == []
    else:
        assert [line for line in found if "twice" in line or "nowhere" in line] == []


def _play(
    protection: Protection, work: Work, recording: Recording, shared: Settings, folder: Path
) -> tuple[int, list[str]]:
    """How the last run ended, and what the oracle says of the layers that the protection guards."""
    contracts = CONTRACTS if protection in BEYOND_SILVER else FEW
    recording = recording.of(contracts)
    player = Player(list(Protection).index(protection), recording, shared, CONTRACTS, folder)
    player.prepare()
    try:
        HISTORIES[protection](player, recording, work)
        code = player.run(STEP, work)
        if protection in BEYOND_SILVER:
            return code, published_differences(player.settings, recording.state)
        return code, ingest_differences(player.settings, contracts, recording.state, player.earlier)
    finally:
        player.close()
