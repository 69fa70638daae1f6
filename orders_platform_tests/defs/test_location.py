"""The code location: what it loads, what it imports, and the graph that it shows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from orders_platform.contracts import load_contracts
from orders_platform.defs.assets.dbt_manifest import ManifestError, read_models
from orders_platform.defs.location import build_location
from orders_platform.defs.partitions import DAYS
from orders_platform.defs.resources.platform import Platform
from orders_platform.lake.gold_models import MANIFEST
from orders_platform.settings import Settings

HEAVY = (
    "pyspark",
    "pyiceberg",
    "duckdb",
    "great_expectations",
    "chdb",
    "dagster_dbt",
    "dagster_aws",
    "confluent_kafka",
)

LAYERS = ("postgres", "kafka", "staging", "bronze", "silver")

LOAD = f"""
import sys, time
import dagster as dg
started = time.process_time()
import socket
def refuse(*args, **kwargs):
    raise AssertionError("definitions opened a connection")
socket.socket.connect = refuse
from orders_platform.definitions import definitions
dg.Definitions.validate_loadable(definitions())
seconds = time.process_time() - started
import json
print(json.dumps({{"seconds": seconds, "heavy": [m for m in {HEAVY!r} if m in sys.modules]}}))
"""


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    """The location of an installation in which nothing runs."""
    home = tmp_path_factory.mktemp("home")
    return build_location(Platform(Settings(_env_file=None, home=home)))  # type: ignore[call-arg]


def test_loading_is_quick_opens_no_connection_and_imports_no_engine(tmp_path: Path) -> None:
    environment = {**os.environ, "ORDERS_PLATFORM_HOME": str(tmp_path), "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "-c", LOAD], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded["heavy"] == []
    assert loaded["seconds"] < 3


def test_the_graph_leads_from_every_table_of_the_shop_to_the_dashboard_table(location: dg.Definitions) -> None:
    graph = location.resolve_asset_graph()
    tables = [contract.table for contract in load_contracts()]
    names = {key.to_user_string() for key in graph.get_all_asset_keys()}
    layers = {f"{layer}_{table}" for table in tables for layer in LAYERS}
    assert names == layers | {"gold_fact_orders", "gold_daily_revenue", "clickhouse_daily_revenue"}
    above = {key.to_user_string() for key in graph.get_ancestor_asset_keys(dg.AssetKey("clickhouse_daily_revenue"))}
    assert {"postgres_orders", "kafka_orders", "kafka_line_items", "kafka_customers"} <= above


def test_every_asset_has_group_owner_kinds_and_description(location: dg.Definitions) -> None:
    graph = location.resolve_asset_graph()
    groups = {"postgres": "shop", "kafka": "ingest", "staging": "ingest", "clickhouse": "serving"}
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        layer = key.to_user_string().partition("_")[0]
        assert node.group_name == groups.get(layer, layer), key
        assert node.owners == ["data-platform@example.com"], key
        assert node.kinds, key
        assert len(node.description or "") > 40, key


def test_tables_show_their_schema_with_masked_columns_as_text(location: dg.Definitions) -> None:
    graph = location.resolve_asset_graph()
    for layer, marks in (("bronze", {"_error", "_kafka_offset"}), ("silver", {"_deleted", "_seq"})):
        schema = graph.get(dg.AssetKey(f"{layer}_customers")).metadata["dagster/column_schema"]
        columns = {column.name: column for column in schema.columns}
        assert {"customer_id", "email"} | marks <= columns.keys()
    assert "Masked" in (columns["email"].description or "")


@pytest.mark.parametrize(
    ("asset", "column", "kind"),
    [
        ("gold_fact_orders", "revenue", "decimal(14, 2)"),
        ("gold_daily_revenue", "revenue", "decimal(18, 2)"),
        ("clickhouse_daily_revenue", "revenue", "Decimal(18, 2)"),
    ],
)
def test_gold_and_clickhouse_show_the_type_of_each_column(
    location: dg.Definitions, asset: str, column: str, kind: str
) -> None:
    schema = location.resolve_asset_graph().get(dg.AssetKey(asset)).metadata["dagster/column_schema"]
    types = {each.name: each.type for each in schema.columns}
    assert types[column] == kind
    assert len(types) >= 8
    assert "?" not in types.values()


@pytest.mark.parametrize("asset", ["bronze_orders", "silver_orders", "gold_daily_revenue", "clickhouse_daily_revenue"])
def test_every_hop_that_publishes_has_a_blocking_check(location: dg.Definitions, asset: str) -> None:
    graph = location.resolve_asset_graph()
    checks = graph.get_check_keys_for_assets({dg.AssetKey(asset)})
    assert checks
    assert all(graph.get(key).blocking for key in checks)


def test_a_range_of_days_is_one_run_of_every_asset(location: dg.Definitions) -> None:
    graph = location.resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        assert node.partitions_def == DAYS
        assert node.backfill_policy == dg.BackfillPolicy.single_run()


def test_every_table_has_a_pool_of_its_own(location: dg.Definitions) -> None:
    graph = location.resolve_asset_graph()
    pools = [frozenset(graph.get(key).pools or ()) for key in graph.materializable_asset_keys]
    assert all(len(pool) == 1 for pool in pools)
    assert len(set(pools)) == len(pools) - 1, "the two gold models are one step"


def test_a_missing_manifest_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="make manifest"):
        read_models(tmp_path / "manifest.json")


def test_models_and_tests_have_the_names_that_dagster_dbt_gives_them() -> None:
    from dagster_dbt import DagsterDbtTranslator

    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    translator = DagsterDbtTranslator()
    for model in read_models():
        theirs = translator.get_asset_spec(manifest, model.unique_id, None)
        assert model.spec.key == theirs.key
        assert {dep.asset_key for dep in model.spec.deps} == {dep.asset_key for dep in theirs.deps}
        assert model.spec.group_name == theirs.group_name
        assert list(model.spec.owners) == list(theirs.owners)
        for unique_id, test in model.tests.items():
            if not manifest["nodes"][unique_id].get("attached_node"):
                continue  # theirs are not checks: they read more than one model
            check = translator.get_asset_check_spec(theirs, manifest, unique_id, None)
            assert check is not None
            assert test.name == check.name
