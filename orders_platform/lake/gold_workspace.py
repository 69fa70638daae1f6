"""The folder of one dbt invocation: what it reads, which dates it rebuilds, and what it has written to the branch.

The process that runs dbt and the one that plans and publishes share nothing else. dbt's profile never changes, so that
its saved parse stays valid; the plugin finds its workspace by dbt's target path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from orders_platform.errors import PlatformError
from orders_platform.lake.gold_mark import GoldMark
from orders_platform.lake.gold_models import PROJECT
from orders_platform.settings import Settings

PLAN_FILE = "workspace.json"


class NoWorkspaceError(PlatformError):
    """dbt was started without the workspace that says what to build."""


@dataclass(frozen=True)
class TableTask:
    """What a model's Iceberg table gets: forked from `forked_at` (None: the table is empty), with `mark` in its commit.

    `built_from` is the gold table whose snapshot goes into the mark, when it is known.
    """

    model: str
    identifier: str
    forked_at: int | None
    mark: GoldMark
    sort_by: tuple[str, ...]
    built_from: str | None


@dataclass(frozen=True)
class Stored:
    """What a model's commit on the branch holds: rows and bytes of the replaced dates (dates without rows included)."""

    model: str
    identifier: str
    snapshot_id: int
    rows: Mapping[date, int]
    bytes: int


@dataclass(frozen=True)
class Workspace:
    """One dbt invocation. `views`: `schema.name` to the SELECT behind it."""

    folder: Path
    branch: str
    dates: tuple[date, ...]
    tasks: tuple[TableTask, ...]
    views: Mapping[str, str]

    @property
    def target(self) -> Path:
        """dbt's target path: artefacts, saved parse, and its log."""
        return self.folder / "target"

    @property
    def dbt_arguments(self) -> tuple[str, ...]:
        """What follows `dbt build`."""
        return (
            "--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT),
            "--target-path", str(self.target), "--log-path", str(self.target),
        )  # fmt: skip

    def task(self, model: str) -> TableTask:
        """The task of a model. Raises `KeyError`."""
        for task in self.tasks:
            if task.model == model:
                return task
        raise KeyError(f"{model} is not a model of this run")

    def write(self, settings: Settings) -> None:
        """Makes the folder and writes the plan into it; only its owner may read it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.target.mkdir(exist_ok=True)
        document = {
            "settings": settings.model_dump(mode="json", include=_ENGINE_SETTINGS),
            "branch": self.branch,
            "dates": [day.isoformat() for day in self.dates],
            "tasks": [{**asdict(task), "mark": task.mark.to_json()} for task in self.tasks],
            "views": dict(self.views),
        }
        (self.folder / PLAN_FILE).write_text(json.dumps(document, indent=1), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> tuple[Workspace, Settings]:
        """The workspace of a folder, and the settings of engine and catalog, whose secrets are the environment's.

        Raises:
            NoWorkspaceError: dbt was not started by the platform.
        """
        file = folder / PLAN_FILE
        if not file.exists():
            raise NoWorkspaceError(
                f"{file} is missing: dbt builds gold only in a workspace that the platform has laid out; run "
                "`orders-platform sync`, or materialize the gold assets"
            )
        document = json.loads(file.read_text(encoding="utf-8"))
        tasks = tuple(
            TableTask(**{**task, "mark": GoldMark.from_json(task["mark"]), "sort_by": tuple(task["sort_by"])})
            for task in document["tasks"]
        )
        dates = tuple(date.fromisoformat(day) for day in document["dates"])
        return cls(folder, document["branch"], dates, tasks, document["views"]), _settings(document["settings"])

    def record(self, stored: Stored) -> None:
        """Says what a model's commit holds, for those who publish it."""
        document = {**asdict(stored), "rows": {day.isoformat(): rows for day, rows in stored.rows.items()}}
        (self.folder / f"{stored.model}.stored.json").write_text(json.dumps(document), encoding="utf-8")

    def stored(self, model: str) -> Stored | None:
        """What dbt has written for a model; None if it did not get that far, or the model was not selected."""
        file = self.folder / f"{model}.stored.json"
        if not file.exists():
            return None
        document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return Stored(**{**document, "rows": {date.fromisoformat(day): n for day, n in document["rows"].items()}})


_ENGINE_SETTINGS = {"env", "home", "memory_limit", "threads", "business_time_zone"}


def _settings(values: Mapping[str, Any]) -> Settings:
    """They were validated by the process that wrote them; what they leave out is no business of dbt's."""
    return Settings.model_construct(**{**values, "home": Path(values["home"])})
