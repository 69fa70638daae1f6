"""Finds what stops the loading of a table, and records the decision to go on in its ledger."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

from pyiceberg.catalog import Catalog

from orders_platform.contracts import Contract
from orders_platform.ingest.backlog import unread
from orders_platform.ingest.boundaries import TopicMemory
from orders_platform.ingest.bronze import ATTEMPTS, FAULTS, bronze_table, load_former, rehearse
from orders_platform.ingest.cover import staged_of_all_days
from orders_platform.ingest.errors import CommitRefusedError, GapError, IngestError
from orders_platform.ingest.gaps import AcceptedGap, Gap, GapKind, parse_name
from orders_platform.ingest.kafka_admin import KafkaAdmin, TopicLog
from orders_platform.ingest.ledger import COMMIT, TAG, Ledger
from orders_platform.ingest.offsets import Intervals
from orders_platform.ingest.staged_file import staged_days
from orders_platform.ingest.staging_files import Storage, storage
from orders_platform.lake.commits import CommitUnknownError, ConflictError, commit
from orders_platform.settings import Settings


class NoSuchGapError(IngestError):
    """What was to be accepted is not what stops the table; the message names what does."""


def open_gap(settings: Settings, catalog: Catalog, contract: Contract) -> GapError | None:
    """What stops the loading of a table now, if anything does. The next one shows when this one is accepted.

    Raises:
        IngestError: what else stops it: the broker does not answer, there is no topic, the ledger is not believed.
    """
    try:
        for day in sorted(unread(settings, catalog, contract).days):
            rehearse(settings, catalog, contract, day)
        return None
    except GapError as found:
        stops, gap = found, found.gap
    if gap is None or not gap.kind.closes:
        return stops
    place = storage(settings)
    former = replace(_topic(settings, contract), topic_id=gap.log_id)
    try:
        for day in staged_days(place, former.name, former.topic_id):
            rehearse(settings, catalog, contract, day, former, place)
    except GapError as before:
        return before
    stops.gap = _less_staged(gap, staged_of_all_days(place, former))
    return stops


def accept(settings: Settings, catalog: Catalog, contract: Contract, name: str, *, reason: str, by: str) -> AcceptedGap:
    """Records that loading goes on although `name` is lost, or begins something new: a commit of bronze without rows.

    What was staged of a log that is closed with it is loaded first. Accepting again changes nothing.

    Args:
        name: of the gap, exactly as `open_gap` names it.

    Raises:
        NoSuchGapError: if something else, or nothing, stops the table now.
        ValueError: without a reason.
        CommitRefusedError: others kept committing first; run it again.
    """
    if not reason.strip():
        raise ValueError("a reason is needed to accept a gap")
    failure: Exception | None = None
    for _ in range(ATTEMPTS):
        ledger = Ledger.read(bronze_table(catalog, contract))
        if known := next((each for each in ledger.accepted if each.gap.is_named_by(name)), None):
            return known
        gap = _found(settings, catalog, contract, name)
        decision = AcceptedGap(gap, reason.strip(), by, datetime.now(UTC))
        try:
            return _accept(settings, catalog, contract, decision, ledger.accepted)
        except (ConflictError, CommitUnknownError) as error:
            failure = error
    raise CommitRefusedError(
        f"{contract.bronze_table}: {ATTEMPTS} attempts to accept {name} did not succeed, the last with: {failure}. "
        f"Nothing was lost; run it again"
    )


def _found(settings: Settings, catalog: Catalog, contract: Contract, name: str) -> Gap:
    stops = open_gap(settings, catalog, contract)
    if stops is None or stops.gap is None:
        raise NoSuchGapError(f"nothing stops {contract.table} now ({stops or 'its log goes on as it was loaded'})")
    if not stops.gap.is_named_by(name):
        raise NoSuchGapError(
            f"{name} is not what stops {contract.table}; what does is {stops.gap.name}. Nothing was accepted"
        )
    if stops.gap.kind is GapKind.TRUNCATED and (said := parse_name(name)):
        # The log has grown since it was looked at: where it was cut is what was seen first.
        ends = {partition: end for partition, _, end in stops.gap.ranges}
        return replace(stops.gap, ranges=tuple((p, first, ends[p]) for p, first, _ in said[2]))
    return stops.gap


def _accept(
    settings: Settings,
    catalog: Catalog,
    contract: Contract,
    decision: AcceptedGap,
    judged_after: tuple[AcceptedGap, ...],
) -> AcceptedGap:
    """Commits the decision, which was judged after those. Raises `ConflictError`, `CommitUnknownError`."""
    gap = decision.gap
    log, place = _topic(settings, contract), storage(settings)
    if gap.kind.closes:
        former = replace(log, topic_id=gap.log_id)
        for day in staged_days(place, former.name, former.topic_id):
            load_former(settings, catalog, contract, day, former, place)
    table = bronze_table(catalog, contract)
    ledger = Ledger.read(table)
    if ledger.accepted != judged_after:
        raise ConflictError(f"{contract.bronze_table}: something else was accepted meanwhile")
    if gap.kind.closes:
        decision = replace(decision, continues_as=_free_id(log, ledger, gap.log_id))
        _remember_origins(place, log, decision)
    elif gap.kind is GapKind.REWOUND:
        decision = replace(decision, epoch=1 + max((each.epoch or 0 for each in ledger.accepted), default=0))
    commit(
        table,
        expected=ledger.snapshot_id,
        add=(),
        summary={**ledger.accepting(decision).summary(), COMMIT: json.dumps({"accepted": gap.name})},
        tag=TAG,
        faults=FAULTS,
    )
    return decision


def _free_id(log: TopicLog, ledger: Ledger, former: str) -> str:
    """The topic's own id, unless records of another log are known by it already."""
    taken = {*ledger.intervals, *(each.gap.log_id for each in ledger.accepted), former}
    candidates = (log.topic_id, *(f"{log.topic_id}~{number}" for number in range(1, len(taken) + 1)))
    return next(name for name in candidates if name not in taken)


def _remember_origins(place: Storage, log: TopicLog, decision: AcceptedGap) -> None:
    """Where the log that is read from now on began: what a new topic has lost since is a gap of its own."""
    named = replace(log, topic_id=str(decision.continues_as))
    origins = dict.fromkeys(log.partitions, 0)
    if decision.gap.kind is GapKind.TRUNCATED:
        origins |= TopicMemory(place, log.name, decision.gap.log_id).origins(log)
    TopicMemory(place, named.name, named.topic_id).remember_origins(named, origins)


def _less_staged(gap: Gap, staged: dict[int, Intervals]) -> Gap:
    """The gap that is left when what is staged of the former log has been loaded."""
    ranges = []
    for partition, first, end in gap.ranges:
        of = staged.get(partition, Intervals())
        if gap.kind is GapKind.TRUNCATED:
            ranges.append((partition, first, max(end, of.next)))
        else:
            left = Intervals(((first, end),)).subtract(of)
            ranges += [(each.partition, each.first, each.next) for each in left.ranges(partition)]
    return replace(gap, ranges=tuple(ranges))


def _topic(settings: Settings, contract: Contract) -> TopicLog:
    return KafkaAdmin(settings).topic(contract.topic(settings.topic_prefix))
