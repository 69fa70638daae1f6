"""The part of dbt-duckdb that is ours: silver as views, the order dates as a table, models stored on an Iceberg branch.

dbt-duckdb makes one `Plugin` for each process. It finds the run's workspace beside dbt's target path.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.flags import get_flags

from orders_platform.lake.dbt_store import lay_out, store_model, use_business_days
from orders_platform.lake.gold_workspace import Workspace

if TYPE_CHECKING:
    from dbt.adapters.duckdb.utils import TargetConfig
    from duckdb import DuckDBPyConnection


class Plugin(BasePlugin):
    """Named `iceberg` in the profile, and so by the materialization."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:  # noqa: ARG002 the profile says nothing more
        """Reads the workspace. Raises `NoWorkspaceError` if dbt was not started by the platform."""
        target = Path(get_flags().TARGET_PATH)  # type: ignore[no-untyped-call]
        self._workspace, self._settings = Workspace.read(target.parent)

    def configure_connection(self, conn: DuckDBPyConnection) -> None:
        """What the models read: silver as it was audited, gold as it is, and the order dates being rebuilt."""
        self._connection = conn
        lay_out(conn, self._settings, self._workspace)

    def configure_cursor(self, cursor: DuckDBPyConnection) -> None:
        """A timestamp's date is a day of the business; DuckDB keeps the zone per session."""
        use_business_days(cursor, self._settings)

    def store(self, target_config: TargetConfig) -> None:
        """Called by the materialization with the relation that holds the model's rows."""
        with self._connection.cursor() as con:
            self.configure_cursor(con)
            model = target_config.config.model.name
            store_model(con, self._settings, self._workspace, model, str(target_config.relation))
