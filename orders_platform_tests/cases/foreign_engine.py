"""Another engine on our tables: PyIceberg's own writer, which copies rows into new files and knows nothing of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, ValidationException
from pyiceberg.table import Table

REFUSED = (CommitFailedException, ValidationException)


def compact(table: Table, between: Callable[[], object] = lambda: None) -> None:
    """Writes all rows of the table as it is known here into new files; `between` happens after it has read them.

    Raises:
        CommitFailedException, ValidationException: somebody committed since the table was loaded.
    """
    content = table.scan().to_arrow()
    between()
    if content.num_rows:
        table.overwrite(content)


@dataclass
class Compactions:
    """How many were made, and how many were refused."""

    made: int = 0
    refused: int = 0
    errors: list[Exception] = field(default_factory=list)


@contextmanager
def compacting(catalog: Catalog, identifier: str) -> Iterator[Compactions]:
    """Compacts the table again and again, in a thread, until the block ends."""
    stop, counted = Event(), Compactions()

    def work() -> None:
        while not stop.wait(0.1):
            try:
                compact(catalog.load_table(identifier))
                counted.made += 1
            except REFUSED:
                counted.refused += 1
            except NoSuchTableError:
                continue
            except Exception as error:  # noqa: BLE001 raised again below
                counted.errors.append(error)
                return

    thread = Thread(target=work)
    thread.start()
    try:
        yield counted
    finally:
        stop.set()
        thread.join()
    if counted.errors:
        raise counted.errors[0]
