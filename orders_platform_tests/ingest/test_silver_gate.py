"""Silver takes nothing that bronze's checks refuse, in whichever run: not even what a later check does not look at."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from orders_platform.defs.automation.behind import find_behind
from orders_platform.defs.location import build_location
from orders_platform.defs.resources.platform import Platform
from orders_platform.ingest.bronze import bronze_table
from orders_platform.ingest.errors import LedgerError
from orders_platform.ingest.ledger import Ledger
from orders_platform.ingest.ledger_check import check_bronze
from orders_platform.ingest.silver_gate import refuse_unfit
from orders_platform.lake import silver as silver_module
from orders_platform.lake.audit import audited_snapshot
from orders_platform.lake.commits import commit, head, own_properties
from orders_platform.lake.duckdb_engine import connect, live_files, scan_sql, write_files
from orders_platform.settings import Settings
from orders_platform_tests.ingest.events import change, contract, moment, produce
from orders_platform_tests.ingest.loads import ingest

DAY = date(2026, 3, 1)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def loaded(shop_topic: Settings, topic: str, catalog: Catalog) -> Table:
    """Bronze with four changes of orders."""
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(4)])
    ingest(shop_topic, DAY)
    return bronze_table(catalog, contract())


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def alter(settings: Settings, table: Table, replaced: str) -> None:
    """Writes all rows anew, with other values, as nobody should; the ledger and the number of rows stay."""
    with connect(settings) as connection:
        sql = f"SELECT * REPLACE ({replaced}) FROM {scan_sql(table)}"
        files = write_files(connection, table, sql, partition=DAY)
    commit(table, expected=head(table), add=files, remove=list(live_files(table)), summary={})


def run_silver(settings: Settings, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """A run of silver alone, as the sensor asks for it when bronze is ahead."""
    job = build_location(Platform(settings)).resolve_job_def("kafka_to_silver")
    silver = [dg.AssetKey("silver_orders")]
    return job.execute_in_process(QUIET, instance, DAY.isoformat(), raise_on_error=False, asset_selection=silver)


def test_sound_rows_are_let_through(loaded: Table, shop_topic: Settings, catalog: Catalog) -> None:
    assert refuse_unfit(shop_topic, catalog, contract()) == head(loaded)
    assert refuse_unfit(shop_topic, catalog, contract("customers")) is None


def test_a_row_that_stands_twice_is_refused(loaded: Table, shop_topic: Settings, catalog: Catalog) -> None:
    known = own_properties(loaded, Ledger.read(loaded).snapshot_id)
    loaded.append(loaded.scan().to_arrow().slice(0, 1), snapshot_properties=known)
    with pytest.raises(LedgerError, match="1 rows stand twice; the table has 5 rows, but its commits loaded 4"):
        refuse_unfit(shop_topic, catalog, contract())


@pytest.mark.parametrize(
    ("replaced", "why"),
    [
        ("_kafka_offset + 100 AS _kafka_offset", "4 rows have offsets that the ledger does not hold"),
        ("(_epoch + 1)::INTEGER AS _epoch", "4 rows are of another epoch than was accepted"),
    ],
)
def test_what_a_later_load_does_not_look_at_is_still_refused(
    loaded: Table, shop_topic: Settings, topic: str, catalog: Catalog, replaced: str, why: str
) -> None:
    """The check of a load reads the rows of that load only; what an earlier one refused is not forgotten."""
    alter(shop_topic, loaded, replaced)
    produce(shop_topic, topic, [change(9, 9, at=moment(DAY))])
    later = ingest(shop_topic, DAY)
    assert check_bronze(shop_topic, catalog, contract(), DAY, later.ranges).passed
    with pytest.raises(LedgerError, match=why):
        refuse_unfit(shop_topic, catalog, contract())


@pytest.mark.usefixtures("loaded")
def test_rows_that_come_while_silver_merges_are_not_published_unjudged(
    shop_topic: Settings, catalog: Catalog, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge = silver_module.merge_silver

    def overtaken(*args: Any) -> Any:
        alter(shop_topic, bronze_table(catalog, contract()), "_kafka_offset + 100 AS _kafka_offset")
        return merge(*args)

    monkeypatch.setattr(silver_module, "merge_silver", overtaken)
    assert not run_silver(shop_topic, instance).success
    silver = catalog.load_table("silver.orders")
    assert head(silver) is not None
    assert audited_snapshot(silver) is None


def test_a_table_without_a_ledger_is_stopped_and_not_merged(
    loaded: Table, shop_topic: Settings, catalog: Catalog, instance: dg.DagsterInstance
) -> None:
    """It used to be in both: stopped, and merged by the run that carries the others."""
    platform = Platform(shop_topic, (contract(),))
    assert find_behind(platform).merge_only == ("orders",)
    files = live_files(loaded)
    catalog.drop_table("bronze.orders")
    bronze_table(catalog, contract()).add_files([file.file_path for file in files])
    behind = find_behind(platform)
    assert behind.stopped["orders"].startswith("LedgerMissingError")
    assert (behind.unread, behind.merge_only) == ((), ())
    assert not run_silver(shop_topic, instance).success
    assert not catalog.table_exists("silver.orders")
