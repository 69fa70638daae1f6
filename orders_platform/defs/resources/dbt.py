"""dbt through dagster-dbt, imported when the first model is built."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orders_platform.defs.resources.passing_errors import store_is_away

if TYPE_CHECKING:
    from dagster_dbt import DbtCliResource

    from orders_platform.lake.gold_workspace import Workspace

PASSED = frozenset({"success", "pass"})


class DbtBuildError(Exception):
    """dbt could not build a model, or one of its tests failed; the message says which."""


class DbtCutOffError(DbtBuildError):
    """dbt could not read or write the object store, which did not answer; the next attempt may."""


@dataclass(frozen=True)
class NodeResult:
    """What dbt says of one model or test: `failures` is the number of rows that a test refused."""

    unique_id: str
    status: str
    message: str
    seconds: float
    failures: int

    @property
    def passed(self) -> bool:
        return self.status in PASSED


class DbtBuild:
    """Runs dbt in a workspace; keeps what it said last, and what failed in any run. One at a time and object."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self.results: Mapping[str, NodeResult] = {}
        self.failed: dict[str, NodeResult] = {}

    def __call__(self, workspace: Workspace) -> None:
        """Builds and tests all models of the workspace.

        Raises:
            DbtBuildError: naming the models and tests that failed; `DbtCutOffError` if the object store was away.
        """
        resource = _installed_dbt()(
            project_dir=_argument(workspace, "--project-dir"),
            profiles_dir=_argument(workspace, "--profiles-dir"),
            dbt_executable=Path(sys.executable).with_name("dbt"),
        )
        invocation = resource.cli(
            ["build", *workspace.dbt_arguments], target_path=workspace.target, raise_on_error=False
        )
        with redirect_stdout(io.StringIO()):  # the step's log has each line; who calls us may own the terminal
            said = [str(event) for event in invocation.stream_raw_events()]
        self._log("\n".join(said))
        self.results = _results(invocation.get_artifact) if invocation.process.returncode in (0, 1) else {}
        bad = [each for each in self.results.values() if not each.passed and each.status not in ("skipped", "warn")]
        self.failed |= {each.unique_id: each for each in bad}
        if bad:
            raise _failure("; ".join(f"{each.unique_id}: {each.status}: {each.message}" for each in bad))
        if invocation.process.returncode != 0:
            raise _failure(
                f"dbt ended with {invocation.process.returncode} before it built anything: {' | '.join(said[-5:])}"
            )


def _failure(said: str) -> DbtBuildError:
    return DbtCutOffError(said) if store_is_away(said) else DbtBuildError(said)


def _argument(workspace: Workspace, name: str) -> str:
    return workspace.dbt_arguments[workspace.dbt_arguments.index(name) + 1]


def _results(get_artifact: Callable[[Any], Mapping[str, Any]]) -> dict[str, NodeResult]:
    try:
        document = get_artifact("run_results.json")
    except FileNotFoundError:
        return {}
    return {
        each["unique_id"]: NodeResult(
            each["unique_id"],
            each["status"],
            each["message"] or "",
            each["execution_time"],
            each["failures"] or 0,
        )
        for each in document["results"]
    }


def _installed_dbt() -> type[DbtCliResource]:
    """dagster-dbt's resource without two of its detours.

    It asks `dbt --version` first, which takes three seconds and asks the package registry for newer versions; and it
    opens a second handle to dbt's database for metadata, which is of no use here: the database is in dbt's memory.
    """
    from dagster_dbt import DbtCliResource
    from packaging.version import Version

    class InstalledDbt(DbtCliResource):
        @property
        def _cli_version(self) -> Version:
            return Version(version("dbt-core"))

        def _initialize_dbt_core_adapter(self, args: Any) -> Any:  # noqa: ARG002 dagster-dbt's signature
            return None

    return InstalledDbt
