"""Case 31: the shop alters its tables in ways that somebody must decide upon, and a real Debezium captures it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from orders_platform.ingest.bronze import bronze_table
from orders_platform.ingest.dead_letters import list_dead_letters
from orders_platform.ingest.drift import decisions
from orders_platform.ingest.drift_acceptance import accept
from orders_platform.ingest.errors import SchemaDriftError
from orders_platform.ingest.vanished import remove_vanished
from orders_platform.quality.comparison import Patience
from orders_platform.quality.gold_inputs import sequence
from orders_platform.quality.rounds import look
from orders_platform.settings import Settings
from orders_platform.stack.incremental_snapshot import read_anew
from orders_platform_tests.cases.captured import Capture, capturing, write_contract
from orders_platform_tests.waiting import eventually

COLUMNS = {"key": "int", "name": {"physicalType": "text", "required": True}, "amount": "integer"}
ALTERED = {
    "dropped": "ALTER TABLE dropped DROP name; INSERT INTO dropped VALUES (2, 2)",
    "renamed": "ALTER TABLE renamed RENAME name TO title; INSERT INTO renamed VALUES (2, 'b', 2)",
    "swapped": "ALTER TABLE swapped DROP amount, ADD total int; INSERT INTO swapped VALUES (2, 'b', 7)",
    "nullable": "ALTER TABLE nullable ALTER name DROP NOT NULL; INSERT INTO nullable VALUES (2, NULL, 2)",
    "rekeyed": "ALTER TABLE rekeyed DROP CONSTRAINT rekeyed_pkey, ADD PRIMARY KEY (key, name);"
    " INSERT INTO rekeyed VALUES (2, 'b', 2); DELETE FROM rekeyed WHERE key = 2;"
    " INSERT INTO rekeyed VALUES (3, 'c', 3)",
    "recreated": "DROP TABLE recreated; CREATE TABLE recreated (key int PRIMARY KEY, name text NOT NULL, amount int);"
    " INSERT INTO recreated VALUES (2, 'b', 2)",
}


@pytest.fixture(scope="module")
def capture(live_stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Capture]:
    """A table a kind of change, each with a row before it and one after it; all captured, none of it loaded."""
    folder = tmp_path_factory.mktemp("contracts")
    ddl = ""
    for table in ALTERED:
        write_contract(folder, table, table, COLUMNS, ["key"])
        ddl += f"CREATE TABLE {table} (key int PRIMARY KEY, name text NOT NULL, amount int);"
        ddl += f"ALTER TABLE {table} REPLICA IDENTITY FULL; INSERT INTO {table} VALUES (0, 'a', 0);"
    with capturing(live_stack, tmp_path_factory.mktemp("drift"), "drift", ddl, folder) as capture:
        with capture.shop() as shop:
            for table, change in ALTERED.items():
                shop.execute(f"INSERT INTO {table} VALUES (1, 'a', 1)".encode())
                for statement in change.split(";"):
                    shop.execute(statement.encode())
            shop.execute(b"ALTER PUBLICATION drift ADD TABLE recreated")
            shop.execute(b"INSERT INTO recreated VALUES (3, 'c', 3)")
        capture.wait()
        yield capture


def names(capture: Capture, table: str) -> dict[int, str | None]:
    return {row["key"]: row["name"] for row in capture.silver(table)}


def stopped(capture: Capture, table: str) -> SchemaDriftError:
    with pytest.raises(SchemaDriftError) as error:
        capture.load(table)
    assert f"topic drift.public.{table}[" in str(error.value)
    assert "from offset" in str(error.value)
    assert "nothing is lost" in str(error.value)
    assert f"orders-platform drift accept {table} '{error.value.change}'" in str(error.value)
    return error.value


def test_case_31_a_dropped_column_stays_and_is_null(capture: Capture) -> None:
    capture.load("dropped")
    assert str(capture.loads["dropped"][0].drift) == "dropped name"
    assert names(capture, "dropped") == {0: "a", 1: "a", 2: None}


def test_case_31_a_renamed_column_stops_the_table_until_the_contract_has_its_names(capture: Capture) -> None:
    assert "name gone, title new" in str(stopped(capture, "renamed"))
    assert bronze_table(capture.catalog, capture.contracts["renamed"]).current_snapshot() is None
    contract = capture.contracts["renamed"]
    columns = tuple(
        replace(column, physical_name="title", former_names=("name",)) if column.name == "name" else column
        for column in contract.columns
    )
    capture.contracts["renamed"] = replace(contract, columns=columns)
    capture.load("renamed")
    assert names(capture, "renamed") == {0: "a", 1: "a", 2: "b"}
    assert capture.compare("renamed").equal


def test_case_31_one_column_dropped_and_another_added_is_accepted_by_name(capture: Capture) -> None:
    contract = capture.contracts["swapped"]
    change = stopped(capture, "swapped").change
    accept(capture.settings, capture.catalog, contract, change, reason="amount is no more", by="me")
    capture.load("swapped")
    found = [(row["amount"], row["total"]) for row in capture.silver("swapped")]
    assert found == [(0, None), (1, None), (None, "7")]
    (decision,) = decisions(bronze_table(capture.catalog, contract))
    assert (decision["change"], decision["reason"]) == ("columns:-amount+total", "amount is no more")


def test_case_31_another_key_stops_the_table_until_the_contract_has_it(capture: Capture) -> None:
    error = stopped(capture, "rekeyed")
    assert "the key is (key,name), in the contract it is (key)" in str(error)
    contract = capture.contracts["rekeyed"]
    capture.contracts["rekeyed"] = replace(contract, key=("key", "name"))
    with pytest.raises(SchemaDriftError, match="the key is \\(key\\)") as former:
        capture.load("rekeyed")
    rekeyed = capture.contracts["rekeyed"]
    accept(capture.settings, capture.catalog, rekeyed, former.value.change, reason="changes of before", by="me")
    capture.load("rekeyed")
    assert capture.compare("rekeyed").equal


def test_case_31_a_null_where_the_contract_demands_a_value_is_a_dead_letter(capture: Capture) -> None:
    capture.load("nullable")
    (letter,) = list_dead_letters(capture.settings, capture.catalog, capture.contracts["nullable"])
    assert letter.error_class == "MissingValue"
    assert sorted(names(capture, "nullable")) == [0, 1]


def test_case_31_a_table_dropped_and_made_anew_goes_on(capture: Capture) -> None:
    """No event tells of DROP TABLE: rows of before stay, and the hourly look is red, until a repair reads the table."""
    contract = capture.contracts["recreated"]
    capture.load("recreated")
    assert names(capture, "recreated") == {0: "a", 1: "a", 3: "c"}, "2 was written before the publication had the table"
    before = look(capture.settings, capture.catalog, contract, None, datetime.now(UTC), Patience(limit_seconds=300))
    assert (before.passed, before.is_certain) == (False, True)
    assert [(each.key[0][1], str(each.finding)) for each in before.comparisons[0].differences] == [
        ("0", "unexpected"),
        ("1", "unexpected"),
        ("2", "missing"),
    ]
    seen = sequence(capture.catalog.load_table(contract.silver_table))
    # What `gaps repair` does.
    assert read_anew(capture.settings, contract, print, seconds=60) == 2
    capture.wait()
    capture.load("recreated")
    assert remove_vanished(capture.settings, capture.catalog, contract, seen, "me").removed == 2
    capture.load("recreated")
    after = look(capture.settings, capture.catalog, contract, before.round, datetime.now(UTC))
    assert after.passed, after.description
    assert names(capture, "recreated") == {2: "b", 3: "c"}


def is_read(stack: Settings) -> bool:
    """Whether a table is being read by a query that takes its time."""
    query = "SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%, pg_sleep(6)'"
    with psycopg.connect(stack.postgres) as connection:
        return connection.execute(query).fetchone() is not None


def migrate_during_the_first_reading(stack: Settings, database: str, statement: str) -> None:
    assert eventually(lambda: is_read(stack))
    with psycopg.connect(make_conninfo(stack.postgres, dbname=database), autocommit=True) as shop:
        shop.execute(statement.encode())


def test_case_31_rows_that_a_migration_takes_from_the_first_reading_are_named(
    live_stack: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A transaction that has begun finds a table empty that is rewritten afterwards, and Debezium says nothing of it.

    https://www.postgresql.org/docs/18/mvcc-caveats.html
    """
    folder = tmp_path_factory.mktemp("contracts")
    ddl = ""
    for table in ("aside", "rewritten"):
        write_contract(folder, table, table, COLUMNS, ["key"])
        ddl += f"CREATE TABLE {table} (key int PRIMARY KEY, name text NOT NULL, amount int);"
        ddl += f"INSERT INTO {table} VALUES (0, 'a', 0), (1, 'b', 1);"
    slowly = {
        "snapshot.select.statement.overrides": "public.aside",
        "snapshot.select.statement.overrides.public.aside": "SELECT t.* FROM public.aside t, pg_sleep(6)",
    }
    rewrite = "ALTER TABLE rewritten ALTER amount TYPE bigint"
    with ThreadPoolExecutor() as pool:
        migration = pool.submit(migrate_during_the_first_reading, live_stack, "migrated", rewrite)
        with capturing(live_stack, tmp_path_factory.mktemp("migrated"), "migrated", ddl, folder, **slowly) as capture:
            migration.result()
            with capture.shop() as shop:
                shop.execute(b"INSERT INTO rewritten VALUES (2, 'c', 2)")
            capture.wait()
            capture.load("aside", "rewritten")
            assert capture.compare("aside").equal
            assert names(capture, "rewritten") == {2: "c"}
            found = capture.compare("rewritten")
            assert [str(difference) for difference in found.differences] == ["key=0: missing", "key=1: missing"]
            # What `gaps repair` does.
            assert read_anew(capture.settings, capture.contracts["rewritten"], print) == 3
            capture.wait()
            capture.load("rewritten")
            assert capture.compare("rewritten").equal
