"""What the fork server imports once for all passes: nothing here may start work or open a file.

A real run imports most of it when it needs it, which takes longer than what a short pass does with it.
"""

from importlib import import_module
from pkgutil import iter_modules

import dagster
import dagster_dbt
import dbt.adapters.duckdb
import dbt.cli.main
import pyiceberg.catalog.sql
import pyiceberg.io.pyarrow

import orders_platform.definitions
import orders_platform.defs.sync
import orders_platform.ingest
import orders_platform.lake
import orders_platform.serving

__all__ = ["dagster", "dagster_dbt", "dbt", "orders_platform", "pyiceberg"]

for package in (orders_platform.ingest, orders_platform.lake, orders_platform.serving):
    for module in iter_modules(package.__path__, f"{package.__name__}."):
        import_module(module.name)
