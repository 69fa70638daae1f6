"""One change of a table's columns, all or nothing, and only on the schema that was read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyiceberg.table import Table
from pyiceberg.table.update.schema import UpdateSchema
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from orders_platform.fault_points import SituationPoint
from orders_platform.lake.commits import CommitFaults, ConflictError, send

_FAULTS = CommitFaults(
    SituationPoint.SCHEMA_BEFORE_COMMIT, SituationPoint.SCHEMA_COMMIT_UNANSWERED, SituationPoint.SCHEMA_AFTER_COMMIT
)

retried_if_refused = retry(
    # Somebody else changed the schema first: what is to be done is worked out again.
    retry=retry_if_exception_type(ConflictError),
    wait=wait_random_exponential(multiplier=0.1, max=2),
    stop=stop_after_attempt(5),
    reraise=True,
)


@contextmanager
def changed_schema(table: Table) -> Iterator[UpdateSchema]:
    """Commits, at the end of the block, what the block asks for; `table` is then what came of it.

    Raises:
        ConflictError: somebody else changed the schema first. `table` has been read anew, nothing of ours is in it.
        CommitUnknownError: no answer. Reload, and look what is in the schema.
    """
    update = table.update_schema()
    yield update
    updates, requirements = update._commit()
    if not updates:
        return
    try:
        send(table, updates, requirements, _FAULTS)
    except ConflictError:
        table.refresh()
        raise
