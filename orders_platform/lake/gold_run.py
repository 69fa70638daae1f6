"""One build of gold: plan, dbt, audit, publish, and again on the new head if somebody else published meanwhile.

Where dbt's tests refuse some of the dates, the others are built and published without them.
Dagster and everything else come through here; they differ only in how dbt is started.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pyiceberg.catalog import Catalog

from orders_platform.errors import PlatformError
from orders_platform.lake.commits import CommitUnknownError, ConflictError
from orders_platform.lake.gold import GoldPlan, discard, note, plan, prepare, publish
from orders_platform.lake.gold_models import MANIFEST
from orders_platform.lake.gold_refused import failed_nodes, refused_dates
from orders_platform.lake.gold_workspace import Stored, Workspace
from orders_platform.settings import Settings

ATTEMPTS = 3
DATES_PER_BUILD = 31
"""More stale dates than this wait, as pending, for the next build: one build's rows stay within memory and folder."""


class GoldAuditError(PlatformError):
    """dbt failed, or one of its tests did; nothing was published of this build. `failures` names them."""

    def __init__(self, failures: Collection[str], folder: Path) -> None:
        self.failures = tuple(failures)
        super().__init__(
            f"gold was not published, readers see what they saw before: {'; '.join(failures)} (dbt ran in {folder})"
        )


class DatesRefusedError(PlatformError):
    """Tests refused some of the order dates, which readers see as they were, and which stay pending.

    Args:
        refused: the dates by dbt's id of each test that refused any.
        result: what was published of the other dates; null if none was left.
    """

    def __init__(self, refused: Mapping[str, frozenset[date]], result: GoldResult | None) -> None:
        self.refused, self.result = refused, result
        self.dates = tuple(sorted(frozenset[date]().union(*refused.values())))
        tests = {day: [test.split(".")[2] for test in sorted(refused) if day in refused[test]] for day in self.dates}
        named = "; ".join(f"{day} by {', '.join(by)}" for day, by in tests.items())
        others = len(result.dates) if result else 0
        super().__init__(
            f"gold was not published for {len(self.dates)} of {len(self.dates) + others} order dates, and of these "
            f"readers see what they saw before: {named}. They stay pending: repair the cause, materialize them again"
        )


@dataclass(frozen=True)
class GoldResult:
    """What a build published. `left`: the dates that were stale too, when it was planned, and still are."""

    dates: tuple[date, ...]
    published: tuple[Stored, ...]
    left: tuple[date, ...]
    attempts: int

    @property
    def rows(self) -> Mapping[str, Mapping[date, int]]:
        """Rows of each rebuilt date, by model."""
        return {stored.model: stored.rows for stored in self.published}


def build_gold(
    settings: Settings,
    catalog: Catalog,
    dates: Collection[date] | None = None,
    *,
    by_hand: bool = False,
    run_dbt: Callable[[Workspace], None] | None = None,
) -> GoldResult:
    """Rebuilds order dates: the given ones, or the newest that are stale (at most `DATES_PER_BUILD`).

    `run_dbt` runs `dbt build` in the workspace and raises if a model or a test fails. `by_hand`: somebody chose the
    dates; other dates stay as stale as they were.

    Raises:
        DatesRefusedError: tests refused some of the dates; the others are published.
        GoldAuditError: by the default `run_dbt`, where no date can be blamed; nothing is published.
        ConflictError: others published `ATTEMPTS` times in a row while this one built.
    """
    refused: dict[str, frozenset[date]] = {}
    while True:
        try:
            result = _build(settings, catalog, dates, by_hand, run_dbt or run_dbt_cli)
        except _RefusedError as error:
            for test, days in error.refused.items():
                refused[test] = refused.get(test, frozenset()) | days
            dates = error.good
            if not dates:
                raise DatesRefusedError(refused, None) from None
        else:
            if refused:
                raise DatesRefusedError(refused, result)
            return result


class _RefusedError(PlatformError):
    """Nothing was published: the dates that tests have refused, by test, and the other dates of the build."""

    def __init__(self, refused: Mapping[str, frozenset[date]], built: Collection[date]) -> None:
        self.refused = refused
        self.good = tuple(day for day in built if not any(day in days for days in refused.values()))
        super().__init__(str(refused))


def _build(
    settings: Settings,
    catalog: Catalog,
    dates: Collection[date] | None,
    by_hand: bool,
    run_dbt: Callable[[Workspace], None],
) -> GoldResult:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _build_once(settings, catalog, dates, by_hand, run_dbt, attempt)
        except ConflictError:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("every attempt returns or raises")


def _build_once(
    settings: Settings,
    catalog: Catalog,
    dates: Collection[date] | None,
    by_hand: bool,
    run_dbt: Callable[[Workspace], None],
    attempt: int,
) -> GoldResult:
    planned = plan(settings, catalog)
    chosen = _chosen(planned, dates)
    if not chosen:
        if planned.behind_only_by_mark:
            note(catalog, planned)
        return GoldResult((), (), (), attempt)
    with tempfile.TemporaryDirectory(prefix="orders-platform-gold-") as folder:
        workspace = prepare(settings, catalog, planned, chosen, Path(folder) / "run", by_hand=by_hand)
        _reuse_parse(workspace)
        try:
            run_dbt(workspace)
            published = publish(catalog, workspace)
        except ConflictError:
            raise
        except Exception as error:
            refused = refused_dates(settings, catalog, workspace)
            if planned.has_news and not by_hand:
                with suppress(ConflictError, CommitUnknownError):  # what dbt said matters more; the next build notes
                    note(catalog, planned)
            if refused:
                raise _RefusedError(refused, chosen) from error
            raise
        finally:
            discard(catalog, workspace)
    left = tuple(day for day in planned.stale_dates if day not in chosen)
    return GoldResult(chosen, published, left, attempt)


def run_dbt_cli(workspace: Workspace) -> None:
    """`dbt build` in a process of its own. Raises `GoldAuditError` with what failed."""
    command = [sys.executable, "-m", "dbt.cli.main", "--quiet", "build", *workspace.dbt_arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        failed = [f"{node.name}: {node.message}" for node in failed_nodes(workspace)]
        raise GoldAuditError(failed or [done.stdout.strip() or done.stderr.strip()], workspace.folder)


def _chosen(planned: GoldPlan, dates: Collection[date] | None) -> tuple[date, ...]:
    if dates is not None:
        return tuple(sorted(set(dates)))
    return planned.stale_dates[-DATES_PER_BUILD:]


def _reuse_parse(workspace: Workspace) -> None:
    """Saves dbt the parsing of the whole project: what it parsed when the manifest was made is still true."""
    saved = MANIFEST.parent / "partial_parse.msgpack"
    if saved.exists():
        shutil.copy(saved, workspace.target / saved.name)
