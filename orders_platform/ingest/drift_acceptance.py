"""Finds the change of the shop's table that stops its loading, and records the decision to go on with it."""

from __future__ import annotations

from datetime import UTC, datetime

from pyiceberg.catalog import Catalog

from orders_platform.contracts import Contract
from orders_platform.fault_points import SituationPoint
from orders_platform.ingest.bronze import ATTEMPTS, bronze_table
from orders_platform.ingest.drift import Decision, decision_update, decisions
from orders_platform.ingest.errors import CommitRefusedError, IngestError, SchemaDriftError
from orders_platform.ingest.gap_acceptance import open_gap
from orders_platform.lake.commits import CommitFaults, CommitUnknownError, ConflictError, send
from orders_platform.settings import Settings

_FAULTS = CommitFaults(
    SituationPoint.DRIFT_BEFORE_ACCEPTANCE,
    SituationPoint.DRIFT_ACCEPTANCE_UNANSWERED,
    SituationPoint.DRIFT_AFTER_ACCEPTANCE,
)


class NoSuchDriftError(IngestError):
    """What was to be accepted is not what stops the table; the message names what does."""


def open_drift(settings: Settings, catalog: Catalog, contract: Contract) -> SchemaDriftError | None:
    """The change that stops the loading of a table now, if one does. The next one shows when this one is accepted.

    Decodes what is staged and not loaded; what is not staged yet says nothing.

    Raises:
        GapError: that has to be decided upon first.
        IngestError: what else stops the table: the broker does not answer, there is no topic, no ledger is believed.
    """
    try:
        # What is staged of a log that ends with a gap is loaded when that is accepted: a change in it comes first.
        gap = open_gap(settings, catalog, contract)
    except SchemaDriftError as found:
        return found
    if gap is not None:
        raise gap
    return None


def accept(settings: Settings, catalog: Catalog, contract: Contract, change: str, *, reason: str, by: str) -> Decision:
    """Records that loading goes on in spite of a change. Accepting again changes nothing.

    Args:
        change: exactly as the error names it that stops the table.

    Raises:
        NoSuchDriftError: if another change, or nothing, stops the table now.
        GapError, IngestError: what else stops it, as `open_drift`.
        ValueError: without a reason.
        CommitRefusedError: others kept committing first; run it again.
    """
    if not reason.strip():
        raise ValueError("a reason is needed to accept a change of the shop's table")
    table = bronze_table(catalog, contract)
    failure: Exception | None = None
    for _ in range(ATTEMPTS):
        if known := next((each for each in decisions(table) if each["change"] == change), None):
            return known
        if failure is None:
            _refuse_another(settings, catalog, contract, change)
        decision = {"change": change, "reason": reason.strip(), "by": by, "at": datetime.now(UTC).isoformat()}
        try:
            send(table, (decision_update(decision),), (), _FAULTS)
            return decision
        except (ConflictError, CommitUnknownError) as error:
            failure = error
            table = catalog.load_table(contract.bronze_table)
    raise CommitRefusedError(
        f"{contract.bronze_table}: {ATTEMPTS} attempts to accept {change} did not succeed, the last with: {failure}. "
        f"Nothing was lost; run it again"
    )


def _refuse_another(settings: Settings, catalog: Catalog, contract: Contract, change: str) -> None:
    stops = open_drift(settings, catalog, contract)
    if stops is None:
        raise NoSuchDriftError(
            f"no change of the shop's table stops {contract.table} now, as far as its records are staged: {change} was "
            f"not accepted. If a change is to come, `orders-platform sync` stops at it and names it"
        )
    if stops.change != change:
        raise NoSuchDriftError(
            f"{change} is not what stops {contract.table}; what does is '{stops.change}'. Nothing was accepted. {stops}"
        )
