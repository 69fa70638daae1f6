"""What the fork server imports once for all passes: nothing here may start a thread or open a file."""

import dagster
import dagster_dbt

import orders_platform.definitions
import orders_platform.defs.sync

__all__ = ["dagster", "dagster_dbt", "orders_platform"]
