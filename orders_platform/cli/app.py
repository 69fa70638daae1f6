"""What all commands share: the application, errors as sentences, progress, JSON."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from orders_platform.errors import PlatformError
from orders_platform.settings import SettingsError

P = ParamSpec("P")
R = TypeVar("R")

OK, WRONG, USAGE, NOT_COMPARED, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_CODES = (
    "Exit codes: 0 done, healthy, caught up, equal; 1 something is not; 2 wrong usage or settings; "
    "3 `reconcile` could not compare; 130 interrupted.\n\n"
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


def is_known(error: Exception) -> bool:
    """Whether its message is written for the person who typed the command: no traceback for them."""
    if isinstance(error, PlatformError):
        return True
    from orders_platform.defs.assets.dbt_manifest import ManifestError
    from orders_platform.defs.resources.dbt import DbtBuildError
    from orders_platform.defs.resources.passing_errors import may_pass
    from orders_platform.defs.sync import SyncError

    return isinstance(error, ManifestError | DbtBuildError | SyncError) or may_pass(error)


def explained(command: Callable[P, R]) -> Callable[P, R]:
    """Turns errors into a sentence and an exit code."""
    return explained_with(WRONG)(command)


def explained_with(failed: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """As `explained`, with the exit code of a command that could not do its work."""

    def decorate(command: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(command)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return command(*args, **kwargs)
            except SettingsError as error:
                _print_error(str(error))
                raise typer.Exit(USAGE) from None
            except KeyboardInterrupt:
                err.print("interrupted")
                raise typer.Exit(INTERRUPTED) from None
            except Exception as error:
                if not is_known(error):
                    raise
                _print_error(sentence(error))
                raise typer.Exit(failed) from None

        return run

    return decorate


def sentence(error: Exception) -> str:
    """A known error for the person who typed the command; what a library says of an outage lacks what to do then."""
    if isinstance(error, PlatformError):
        return str(error)
    from orders_platform.defs.resources.passing_errors import may_pass

    remedy = "; nothing is lost, give the same command again when that answers" if may_pass(error) else ""
    return f"{error}{remedy}"


def _print_error(text: str) -> None:
    err.print("[red]error:[/]", end=" ")
    err.print(text, markup=False, highlight=False)


@contextmanager
def document_of_failure(as_json: bool, document: Mapping[str, Any]) -> Iterator[None]:
    """Programs that read `--json` get one document in any case: when a known error ends it, this and the reasons."""
    try:
        yield
    except Exception as error:
        if as_json and is_known(error):
            print_json({**document, "failures": [sentence(error)]})
        raise


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
