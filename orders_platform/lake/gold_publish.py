"""Write, audit, publish: a gold commit goes to a branch first, and main is moved to it by fast-forward alone.

Main's head must still be the snapshot from which the branch was forked, which is asserted in the commit that moves it.
Setting main to a branch that was forked earlier would drop the rows that others have published since.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import is_ancestor_of
from pyiceberg.table.update import RemoveSnapshotRefUpdate, TableUpdate

from orders_platform.fault_points import FaultPoint, SituationPoint
from orders_platform.lake.commits import CommitFaults, CommitUnknownError, ConflictError, ref_is, send, set_ref

_PREFIX = "gold-"
_STAMP = "%Y%m%dT%H%M%SZ"
ABANDONED_AFTER = timedelta(hours=6)
"""A branch that old has no run any more; a run that still lives finds its branch gone, and rebuilds."""
_PUBLISHING = CommitFaults(
    FaultPoint.GOLD_BEFORE_PUBLISH, FaultPoint.GOLD_PUBLISH_UNANSWERED, FaultPoint.GOLD_AFTER_PUBLISH
)
_DROPPING = CommitFaults(
    SituationPoint.BRANCH_BEFORE_DROP, SituationPoint.BRANCH_DROP_UNANSWERED, SituationPoint.BRANCH_AFTER_DROP
)


def new_branch_name(now: datetime | None = None) -> str:
    """A branch name of its own, which says when it was made (UTC)."""
    return f"{_PREFIX}{(now or datetime.now(UTC)).strftime(_STAMP)}-{uuid.uuid4().hex[:8]}"


def made_at(branch: str) -> datetime | None:
    """When a branch of ours was made (UTC); None for any other ref."""
    if not branch.startswith(_PREFIX):
        return None
    try:
        return datetime.strptime(branch.removeprefix(_PREFIX).partition("-")[0], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None


def main_head(table: Table) -> int | None:
    """Main's snapshot, None while the table has none."""
    ref = table.metadata.refs.get(MAIN_BRANCH)
    return ref.snapshot_id if ref else None


def fast_forward(table: Table, branch: str, *, forked_at: int | None, to: int) -> None:
    """Makes `to`, the branch's head, main's, and removes the branch, in one commit.

    After an answer that was lost, whether it was published is read from the table.

    Raises:
        ConflictError: main has moved since the fork; nothing is published, the dates must be rebuilt on its new head.
        CommitUnknownError: no answer, and main has not moved (so far).
    """
    updates = (set_ref(MAIN_BRANCH, to, SnapshotRefType.BRANCH), _removal(branch))
    try:
        send(table, updates, (ref_is(MAIN_BRANCH, forked_at), ref_is(branch, to)), _PUBLISHING)
    except ConflictError as error:
        table.refresh()
        if not is_published(table, to):
            raise ConflictError(
                f"{'.'.join(table.name())}: main is at {main_head(table)}, not at {forked_at} from which {branch} was "
                f"forked ({error}); nothing was published, its order dates are rebuilt on the new head"
            ) from error
    except CommitUnknownError:
        table.refresh()
        if not is_published(table, to):
            raise


def is_published(table: Table, snapshot_id: int) -> bool:
    """Whether main's head is that snapshot or came after it."""
    head = main_head(table)
    return head is not None and is_ancestor_of(head, snapshot_id, table.metadata)


def drop_branch(catalog: Catalog, identifier: str, branch: str) -> None:
    """Removes the branch, if it is there; its files are orphans then, and go by age.

    Raises `ConflictError`, if somebody else moved or removed it just now, and `CommitUnknownError`.
    """
    try:
        table = catalog.load_table(identifier)
    except NoSuchTableError:
        return
    if ref := table.metadata.refs.get(branch):
        send(table, (_removal(branch),), (ref_is(branch, ref.snapshot_id),), _DROPPING)


def drop_abandoned_branches(catalog: Catalog, identifier: str, now: datetime | None = None) -> tuple[str, ...]:
    """Removes the branches that killed runs have left behind. Returns their names."""
    try:
        table = catalog.load_table(identifier)
    except NoSuchTableError:
        return ()
    oldest = (now or datetime.now(UTC)) - ABANDONED_AFTER
    left = tuple(name for name in table.metadata.refs if (at := made_at(name)) is not None and at < oldest)
    for name in left:
        drop_branch(catalog, identifier, name)
    return left


def _removal(branch: str) -> TableUpdate:
    return RemoveSnapshotRefUpdate.model_validate({"ref-name": branch})
