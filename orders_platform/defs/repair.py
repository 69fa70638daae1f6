"""Makes a table equal to PostgreSQL again after records were lost: read anew, load, take out what is gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orders_platform.contracts import Contract
from orders_platform.defs.resources.platform import Platform
from orders_platform.defs.sync import load
from orders_platform.settings import Settings


@dataclass(frozen=True)
class RepairReport:
    """What a repair did: rows that PostgreSQL sent, rows of silver that they did not touch, and those removed of them.

    `left` are rows whose last change PostgreSQL may not have shown yet: repeat the repair if it is not 0.
    """

    table: str
    rows_sent: int
    rows_unseen: int
    rows_removed: int
    left: int


def repair(
    settings: Settings, contract: Contract, by: str, report: Callable[[str], None], seconds: float = 600.0
) -> RepairReport:
    """Repairs a table of a running stack; may be repeated, and stopped at any time.

    Args:
        by: who asked for it; recorded with the rows that are removed.
        seconds: the longest wait for a sign of progress of the snapshot.

    Raises:
        StackError: the snapshot does not end, or Debezium does not deliver.
        GapError, SyncError: the table cannot be loaded.
    """
    from orders_platform.ingest.vanished import remove_vanished
    from orders_platform.lake.commits import next_sequence_number
    from orders_platform.lake.silver import ensure_silver
    from orders_platform.stack import wait_until_captured
    from orders_platform.stack.incremental_snapshot import read_anew

    platform = Platform(settings)
    report("loading what there is")
    load(settings, (contract.table,), report)
    before = next_sequence_number(ensure_silver(platform.catalog, contract)) - 1
    sent = read_anew(settings, contract, report, seconds)
    report("loading what PostgreSQL has sent")
    wait_until_captured(settings, contracts=[contract])
    load(settings, (contract.table,), report)
    report("looking up in PostgreSQL what it did not send")
    found = remove_vanished(settings, platform.catalog, contract, before, by)
    if found.removed:
        report(f"removing {found.removed} rows")
        load(settings, (contract.table,), report)
    return RepairReport(contract.table, sent, found.asked, found.removed, found.left)
