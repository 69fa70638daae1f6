"""What Debezium's events mean: changes that a real connector captured from real SQL, with both replica identities."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from duckdb import DuckDBPyConnection
from psycopg.rows import dict_row

from orders_platform.ingest.decoding import Decoder
from orders_platform.ingest.topics import heartbeat_topic, transaction_topic
from orders_platform.settings import Settings
from orders_platform.stack.connector import request_snapshot
from orders_platform.stack.debezium import connector_config, table_pattern
from orders_platform_tests.cases.captured import Capture, capturing, read_records, today, write_contract
from orders_platform_tests.cases.replayed import DAY, Portion, Replay, again, shuffled
from orders_platform_tests.waiting import eventually

IDENTITIES = ("default", "full")
LONG = "long " * 1000
OTHER = "other " * 1000

PARCEL = {
    "parcel_id": "bigint",
    "status": "text",
    "note": "text",
    "weight": "numeric(12,2)",
    "exact": "numeric",
    "written_at": "timestamptz",
}
ODD = {
    "order_id": {"physicalType": "bigint", "physicalName": "Order Id"},
    "Position": "integer",
    "op": "text",
    "value": "text",
    "before": "text",
    "after": "text",
    "source": "text",
    "select": "integer",
    "file": "text",
    "place": "text",
    "is_new": "boolean",
    "lsn": {"physicalType": "bigint", "physicalName": "_lsn"},
    "deleted": {"physicalType": "boolean", "physicalName": "_deleted"},
    "quoted": {"physicalType": "text", "physicalName": 'with "quotes", and a comma'},
    "größe": {"physicalType": "text", "physicalName": "grö.ße"},
}


def _ddl(identity: str) -> str:
    return f"""
    CREATE TABLE parcels_{identity} (
        parcel_id bigint PRIMARY KEY, status text DEFAULT 'new', note text, weight numeric(12,2) NOT NULL DEFAULT 1,
        exact numeric, written_at timestamptz NOT NULL DEFAULT '2026-01-01T00:00:00Z');
    ALTER TABLE parcels_{identity} ALTER COLUMN note SET STORAGE EXTERNAL, REPLICA IDENTITY {identity};
    CREATE TABLE boxes_{identity} (box_id int PRIMARY KEY, label text);
    ALTER TABLE boxes_{identity} REPLICA IDENTITY {identity};
    CREATE TABLE "Order Items.{identity}" (
        "Order Id" bigint, "Position" int, op text, value text, before text, after text, source text, "select" int,
        file text, place text, is_new boolean, "_lsn" bigint, "_deleted" boolean, "with ""quotes"", and a comma" text,
        "grö.ße" text, PRIMARY KEY ("Order Id", "Position"));
    ALTER TABLE "Order Items.{identity}" ALTER COLUMN value SET STORAGE EXTERNAL, REPLICA IDENTITY {identity};
    INSERT INTO parcels_{identity} SELECT n, 'stored', NULL, n, n, '2025-01-01T00:00:00Z'
        FROM generate_series(100, 109) n;
    """


def _live(capture: Capture, identity: str) -> None:
    """What happens in the shop while Debezium streams."""
    parcels, boxes, items = f"parcels_{identity}", f"boxes_{identity}", f'"Order Items.{identity}"'
    with capture.shop() as one, capture.shop() as two:

        def run(sql: str) -> None:
            one.execute(sql.format(parcels=parcels, boxes=boxes, items=items).encode())

        # A long text that later changes do not touch, also across a change of the key, to null and back.
        run(f"INSERT INTO {{parcels}} (parcel_id, note) SELECT n, '{LONG}' FROM generate_series(1, 4) n")
        run("UPDATE {parcels} SET status = 'sent' WHERE parcel_id IN (1, 2)")
        run("UPDATE {parcels} SET parcel_id = 92 WHERE parcel_id = 2")
        run("UPDATE {parcels} SET weight = weight + 1 WHERE parcel_id = 92")
        run("UPDATE {parcels} SET note = NULL WHERE parcel_id = 3")
        run("UPDATE {parcels} SET status = 'no note' WHERE parcel_id = 3")
        run(f"UPDATE {{parcels}} SET note = '{OTHER}' WHERE parcel_id = 4")
        run("UPDATE {parcels} SET status = 'another note' WHERE parcel_id = 4")
        # Deleted; deleted and made again, in one transaction and in two; a key that was another row's.
        run("INSERT INTO {parcels} (parcel_id) VALUES (10), (11), (12), (13)")
        run("DELETE FROM {parcels} WHERE parcel_id = 10")
        run("BEGIN; DELETE FROM {parcels} WHERE parcel_id = 11; INSERT INTO {parcels} VALUES (11, 'again'); COMMIT")
        run("DELETE FROM {parcels} WHERE parcel_id = 12")
        run("INSERT INTO {parcels} VALUES (12, 'again')")
        run("DELETE FROM {parcels} WHERE parcel_id = 13")
        run("UPDATE {parcels} SET parcel_id = 13 WHERE parcel_id = 11")
        # Null is null, whatever the column's default.
        run("INSERT INTO {parcels} (parcel_id, status, exact) VALUES (20, NULL, 12345678901234567890.1234567890)")
        # Rolled back: never happened.
        run("BEGIN; UPDATE {parcels} SET status = 'never'; ROLLBACK")
        # A transaction that writes first and commits last; and a clock that goes the other way.
        run("INSERT INTO {parcels} (parcel_id, written_at) VALUES (30, now()), (31, now())")
        run("BEGIN")
        run("UPDATE {parcels} SET status = 'wrote first', written_at = '2026-01-01T00:00:00Z' WHERE parcel_id = 31")
        two.execute(f"UPDATE {parcels} SET status = 'early', written_at = '2099-01-01' WHERE parcel_id = 30".encode())
        run("UPDATE {parcels} SET status = 'late', written_at = '1999-01-01T00:00:00Z' WHERE parcel_id = 30")
        run("COMMIT")
        # An incremental snapshot while the rows that it reads change.
        run("UPDATE {parcels} SET status = 'moved' WHERE parcel_id < 105 AND parcel_id > 99")
        request_snapshot(capture.settings.postgres, [table_pattern(capture.contracts[f"parcels_{identity}"])])
        run("UPDATE {parcels} SET status = 'delivered' WHERE parcel_id = 100")
        run("DELETE FROM {parcels} WHERE parcel_id = 101")
        run("INSERT INTO {boxes} VALUES (1, 'old'), (2, 'old')")
        run("TRUNCATE {boxes}")
        run("INSERT INTO {boxes} VALUES (2, 'new'), (3, 'new')")
        run(
            f"INSERT INTO {{items}} VALUES (1, 1, 'op', '{LONG}', 'b', 'a', 's', 5, 'f', 'p', true, 77, false,"
            " 'q', 'g')"
        )
        run("INSERT INTO {items} SELECT n, n, 'o', 'v' FROM generate_series(2, 5) n")
        run("UPDATE {items} SET op = 'changed', _lsn = 78 WHERE \"Order Id\" = 1")
        run('UPDATE {items} SET "Order Id" = 9, "Position" = 8 WHERE "Order Id" = 1')
        run('DELETE FROM {items} WHERE "Order Id" = 2')


@pytest.fixture(scope="module")
def capture(live_stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Capture]:
    """Everything above, captured, and loaded in two parts."""
    folder = tmp_path_factory.mktemp("contracts")
    for identity in IDENTITIES:
        write_contract(folder, f"parcels_{identity}", f"public.parcels_{identity}", PARCEL, ["parcel_id"], history=True)
        write_contract(
            folder, f"boxes_{identity}", f"boxes_{identity}", {"box_id": "integer", "label": "text"}, ["box_id"]
        )
        write_contract(folder, f"items_{identity}", f"public.Order Items.{identity}", ODD, ["order_id", "Position"])
    home = tmp_path_factory.mktemp("meaning")
    ddl = "".join(map(_ddl, IDENTITIES))
    with capturing(live_stack, home, "meaning", ddl, folder) as capture:
        capture.load()
        for identity in IDENTITIES:
            _live(capture, identity)
        _wait_for_snapshots(capture)
        capture.load()
        yield capture


def _wait_for_snapshots(capture: Capture) -> None:
    """A table's reads are in Kafka once Debezium has read back that it closed their window; each fits into one."""
    closed = "SELECT count(*) FROM debezium_signal WHERE type = 'snapshot-window-close'"
    with capture.shop() as shop:
        assert eventually(lambda: shop.execute(closed).fetchall()[0][0] >= len(IDENTITIES))
    capture.wait()


