"""After records were lost, a repair on the live stack makes silver equal to PostgreSQL, deletes included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pyiceberg.catalog import Catalog

from orders_platform.contracts import Contract, load_contracts
from orders_platform.defs.repair import repair
from orders_platform.defs.sync import SyncError, load
from orders_platform.ingest.gap_acceptance import accept, open_gap
from orders_platform.ingest.kafka_admin import KafkaAdmin
from orders_platform.ingest.ledger import Ledger
from orders_platform.ingest.ledger_check import check_bronze
from orders_platform.lake.audit import check_silver
from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.duckdb_engine import connect, scan_sql
from orders_platform.settings import Settings
from orders_platform.stack import wait_until_captured
from orders_platform.stack.connect_rest import ConnectRest
from orders_platform.stack.connector import ensure_connector
from orders_platform.stack.debezium import CONNECTOR, SLOT, read_slot
from orders_platform_tests.ingest.broker_admin import delete_before
from orders_platform_tests.waiting import eventually

FIRST = 7_000_000_000
INSERT = (
    "INSERT INTO customers SELECT i, 'e' || i, 'n' || i, NULL, 'a, b', 'north', now(), now() "
    "FROM generate_series({}, {}) i"
)
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def lake(troubled_stack: Settings, tmp_path: Path) -> Settings:
    """Tables of the test's own on the running stack."""
    return Settings(_env_file=None, home=tmp_path / "lake", ports=troubled_stack.ports)  # type: ignore[call-arg]


@pytest.fixture
def customers(lake: Settings) -> Iterator[Contract]:
    """The contract of customers; the test's rows go when it ends."""
    yield next(contract for contract in load_contracts() if contract.table == "customers")
    shop(lake, f"DELETE FROM customers WHERE customer_id >= {FIRST}")


def shop(settings: Settings, *statements: str) -> None:
    """One transaction each."""
    with psycopg.connect(settings.postgres, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def lose(settings: Settings, contract: Contract) -> None:
    """Everything that is in the topic by now is gone, as after a too short retention."""
    wait_until_captured(settings)
    log = KafkaAdmin(settings).topic(contract.topic(settings.topic_prefix))
    for partition, bounds in log.partitions.items():
        delete_before(settings, log.name, partition, bounds.stable_end)


def in_silver(settings: Settings, catalog: Catalog) -> dict[int, str]:
    table = catalog.load_table("silver.customers")
    with connect(settings) as con:
        return dict(
            con.execute(
                f"SELECT customer_id, region FROM {scan_sql(table)} WHERE NOT _deleted AND customer_id >= {FIRST}"
            ).fetchall()
        )


def in_postgres(settings: Settings) -> dict[int, str]:
    with psycopg.connect(settings.postgres) as connection:
        rows = connection.execute(f"SELECT customer_id, region FROM customers WHERE customer_id >= {FIRST}".encode())
        return dict(rows.fetchall())


def test_lost_changes_come_back_and_lost_deletes_too(lake: Settings, customers: Contract) -> None:
    catalog = open_catalog(lake)
    shop(lake, INSERT.format(FIRST, FIRST + 9))
    wait_until_captured(lake)
    load(lake, ["customers"])
    assert in_silver(lake, catalog) == in_postgres(lake)

    shop(
        lake,
        f"DELETE FROM customers WHERE customer_id IN ({FIRST}, {FIRST + 1})",
        f"UPDATE customers SET region = 'south' WHERE customer_id = {FIRST + 2}",
        INSERT.format(FIRST + 10, FIRST + 11),
        # Gone and there again: the later row must stay, although its delete is repaired.
        f"DELETE FROM customers WHERE customer_id = {FIRST + 3}",
    )
    lose(lake, customers)
    shop(
        lake,
        INSERT.format(FIRST + 3, FIRST + 3),
        f"UPDATE customers SET region = 'west' WHERE customer_id = {FIRST + 4}",
    )
    wait_until_captured(lake)
    stops = open_gap(lake, catalog, customers)
    assert stops is not None
    assert stops.gap is not None
    with pytest.raises(SyncError, match="RecordsExpiredError"):
        load(lake, ["customers"])
    accept(lake, catalog, customers, stops.gap.name, reason="a test", by="ann")
    load(lake, ["customers"])
    assert in_silver(lake, catalog) != in_postgres(lake)

    said: list[str] = []
    report = repair(lake, customers, "ann", said.append, seconds=60)
    assert in_silver(lake, catalog) == in_postgres(lake)
    assert (report.rows_removed, report.left) == (2, 0)
    assert report.rows_sent >= 10
    assert any("completed" in each for each in said)

    # The deletes are changes like all others: silver made anew from bronze ends in the same rows.
    for check in (check_silver(lake, catalog, customers), *_days(lake, catalog, customers)):
        assert check.passed, check.description
    catalog.drop_table("silver.customers")
    load(lake, ["customers"])
    assert in_silver(lake, catalog) == in_postgres(lake)
    known = Ledger.of_table(catalog, "bronze.customers").accepted
    again = repair(lake, customers, "ann", said.append, seconds=60)
    assert (again.rows_removed, again.left) == (0, 0)
    assert in_silver(lake, catalog) == in_postgres(lake)
    assert Ledger.of_table(catalog, "bronze.customers").accepted == known


def test_a_repair_empties_what_a_snapshot_could_not(lake: Settings) -> None:
    """A complete snapshot removes what it did not see with the last row of a table; an empty table has none."""
    catalog, (inventory,) = open_catalog(lake), (each for each in load_contracts() if each.table == "inventory")
    left = lambda: rows_left(lake, catalog)  # noqa: E731
    shop(
        lake,
        f"INSERT INTO products VALUES ({FIRST}, 's', 'n', 'd', 'c', 12.30, true, now(), now())",
        f"INSERT INTO inventory VALUES (1, {FIRST}, 1, now())",
    )
    wait_until_captured(lake)
    load(lake, ["inventory"])
    assert left() > 0
    rest = ConnectRest(lake)
    rest.stop(CONNECTOR)
    assert eventually(lambda: (slot := read_slot(lake.postgres)) and not slot.active)
    shop(lake, f"SELECT pg_drop_replication_slot('{SLOT}')", "DELETE FROM inventory")
    ensure_connector(lake, load_contracts(), print, accept_new_slot=True)
    wait_until_captured(lake)
    load(lake, ["inventory"])
    assert left() > 0, "the snapshot tells now: nobody needs to be told to repair it"
    assert repair(lake, inventory, "ann", print, seconds=60).left == 0
    assert left() == 0


def rows_left(settings: Settings, catalog: Catalog) -> int:
    with connect(settings) as con:
        rows = scan_sql(catalog.load_table("silver.inventory"))
        return int(con.execute(f"SELECT count(*) FROM {rows} WHERE NOT _deleted").fetchall()[0][0])


def _days(settings: Settings, catalog: Catalog, contract: Contract) -> list[object]:
    table = catalog.load_table(contract.bronze_table)
    with connect(settings) as con:
        days = con.execute(f"SELECT DISTINCT _ingest_day FROM {scan_sql(table)}").fetchall()
    return [check_bronze(settings, catalog, contract, day) for (day,) in days]
