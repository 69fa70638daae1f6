"""Bronze's changes into silver: the present state of each key, last writer wins, in whatever order changes are applied.

Silver is a function of the set of changes in bronze: merging any of them again, or a past day after a later one, ends
in the same rows. What has been applied is recorded in silver's own commit, as bronze's snapshot, and only spares work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from orders_platform.contracts import Contract
from orders_platform.fault_points import FaultPoint
from orders_platform.lake.catalog import ensure_table
from orders_platform.lake.commits import (
    PROPERTY_PREFIX,
    CommitFaults,
    CommitUnknownError,
    ConflictError,
    commit,
    head,
    next_sequence_number,
    own_properties,
    total_rows,
)
from orders_platform.lake.duckdb_engine import connect_alone, live_files
from orders_platform.lake.evolved import in_silver, settle
from orders_platform.lake.incoming import open_incoming
from orders_platform.lake.increments import increment
from orders_platform.lake.maintenance import expire_if_due
from orders_platform.lake.merge import MergeSpec, rewrite
from orders_platform.lake.positions import format_positions, parse_positions
from orders_platform.lake.schemas import silver_schema
from orders_platform.lake.silver_rows import CHANGED, SilverState, make_changed
from orders_platform.lake.versions import merge_versions
from orders_platform.settings import Settings

BRONZE_SNAPSHOT = f"{PROPERTY_PREFIX}bronze-snapshot"
"""Summary property: bronze's snapshot of which all changes have been applied."""
REMOVED_BELOW = f"{PROPERTY_PREFIX}removed-below"
"""Summary property: position of the highest TRUNCATE or complete initial snapshot, as a JSON list of one."""
WATERMARK = f"{PROPERTY_PREFIX}watermark"
"""Summary property: when the newest change was committed in the shop, ISO 8601."""
HAS_TOAST = f"{PROPERTY_PREFIX}has-toast"
"""Summary property: rows with a value older than themselves have been written."""

FAULTS = CommitFaults(
    FaultPoint.SILVER_BEFORE_COMMIT, FaultPoint.SILVER_COMMIT_UNANSWERED, FaultPoint.SILVER_AFTER_COMMIT
)
_ATTEMPTS = 5


@dataclass(frozen=True)
class SilverResult:
    """What one merge did. `snapshot_id` is null when there was nothing that silver had not applied.

    Args:
        rows_by_day: rows that changed, by the ingest day of their last change.
        held: rows that changed and wait for a value that did not travel.
        removals: TRUNCATEs and complete initial snapshots among the changes.
        bytes_rewritten: size of the files written.
        bronze_snapshot: bronze's snapshot that silver now holds.
        watermark: when the newest change in silver was committed in the shop.
        rows_in_table: rows of silver afterwards, deleted ones among them, as its summary says.
    """

    snapshot_id: int | None
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    held: int = 0
    removals: int = 0
    rows_by_day: dict[date, int] = field(default_factory=dict)
    files_rewritten: int = 0
    bytes_rewritten: int = 0
    bronze_snapshot: int | None = None
    watermark: datetime | None = None
    rows_in_table: int = 0

    @property
    def rows_changed(self) -> int:
        return self.inserted + self.updated + self.deleted


def silver_spec(contract: Contract) -> MergeSpec:
    """How a table's changes meet its present state."""
    return MergeSpec(keys=contract.key)


def ensure_silver(catalog: Catalog, contract: Contract) -> Table:
    """Silver's table of a contract (`evolved.in_silver`)."""
    return ensure_table(
        catalog,
        contract.silver_table,
        silver_schema(contract),
        sort=contract.key,
        bounds=(*contract.key, "_seq"),
        prepare=lambda table: settle(table, contract, masked=True),
    )


def merged_bronze(silver: Table, snapshot_id: int | None) -> int | None:
    """Bronze's snapshot of which a snapshot of silver holds all changes; null for none."""
    known = own_properties(silver, snapshot_id)
    return int(known[BRONZE_SNAPSHOT]) if BRONZE_SNAPSHOT in known else None


def merge_silver(settings: Settings, catalog: Catalog, contract: Contract) -> SilverResult:
    """Applies everything in bronze that silver, and the table of versions, do not have yet.

    Raises:
        ConflictError, CommitUnknownError: others kept committing first, or the catalog kept silent; what was applied
            meanwhile stands, and the next merge does the rest.
        duckdb.Error: if the disk is full, for instance. Nothing was committed; the next merge does it all.
    """
    try:
        return _merge(settings, catalog, contract)
    except (ConflictError, CommitUnknownError) as error:
        raise type(error)(
            f"{contract.silver_table}: {_ATTEMPTS} attempts to merge did not succeed, the last with: {error}. "
            f"Nothing is lost; the next merge applies the same changes"
        ) from error


@retry(
    # Another writer was quicker, or the answer was lost: plan again from what the table now says.
    retry=retry_if_exception_type((ConflictError, CommitUnknownError)),
    wait=wait_random_exponential(multiplier=0.2, max=5),
    stop=stop_after_attempt(_ATTEMPTS),
    reraise=True,
)
def _merge(settings: Settings, catalog: Catalog, contract: Contract) -> SilverResult:
    try:
        bronze = catalog.load_table(contract.bronze_table)
    except NoSuchTableError:
        return SilverResult(None)
    contract = in_silver(contract, bronze.schema())
    if contract.versions_table:
        merge_versions(settings, catalog, contract, bronze)
    silver = ensure_silver(catalog, contract)
    base = head(silver)
    known = own_properties(silver, base)
    applied = merged_bronze(silver, base)
    found = increment(bronze, applied)
    watermark = datetime.fromisoformat(known[WATERMARK]) if WATERMARK in known else None
    if found.snapshot_id == applied:
        return SilverResult(None, bronze_snapshot=applied, watermark=watermark, rows_in_table=total_rows(silver))
    with connect_alone(settings) as connection:
        state = SilverState(
            contract=contract,
            masking_key=settings.masking_key,
            spec=silver_spec(contract),
            bronze=bronze,
            silver=silver,
            files=live_files(silver, base),
            facts=open_incoming(connection, bronze, found),
            removed_below=max(parse_positions(known.get(REMOVED_BELOW)), default=None),
            has_toast=known.get(HAS_TOAST) == "true",
        )
        changed = make_changed(connection, state, next_sequence_number(silver))
        rewritten = rewrite(connection, silver, state.files, CHANGED, state.spec, settings.threads)
    newest = max((time for time in (watermark, state.facts.watermark) if time), default=None)
    summary = {
        BRONZE_SNAPSHOT: str(found.snapshot_id),
        HAS_TOAST: str(state.has_toast or changed.has_toast).lower(),
        **({REMOVED_BELOW: format_positions({state.removed_below_after})} if state.removed_below_after else {}),
        **({WATERMARK: newest.isoformat()} if newest else {}),
    }
    snapshot = commit(
        silver, expected=base, add=rewritten.added, remove=rewritten.removed, summary=summary, faults=FAULTS
    )
    expire_if_due(silver)
    return SilverResult(
        snapshot_id=snapshot,
        inserted=changed.inserted,
        updated=changed.updated,
        deleted=changed.deleted,
        held=changed.held,
        removals=len(state.facts.removals),
        rows_by_day=changed.by_day,
        files_rewritten=len(rewritten.removed),
        bytes_rewritten=rewritten.bytes_written,
        bronze_snapshot=found.snapshot_id,
        watermark=newest,
        rows_in_table=total_rows(silver),
    )