@pytest.fixture(params=IDENTITIES)
def identity(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def parcels(identity: str) -> str:
    return f"parcels_{identity}"


def row(capture: Capture, table: str, parcel: int) -> dict[str, Any] | None:
    found = capture.silver(table, where=f"NOT _deleted AND parcel_id = {parcel}")
    return found[0] if found else None


@pytest.mark.parametrize("kind", ["parcels", "boxes", "items"])
def test_silver_is_what_postgresql_holds(capture: Capture, kind: str, identity: str) -> None:
    found = capture.compare(f"{kind}_{identity}")
    assert found.equal, found
    assert found.rows > 0


def test_case_15_an_unchanged_toast_value_is_the_one_that_silver_has(
    capture: Capture, parcels: str, identity: str
) -> None:
    """Never the placeholder; a null or another value that was written later is kept as well."""
    found = {n: row(capture, parcels, n) for n in (1, 3, 4)}
    notes = {n: each["note"] if each else "missing" for n, each in found.items()}
    assert notes == {1: LONG, 3: None, 4: OTHER}
    travelled = capture.bronze(parcels, "_unavailable", "_op = 'u' AND parcel_id = 1")
    # With FULL the value is in the old row, and Debezium takes it from there.
    assert travelled == [{"_unavailable": ["note"] if identity == "default" else None}]


def test_case_16_a_tombstone_is_counted_and_makes_no_row(capture: Capture, parcels: str) -> None:
    deletes = len(capture.bronze(parcels, "_op", "_op = 'd'"))
    assert deletes > 0
    assert capture.count(parcels, "tombstones") == deletes
    assert capture.count(parcels, "dead") == 0


def test_case_17_a_delete_removes_a_row_that_came_on_another_day(
    capture: Capture, parcels: str, tmp_path: Path
) -> None:
    records = capture.records(parcels)
    deletes = pc.and_kleene(pc.is_valid(records["value"]), contains(records, '"op":"d"'))
    replay = Replay(capture, parcels, tmp_path)
    others = Portion(records.filter(pc.invert(deletes)))
    removed = Portion(records.filter(deletes), DAY + timedelta(days=40))
    _, last = replay.apply([others, removed])
    assert last.deleted > 0
    assert set(last.rows_by_day) == {removed.day}
    assert keys(replay) == postgres_keys(capture, parcels)


def test_case_18_a_changed_key_leaves_no_row_behind_and_carries_the_values_over(capture: Capture, parcels: str) -> None:
    """Debezium sends a delete and a create; the long text, which does not travel, comes from the row of the old key."""
    assert row(capture, parcels, 2) is None
    moved = row(capture, parcels, 92)
    assert moved is not None
    assert (moved["note"], moved["status"], str(moved["weight"])) == (LONG, "sent", "2.00")


def test_case_18_a_key_of_two_quoted_columns_is_changed_like_any_other(capture: Capture, identity: str) -> None:
    items = {(r["order_id"], r["Position"]): r for r in capture.silver(f"items_{identity}")}
    assert (1, 1) not in items
    assert (items[9, 8]["value"], items[9, 8]["op"], items[9, 8]["lsn"]) == (LONG, "changed", 78)


def test_case_19_a_truncate_removes_what_is_older_and_shows_in_the_result(
    capture: Capture, identity: str, tmp_path: Path
) -> None:
    boxes = f"boxes_{identity}"
    assert [(r["box_id"], r["label"]) for r in capture.silver(boxes)] == [(2, "new"), (3, "new")]
    assert sum(result.removals for result in capture.merges[boxes]) == 1
    replay = Replay(capture, boxes, tmp_path)
    replay.apply([*reversed(shuffled(capture.records(boxes), seed=3))])
    assert [(r["box_id"], r["label"]) for r in replay.silver()] == [(2, "new"), (3, "new")]


def test_case_20_a_snapshot_read_does_not_undo_a_newer_change(capture: Capture, parcels: str, tmp_path: Path) -> None:
    """Reads of an incremental snapshot, made while the rows changed, and of the initial one, applied after all else."""
    reads = capture.bronze(parcels, "_snapshot", "_op = 'r' AND _snapshot = 'incremental'")
    assert len(reads) >= 10, "the incremental snapshot was not captured"
    records = capture.records(parcels)
    read = pc.fill_null(contains(records, '"op":"r"'), False)
    replay = Replay(capture, parcels, tmp_path)
    replay.apply([Portion(records.filter(pc.invert(read))), Portion(records.filter(read))])
    assert keys(replay) == postgres_keys(capture, parcels)
    statuses = {r["parcel_id"]: r["status"] for r in replay.silver()}
    assert (statuses[100], statuses[102], statuses[109]) == ("delivered", "moved", "stored")
    assert 101 not in statuses


def test_case_21_changes_that_share_an_lsn_have_one_order(capture: Capture, parcels: str, tmp_path: Path) -> None:
    """All reads of the initial snapshot have the same LSN; portions in any order lead to the same rows."""
    reads = capture.bronze(parcels, "_lsn", "_snapshot <> 'incremental'")
    assert len(reads) == 10
    assert len({read["_lsn"] for read in reads}) == 1
    records = capture.records(parcels)
    found = []
    for seed in (1, 2):
        replay = Replay(capture, parcels, tmp_path / str(seed))
        replay.apply(shuffled(records, seed, portions=3))
        found.append((replay.silver(), replay.versions()))
    assert found[0] == found[1]
    assert [r["parcel_id"] for r in found[0][0]] == postgres_keys(capture, parcels)


def test_case_22_the_order_of_commits_decides_not_a_clock(capture: Capture, parcels: str) -> None:
    late = row(capture, parcels, 30)
    assert late is not None
    assert (late["status"], late["written_at"].year) == ("late", 1999)
    steps = capture.bronze(parcels, "status, _commit_pos, _lsn, _source_ts", "parcel_id = 30 AND _op <> 'r'")
    assert [step["status"] for step in steps] == ["new", "early", "late"]
    (first,) = capture.bronze(parcels, "_commit_pos, _lsn", "parcel_id = 31 AND _op = 'u'")
    early = steps[1]
    assert first["_lsn"] < early["_lsn"], "the transaction that committed last wrote first"
    assert first["_commit_pos"] > early["_commit_pos"]


def test_case_23_24_delete_and_insert_of_one_key_also_when_the_delete_is_redelivered(
    capture: Capture, parcels: str, tmp_path: Path
) -> None:
    again_11_as_13, again_12 = row(capture, parcels, 13), row(capture, parcels, 12)
    assert again_11_as_13 is not None
    assert again_12 is not None
    assert (again_11_as_13["status"], again_12["status"]) == ("again", "again")
    records = capture.records(parcels)
    deletes = records.filter(pc.fill_null(contains(records, '"op":"d"'), False))
    replay = Replay(capture, parcels, tmp_path)
    replay.apply([Portion(records)])
    before = replay.silver()
    replay.apply([Portion(again(deletes))])
    assert replay.silver() == before


def test_case_25_decimals_are_exact(capture: Capture, parcels: str) -> None:
    """As texts, which the connector is asked for. As base64 of other connectors: see the types."""
    found = row(capture, parcels, 20)
    assert found is not None
    assert (str(found["weight"]), found["exact"]) == ("1.00", "12345678901234567890.1234567890")
    config = connector_config(capture.settings, tuple(capture.contracts.values()), "initial")
    assert config["decimal.handling.mode"] == "string"


def test_case_27_null_in_a_column_with_a_default_is_null(capture: Capture, parcels: str) -> None:
    found = row(capture, parcels, 20)
    assert found is not None
    assert found["status"] is None


def test_case_28_heartbeats_and_transaction_metadata_in_between_are_counted_and_make_no_row(
    capture: Capture, parcels: str, con: DuckDBPyConnection
) -> None:
    """As a routing transformation writes them: into the table's topic."""
    own = capture.records(parcels)
    topics = heartbeat_topic(capture.settings), transaction_topic(capture.settings)
    strangers = [read_records(capture.settings, topic) for topic in topics]
    assert all(each.num_rows for each in strangers)
    decoder = Decoder(con, capture.contracts[parcels])
    alone = decoder.decode(own, "id", DAY)
    mixed = decoder.decode(pa.concat_tables([strangers[0], own, strangers[1]]), "id", DAY)
    assert (mixed.rows, mixed.dead, mixed.tombstones) == (alone.rows, 0, alone.tombstones)
    assert mixed.skipped == sum(each.num_rows for each in strangers)


def test_the_same_record_twice_changes_nothing(capture: Capture, parcels: str, tmp_path: Path) -> None:
    """A connector without exactly-once delivers again: each change is once in silver and among the versions."""
    records = capture.records(parcels)
    replay = Replay(capture, parcels, tmp_path)
    replay.apply(shuffled(records, seed=5, portions=2))
    before = replay.silver(), replay.versions()
    twice = replay.apply(Portion(again(p.records), p.day) for p in shuffled(records, seed=6, portions=2))
    assert (replay.silver(), replay.versions()) == before
    assert sum(result.inserted + result.deleted for result in twice) == 0


def test_a_whole_day_replayed_changes_nothing(capture: Capture, parcels: str) -> None:
    loads, merges = len(capture.loads[parcels]), len(capture.merges[parcels])
    day = today(capture, parcels)
    before = capture.silver(parcels)
    capture.replay_day(parcels, day)
    assert capture.loads[parcels][loads].snapshot_id is None
    assert capture.merges[parcels][merges].snapshot_id is None
    assert capture.silver(parcels) == before


def test_events_that_arrive_late_are_counted_and_change_the_days_rows(
    capture: Capture, parcels: str, tmp_path: Path
) -> None:
    """The day is that of Kafka's clock; what the shop committed on an earlier one is late, and in its place."""
    records = capture.records(parcels)
    replay = Replay(capture, parcels, tmp_path)
    far = today(capture, parcels) + timedelta(days=3)
    (result,) = replay.apply([Portion(records, far)])
    assert replay.late == result_rows(capture, parcels)
    assert set(result.rows_by_day) == {far}
    assert keys(replay) == postgres_keys(capture, parcels)
    assert capture.count(parcels, "late") == 0


def test_a_rolled_back_transaction_never_happened(capture: Capture, parcels: str) -> None:
    assert capture.bronze(parcels, where="status = 'never'") == []


def test_the_steps_of_a_rows_life_are_its_versions(capture: Capture, parcels: str, tmp_path: Path) -> None:
    replay = Replay(capture, parcels, tmp_path)
    replay.apply(shuffled(capture.records(parcels), seed=9, portions=2))
    steps = [(v["status"], v["note"]) for v in replay.versions() if v["parcel_id"] == 4]
    assert steps == [("new", LONG), ("new", OTHER), ("another note", OTHER)]


def test_columns_named_like_ours_keep_their_values(capture: Capture, identity: str) -> None:
    found = {(r["order_id"], r["Position"]): r for r in capture.silver(f"items_{identity}")}[9, 8]
    named = {name: found[name] for name in ODD if name not in ("value", "op", "lsn")}
    assert named == {
        "order_id": 9, "Position": 8, "before": "b", "after": "a", "source": "s", "select": 5, "file": "f",
        "place": "p", "is_new": True, "deleted": False, "quoted": "q", "größe": "g",
    }  # fmt: skip
    old = capture.bronze(f"items_{identity}", "_old_key", "_old_key IS NOT NULL")
    assert [json.loads(each["_old_key"]) for each in old] == [{"order_id": 1, "Position": 1}]


def contains(records: pa.Table, text: str) -> Any:
    return pc.match_substring(pc.cast(records["value"], pa.string()), text)


def keys(replay: Replay) -> list[int]:
    return [r["parcel_id"] for r in replay.silver()]


def postgres_keys(capture: Capture, parcels: str) -> list[int]:
    with capture.shop() as shop:
        cursor = shop.cursor(row_factory=dict_row)
        found = cursor.execute(f"SELECT parcel_id FROM {parcels} ORDER BY 1".encode()).fetchall()
    return [r["parcel_id"] for r in found]


def result_rows(capture: Capture, table: str) -> int:
    return capture.count(table, "rows")
