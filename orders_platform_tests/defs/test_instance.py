"""The files that Dagster's own processes read."""

import shutil
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.run_coordinator import QueuedRunCoordinator

ROOT = Path(__file__).parents[2]


@pytest.fixture
def instance_home(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "deploy" / "dagster" / "dagster.yaml", tmp_path)
    return tmp_path


def test_runs_leave_the_queue_within_a_second_and_pools_hold_one_step(instance_home: Path) -> None:
    with dg.DagsterInstance.from_config(str(instance_home)) as instance:
        coordinator = instance.run_coordinator
        assert isinstance(coordinator, QueuedRunCoordinator)
        assert coordinator.dequeue_interval_seconds == 1
        pools = instance.event_log_storage.get_pool_config()
        assert pools.default_pool_limit == 1
        assert str(pools.pool_granularity) == "PoolGranularity.OP"
        assert not instance.telemetry_enabled
        assert instance.run_monitoring_enabled


def test_the_workspace_names_the_module_of_the_location() -> None:
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text(encoding="utf-8"))
    (place,) = workspace["load_from"]
    assert place["python_module"] == {"module_name": "orders_platform.definitions", "location_name": "orders_platform"}
