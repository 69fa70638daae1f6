"""What all commands share: the application, errors as sentences, progress, JSON."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from orders_platform.settings import SettingsError

P = ParamSpec("P")
R = TypeVar("R")

OK, WRONG, USAGE, INTERRUPTED = 0, 1, 2, 130
EXIT_CODES = (
    "Exit codes: 0 done, healthy, caught up, equal; 1 something is not; 2 wrong usage or settings; 130 interrupted.\n\n"
    "Settings are environment variables ORDERS_PLATFORM_… (or a .env file); `doctor` names what is wrong."
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]

out = Console()
err = Console(stderr=True)


def group(help_text: str) -> typer.Typer:
    return typer.Typer(
        help=help_text, epilog=EXIT_CODES, no_args_is_help=True, rich_markup_mode="markdown", add_completion=False
    )


app = group(
    "Carries a shop's changes from PostgreSQL to its dashboards, exactly once.\n\n"
    "First time? `orders-platform demo` shows all of it. For a stack to play with: `up`, then `shop --minutes 1`, "
    "`sync`, `reconcile`, and at the end `down`."
)
dead_letters = group("Records that could not be decoded, with their reason and raw bytes.")
ledger = group("What is loaded: the offsets that each bronze table holds.")
gaps = group("Records that are gone before they were loaded, and what was decided about them.")
drift = group("Tables that the shop has altered, and what was decided about them.")
app.add_typer(drift, name="drift", rich_help_panel="What is loaded and what is not")
app.add_typer(dead_letters, name="dead-letters", rich_help_panel="What is loaded and what is not")
app.add_typer(ledger, name="ledger", rich_help_panel="What is loaded and what is not")
app.add_typer(gaps, name="gaps", rich_help_panel="What is loaded and what is not")


def _known_errors() -> tuple[type[Exception], ...]:
    """Errors whose message is written for the person who typed the command: no traceback for them."""
    from orders_platform.contracts import ContractError
    from orders_platform.defs.assets.dbt_manifest import ManifestError
    from orders_platform.defs.demo import DemoError
    from orders_platform.defs.resources.passing_errors import may_pass
    from orders_platform.defs.sync import SyncError
    from orders_platform.ingest.errors import IngestError
    from orders_platform.quality.reconcile import ReconcileError
    from orders_platform.stack import StackError

    error = sys.exception()
    passing = (type(error),) if isinstance(error, Exception) and may_pass(error) else ()
    own = (ManifestError, SyncError, DemoError)
    return (*own, ContractError, IngestError, ReconcileError, StackError, *passing)


def explained(command: Callable[P, R]) -> Callable[P, R]:
    """Turns errors into a sentence and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except SettingsError as error:
            err.print(f"[red]error:[/] {error}", highlight=False)
            raise typer.Exit(USAGE) from None
        except KeyboardInterrupt:
            err.print("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if not isinstance(error, _known_errors()):
                raise
            err.print("[red]error:[/]", end=" ")
            err.print(str(error), markup=False, highlight=False)
            raise typer.Exit(WRONG) from None

    return run


@contextmanager
def steps(quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """A line that says what is going on and for how long; each step stays on the screen when the next one begins."""
    if quiet:
        yield lambda _: None
        return
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=err) as progress:
        tasks: list[Any] = []

        def step(text: str) -> None:
            if tasks:
                progress.update(tasks[-1], total=1, completed=1)
            tasks.append(progress.add_task(text.replace("[", r"\["), total=None))

        yield step
        if tasks:
            progress.update(tasks[-1], total=1, completed=1)


def print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2, default=str))
