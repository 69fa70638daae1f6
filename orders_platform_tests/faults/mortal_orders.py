"""Orders from a real broker in real tables, where each process that works on them may be told at which point to die."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from pyarrow.fs import FileSelector, FileSystem
from pyiceberg.catalog import Catalog

from orders_platform import fault_points
from orders_platform.ingest.bronze import load_day
from orders_platform.ingest.ledger_check import check_bronze
from orders_platform.ingest.staging import stage_day
from orders_platform.lake.audit import check_silver
from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.silver import merge_silver
from orders_platform.settings import Settings, load
from orders_platform_tests.faults.passes import SERVER
from orders_platform_tests.ingest.events import change, contract, moment, produce

SECONDS = 120
DAY = date(2026, 3, 1)
ORDERS = replace(contract(), history=True)
TABLES = ("bronze.orders", "silver.orders_versions", "silver.orders")
"""In the order in which a run commits to them."""


@dataclass
class Orders:
    """A topic of orders and the tables made from it. Whatever is done to them is done by a process of its own."""

    settings: Settings
    environment: Mapping[str, str]
    files: FileSystem
    staging: str
    state: dict[int, dict[str, Any]] = field(default_factory=dict)
    """The columns by which the rows are told apart, by order."""
    changes: int = 0

    @property
    def catalog(self) -> Catalog:
        return open_catalog(self.settings)

    def put(self, order_id: int, *, without: str = "", **columns: Any) -> None:
        """A change of an order, of which the shop has no column `without`; it goes to the partition of its key."""
        self.changes += 1
        row = {"status": f"change {self.changes}", **columns}
        topic = ORDERS.topic(self.settings.topic_prefix)
        record = change(order_id, self.changes, partition=order_id % 3, at=moment(DAY), **row)
        record.value["after"].pop(without, None)
        produce(self.settings, topic, [record])
        self.state[order_id] = row

    def run(self, work: Callable[[Settings], object], fault: str = "") -> None:
        """Does the work; with a fault it must die there, without one it must end well."""
        process = SERVER.Process(target=_work, args=(work, {**self.environment, fault_points.VARIABLE: fault}))
        process.start()
        process.join(SECONDS)
        assert process.exitcode == (-signal.SIGKILL if fault else 0), fault

    @property
    def under_staging(self) -> set[str]:
        """Paths of all that lies where files are staged."""
        selector = FileSelector(self.staging, allow_not_found=True, recursive=True)
        return {each.path for each in self.files.get_file_info(selector)}

    @property
    def staged(self) -> set[str]:
        return {path for path in self.under_staging if path.endswith(".parquet")}

    def assert_right(self, *columns: str) -> None:
        """Each record once in bronze and in versions, silver as the shop has it, and both as their own checks say."""
        bronze, versions, silver = (self.catalog.load_table(name).scan().to_arrow().to_pylist() for name in TABLES)
        assert sorted(row["_lsn"] for row in bronze) == list(range(1, self.changes + 1))
        assert sorted(row["_lsn"] for row in versions) == list(range(1, self.changes + 1))
        names = ("status", *columns)
        held = {row["order_id"]: {name: row[name] for name in names} for row in silver}
        assert len(silver) == len(held)
        assert held == {key: {name: row.get(name) for name in names} for key, row in self.state.items()}
        for outcome in (
            check_bronze(self.settings, self.catalog, ORDERS, DAY),
            check_silver(self.settings, self.catalog, ORDERS),
        ):
            assert outcome.passed, outcome.description


def _work(work: Callable[[Settings], object], environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    work(load())


def stage(settings: Settings) -> None:
    """All that is new, from Kafka to staged files."""
    stage_day(settings, ORDERS, DAY)


def carry(settings: Settings) -> None:
    """All that is new, from Kafka to silver."""
    catalog = open_catalog(settings)
    stage(settings)
    load_day(settings, catalog, ORDERS, DAY)
    merge_silver(settings, catalog, ORDERS)
