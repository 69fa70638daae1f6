"""What the fork server imports and does once for all passes. When it is done no thread may be left, and no file open.

A real run imports most of it when it needs it, which takes longer than what a short pass does with it.
"""

import gc
import shutil
import tempfile
from importlib import import_module
from pkgutil import iter_modules

import dagster
import dagster_dbt
import dbt.adapters.duckdb
import dbt.cli.main
import pyarrow.acero
import pyiceberg.avro.decoder_fast
import pyiceberg.catalog.sql
import pyiceberg.io.pyarrow
import sqlglot.dialects.duckdb
import sqlglot.generators.duckdb
import sqlglot.parsers.duckdb

import orders_platform.definitions
import orders_platform.defs.sync
import orders_platform.ingest
import orders_platform.lake
import orders_platform.serving
import orders_platform_tests.faults.matrix
from orders_platform.defs.sync import QUIET
from orders_platform.lake.gold_models import MANIFEST, PROJECT

__all__ = [
    "dagster",
    "dagster_dbt",
    "dbt",
    "orders_platform",
    "orders_platform_tests",
    "pyarrow",
    "pyiceberg",
    "sqlglot",
]

for package in (orders_platform.ingest, orders_platform.lake, orders_platform.serving):
    for module in iter_modules(package.__path__, f"{package.__name__}."):
        import_module(module.name)


@dagster.asset
def nothing() -> None:
    """An asset whose run imports what Dagster imports when it runs one."""


with dagster.DagsterInstance.ephemeral() as instance:
    dagster.materialize([nothing], instance=instance, run_config=QUIET)

# dbt makes the schemas of its own configuration when it first needs them, in each process anew.
with tempfile.TemporaryDirectory() as folder:
    shutil.copy(MANIFEST.parent / "partial_parse.msgpack", folder)
    project = ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)]
    dbt.cli.main.cli(
        ["--quiet", "parse", *project, "--target-path", folder, "--log-path", folder], standalone_mode=False
    )

# What was imported stays: no collection in a pass looks at it again, which costs more than the pass's own work does.
gc.collect()
gc.freeze()
