"""Loading days and looking at what is in bronze then."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import date

from pyiceberg.catalog import Catalog

from orders_platform.fault_points import VARIABLE, FaultPoint
from orders_platform.ingest.bronze import BronzeResult, load_day
from orders_platform.ingest.ledger_check import check_bronze
from orders_platform.ingest.staging import stage_day
from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.duckdb_engine import connect, scan_sql
from orders_platform.settings import Settings
from orders_platform_tests.ingest.events import contract

PROCESS = """
import sys
from datetime import date
from orders_platform_tests.ingest.loads import ingest
from orders_platform.settings import Settings
ingest(Settings.model_validate_json(sys.argv[1]), date.fromisoformat(sys.argv[2]))
"""


def ingest(settings: Settings, day: date, until: Mapping[int, int] | None = None) -> BronzeResult:
    """Stages and loads a day of orders."""
    stage_day(settings, contract(), day, until)
    return load_day(settings, open_catalog(settings), contract(), day)


def start(settings: Settings, day: date, fault: FaultPoint | None = None) -> subprocess.Popen[bytes]:
    """The same in a process of its own, which dies at a named point."""
    environment = {**os.environ, **({VARIABLE: fault} if fault else {})}
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, settings.model_dump_json(), day.isoformat()], env=environment
    )


def rows(settings: Settings, columns: str = "order_id") -> list[tuple[object, ...]]:
    """Columns of every row of bronze, by partition and offset."""
    table = open_catalog(settings).load_table("bronze.orders")
    with connect(settings) as con:
        sql = f"SELECT {columns} FROM {scan_sql(table)} ORDER BY _kafka_partition, _kafka_offset"
        return con.execute(sql).fetchall()


def assert_sound(settings: Settings, catalog: Catalog, day: date) -> None:
    """Bronze holds exactly the ledger."""
    outcome = check_bronze(settings, catalog, contract(), day)
    assert outcome.passed, outcome.description
