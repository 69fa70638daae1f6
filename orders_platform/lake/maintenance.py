"""Old snapshots go while the table is being written, so that its metadata stay as small as at the first commit."""

from __future__ import annotations

from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import ancestors_of
from pyiceberg.table.update import RemoveSnapshotsUpdate

from orders_platform.fault_points import SituationPoint
from orders_platform.lake.commits import CommitFaults, CommitUnknownError, ConflictError, ref_is, send

COMMITS_BETWEEN_EXPIRIES = 50
SNAPSHOTS_KEPT = 100
"""Ancestors of main's head that stay, beside every branch's and tag's head."""
_FAULTS = CommitFaults(
    SituationPoint.EXPIRY_BEFORE_COMMIT, SituationPoint.EXPIRY_COMMIT_UNANSWERED, SituationPoint.EXPIRY_AFTER_COMMIT
)


def expire_if_due(table: Table) -> int:
    """Expires old snapshots at every 50th commit of the table; says how many.

    Only metadata are removed. That another writer was quicker is no failure: it is due again 50 commits later.
    """
    current = table.current_snapshot()
    if current is None or (current.sequence_number or 0) % COMMITS_BETWEEN_EXPIRIES:
        return 0
    try:
        return expire(table)
    except (ConflictError, CommitUnknownError):
        table.refresh()
        return 0


def expire(table: Table, keep: int = SNAPSHOTS_KEPT) -> int:
    """Removes the snapshots that are neither a branch's or tag's head nor among the last `keep` of main; says how many.

    Raises:
        ConflictError: if main moved meanwhile, since its head's ancestors are then others. Nothing was removed.
    """
    metadata = table.metadata
    current = table.current_snapshot()
    recent = [snapshot.snapshot_id for snapshot, _ in zip(ancestors_of(current, metadata), range(keep), strict=False)]
    kept = {*recent, *(ref.snapshot_id for ref in metadata.refs.values())}
    old = [snapshot.snapshot_id for snapshot in metadata.snapshots if snapshot.snapshot_id not in kept]
    if old:
        update = RemoveSnapshotsUpdate.model_validate({"snapshot-ids": old})
        send(table, (update,), (ref_is(MAIN_BRANCH, current.snapshot_id if current else None),), _FAULTS)
    return len(old)
