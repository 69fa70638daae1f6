"""The oracle can fail: one value altered, one row dropped or doubled, in each layer, is seen and named."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import clickhouse_connect
import pyarrow as pa
import pytest

from orders_platform.contracts import load_contracts
from orders_platform.lake.catalog import open_catalog
from orders_platform.settings import Settings
from orders_platform_tests.faults.oracle import differences
from orders_platform_tests.faults.oracle_ledger import COMMIT, LEDGER, ROWS
from orders_platform_tests.faults.oracle_published import Fact
from orders_platform_tests.faults.player import Player
from orders_platform_tests.faults.recording import Recording

pytestmark = pytest.mark.timeout(600)
CONTRACTS = load_contracts()
Row = dict[str, Any]


@pytest.fixture(scope="module")
def undisturbed(recording: Recording, live_stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    player = Player(20_000, recording, live_stack, CONTRACTS, tmp_path_factory.mktemp("undisturbed"))
    player.prepare()
    player.write(recording.records)
    assert player.heal() == []
    return player.settings


def _altered(column: str, value: Any) -> Callable[[list[Row]], list[Row]]:
    def alter(rows: list[Row]) -> list[Row]:
        chosen = next(i for i, row in enumerate(rows) if row[column] not in (None, value) and row.get("_op") != "d")
        return [row | {column: value} if i == chosen else row for i, row in enumerate(rows)]

    return alter


def _dropped(rows: list[Row]) -> list[Row]:
    chosen = next(i for i, row in enumerate(rows) if not row.get("_deleted"))
    return [row for i, row in enumerate(rows) if i != chosen]


def _doubled(rows: list[Row]) -> list[Row]:
    return [*rows, rows[0]]


ALTERED = {
    "bronze.products": _altered("price", Decimal("0.01")),
    "silver.inventory": _altered("quantity", -1),
    "silver.customers": _altered("email", "altered"),
    "silver.customers_versions": _altered("_lsn", 1),
    "gold.fact_orders": _altered("revenue", Decimal("-0.01")),
    "gold.daily_revenue": _altered("revenue", Decimal("-0.01")),
}
DAMAGES = [
    ("bronze.orders", "after another commit", _altered("_commit_pos", 1)),
    ("bronze.customers", "of a later epoch", _altered("_epoch", 9)),
    ("silver.customers_versions", "of another region", _altered("region", "XX")),
    ("silver.customers_versions", "in clear text", _altered("email", "somebody@example.com")),
    ("silver.customers_versions", "deleted", _altered("_deleted", True)),
    ("gold.fact_orders", "with more items", _altered("items", 99)),
    ("gold.fact_orders", "as it was before", _altered("updated_at", datetime(2026, 1, 1, tzinfo=UTC))),
    ("gold.daily_revenue", "with more items", _altered("items", 99)),
    ("bronze.orders", "on another day", _altered("_ingest_day", date(2026, 1, 1))),
    *((table, "altered", alter) for table, alter in ALTERED.items()),
    *((table, "dropped", _dropped) for table in ALTERED),
    *((table, "doubled", _doubled) for table in ALTERED),
]


@pytest.mark.parametrize(("name", "what", "damage"), DAMAGES, ids=lambda part: part if isinstance(part, str) else "")
def test_one_damaged_row_of_a_table_is_seen(
    name: str, what: str, damage: Callable[[list[Row]], list[Row]], recording: Recording, undisturbed: Settings
) -> None:
    table = open_catalog(undisturbed).load_table(name)
    whole = table.current_snapshot()
    assert whole is not None
    rows = table.scan().to_arrow()
    table.overwrite(pa.Table.from_pylist(damage(rows.to_pylist()), schema=rows.schema))
    try:
        found = differences(undisturbed, CONTRACTS, recording.state)
    finally:
        table.manage_snapshots().set_current_snapshot(whole.snapshot_id).commit()
    assert [line for line in found if line.startswith(f"{name}:")] != [], f"{what}: {found}"


def _without_a_partition(said: dict[str, str]) -> None:
    ledger = json.loads(said[LEDGER])
    log = next(iter(ledger))
    said[LEDGER] = json.dumps({**ledger, log: dict(list(ledger[log].items())[1:])})


def _beyond_the_log(said: dict[str, str]) -> None:
    ledger = json.loads(said[LEDGER])
    next(iter(next(iter(ledger.values())).values()))[-1][1] += 7
    said[LEDGER] = json.dumps(ledger)


def _with_a_row_more(said: dict[str, str]) -> None:
    said[ROWS] = str(int(said[ROWS]) + 1)


def _with_a_tombstone_more(said: dict[str, str]) -> None:
    own = json.loads(said[COMMIT])
    said[COMMIT] = json.dumps({**own, "tombstones": own["tombstones"] + 1})


@pytest.mark.parametrize(
    ("damage", "seen"),
    [
        (_without_a_partition, "records are not in its intervals"),
        (_beyond_the_log, "intervals go on behind the end of the log"),
        (_with_a_row_more, "count of rows is wrong"),
        (_with_a_tombstone_more, "commits have counted otherwise"),
    ],
)
def test_a_damaged_ledger_is_seen(
    damage: Callable[[dict[str, str]], None], seen: str, recording: Recording, undisturbed: Settings
) -> None:
    table = open_catalog(undisturbed).load_table("bronze.orders")
    whole = table.current_snapshot()
    assert whole is not None
    assert whole.summary is not None
    said = dict(whole.summary.additional_properties)
    damage(said)
    altered = {name: said[name] for name in (LEDGER, ROWS, COMMIT)}
    table.append(table.scan().to_arrow().slice(0, 0), snapshot_properties=altered)
    try:
        found = differences(undisturbed, CONTRACTS, recording.state)
    finally:
        table.manage_snapshots().set_current_snapshot(whole.snapshot_id).commit()
    assert [line for line in found if line.startswith("bronze.orders's ledger: ") and seen in line] != [], found


def test_every_column_of_a_fact_is_compared(undisturbed: Settings) -> None:
    columns = open_catalog(undisturbed).load_table("gold.fact_orders").schema().column_names
    assert sorted(Fact._fields) == sorted(columns)


@pytest.mark.parametrize(
    ("what", "statement"),
    [
        ("altered", "SELECT * REPLACE (revenue + 1 AS revenue) FROM daily_revenue ORDER BY ALL LIMIT 1"),
        ("doubled", "SELECT * FROM daily_revenue ORDER BY ALL LIMIT 1"),
        ("dropped", "SELECT * FROM daily_revenue LIMIT 0"),
    ],
)
def test_one_damaged_row_of_clickhouse_is_seen(
    what: str, statement: str, recording: Recording, undisturbed: Settings
) -> None:
    client = clickhouse_connect.get_client(dsn=undisturbed.clickhouse)
    client.command("CREATE TABLE whole AS daily_revenue")
    client.command("INSERT INTO whole SELECT * FROM daily_revenue")
    first = "(order_date, region, currency) = (SELECT order_date, region, currency FROM whole ORDER BY ALL LIMIT 1)"
    try:
        client.command("CREATE TABLE damage AS daily_revenue")
        client.command(f"INSERT INTO damage {statement}")
        if what != "doubled":
            client.command(f"DELETE FROM daily_revenue WHERE {first}")
        client.command("INSERT INTO daily_revenue SELECT * FROM damage")
        found = differences(undisturbed, CONTRACTS, recording.state)
    finally:
        client.command("TRUNCATE TABLE daily_revenue")
        client.command("INSERT INTO daily_revenue SELECT * FROM whole")
        client.command("DROP TABLE whole")
        client.command("DROP TABLE damage")
        client.close()
    assert [line for line in found if line.startswith("clickhouse.daily_revenue:")] != [], f"{what}: {found}"
