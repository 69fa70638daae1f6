"""The benchmark works at small sizes: it measures every hop and writes down what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from orders_platform.contracts import load_contracts
from orders_platform_tests.benchmarks.events import Changes, Shape, events
from orders_platform_tests.benchmarks.measure import Measurement
from orders_platform_tests.test_isolation import EXPORTED, without_isolation

ROOT = Path(__file__).parents[2]


def test_the_quick_benchmark_measures_every_hop_beside_its_floor_on_parts_of_its_own(tmp_path: Path) -> None:
    """With variables exported that name other systems, none of which there is."""
    done = subprocess.run(
        [sys.executable, "-m", "orders_platform_tests.benchmarks", "--quick"],
        cwd=ROOT,
        env={**without_isolation(), **EXPORTED, "ORDERS_PLATFORM_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (file,) = (tmp_path / "benchmarks").iterdir()
    measured = {each["name"]: each for each in json.loads(file.read_text(encoding="utf-8"))["measurements"]}
    beside_floor = {
        "topic to bronze",
        "bronze to silver, first",
        "upserts into 20,000 keys",
        "silver beside PostgreSQL",
        "one order date of gold",
        "ClickHouse swap",
    }
    assert beside_floor <= {name for name, each in measured.items() if each["times_floor"]}
    assert measured["topic to bronze"]["figures"]["rows"] == 30_000
    assert measured["small commits to bronze"]["figures"]["late_to_early"] > 0
    assert measured["silver beside PostgreSQL"]["figures"]["rows"] == 20_000
    assert measured["200 changes of recent orders"]["figures"]["bytes_rewritten_per_changed_row"] > 0


def test_generated_events_are_those_of_the_connector() -> None:
    (orders,) = (contract for contract in load_contracts() if contract.table == "orders")
    (batch,) = events(Changes(orders, 2, position=10, keys="7 + i", op="u"), Shape(orders_per_day=5, customers=3))
    first, second = (json.loads(event["value"]) for event in batch)
    assert json.loads(batch[0]["key"]) == {"order_id": 7}
    assert list(first) == ["before", "after", "source", "transaction", "op", "ts_ms", "ts_us", "ts_ns"]
    assert list(first["after"]) == list(orders.column_names)
    assert first["after"]["created_at"].startswith("2026-01-06T")
    assert first["source"]["lsn"] < second["source"]["lsn"]
    assert json.loads(second["source"]["sequence"]) == [str(first["source"]["lsn"]), str(second["source"]["lsn"])]


def test_a_ratio_says_how_many_times_the_floor_a_hop_takes() -> None:
    measurement = Measurement("hop", amount=100, unit="rows", seconds=4.0, floor_seconds=2.0)
    assert (measurement.per_second, measurement.times_floor) == (25.0, 2.0)
