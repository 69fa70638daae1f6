"""Registers Debezium's connector, as often as one likes, and sees to it that it runs."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress

import psycopg
from psycopg import sql

from orders_platform.contracts import Contract
from orders_platform.settings import Settings
from orders_platform.stack.complete_snapshot import is_owed, note_asked
from orders_platform.stack.connect_rest import ConnectRest
from orders_platform.stack.debezium import (
    CONNECTOR,
    SLOT,
    connector_config,
    end_of_log,
    read_slot,
    table_pattern,
)
from orders_platform.stack.errors import StackError
from orders_platform.stack.part import Report
from orders_platform.stack.publication import SIGNAL_TABLE, autocreate_mode, publish_generated_columns
from orders_platform.stack.recovery import PostgresRestoredError, Recovery, decide, has_delivered

RUNNING_SECONDS = 120.0
STOPPED_SECONDS = 30.0
STREAMING_SECONDS = 10.0
BEGUN_SECONDS = 60.0
DELIVERED_SECONDS = 30.0
SECOND_FAILURE_SECONDS = 30.0
"""For that long Connect may still tell of the first failure, unless it has told of a start since."""
POLL_SECONDS = 0.1


def ensure_connector(
    settings: Settings, contracts: tuple[Contract, ...], report: Report, *, accept_new_slot: bool = False
) -> Recovery:
    """The connector runs with the configuration of now when this returns; offsets and slot decide where it goes on.

    Tables whose contracts are new are read once by an incremental snapshot.

    Raises:
        SlotLostError: if its slot is gone.
        PostgresRestoredError: if PostgreSQL is at an earlier position; the connector stands still then.
        StackError: if it is refused, or fails, or may not read what it must.
    """
    rest = ConnectRest(settings)
    publication = autocreate_mode(settings.postgres, contracts)
    before = rest.config(CONNECTOR)
    if before is None:
        # Stopped at first: only a connector that exists tells its offsets. Other tables are new to it.
        known = tuple(contract for contract in contracts if has_delivered(settings, contract))
        before = connector_config(settings, known, "initial", publication)
        rest.create_stopped(CONNECTOR, before)
    try:
        recovery = decide_for(settings, contracts, accept_new_slot=accept_new_slot)
    except PostgresRestoredError:
        rest.stop(CONNECTOR)
        raise
    resumes = recovery is Recovery.RESUME
    mode = before.get("snapshot.mode", recovery.snapshot_mode) if resumes else recovery.snapshot_mode
    config = connector_config(settings, contracts, mode, publication)
    empty = _empty_tables(settings, contracts) if recovery.reads_all_tables else set()
    if not resumes:
        report(f"the connector starts with snapshot.mode={mode} ({recovery.value})")
    elif changed := sorted(name for name in {*before, *config} if before.get(name) != config.get(name)):
        report(f"the connector's configuration has changed: {', '.join(changed)}")
    if not resumes or before != config:
        new = [] if recovery.reads_all_tables else _new_tables(before, contracts)
        if new:
            _refuse_without_signals(settings.postgres)
        # Stopped in between: otherwise the task of before goes on for a while, and looks like the new one.
        _stop(rest)
        if recovery.reads_all_tables:
            note_asked(settings)  # first: what is cut short from here on is begun again
        if not resumes and rest.offsets(CONNECTOR):
            rest.delete_offsets(CONNECTOR)
        if recovery.reads_all_tables:
            _drop_slot(settings.postgres)
        for table in new:  # before they are in the configuration: who is cut short in between asks for them again
            report(f"reading the rows of {table} by an incremental snapshot")
            request_snapshot(settings.postgres, [table])
        rest.put_config(CONNECTOR, config)
        rest.resume(CONNECTOR)
    elif (status := rest.status(CONNECTOR)) is not None and status.state in ("STOPPED", "PAUSED"):
        rest.resume(CONNECTOR)
    _wait_until_running(rest, report)
    if recovery.reads_all_tables:
        _wait_until_begun(settings, rest, report)
    if _streams(settings) and recovery.reads_all_tables:
        _refuse_passed_over(settings)
    publish_generated_columns(settings.postgres)
    if recovery.reads_all_tables:
        empty |= _empty_tables(settings, contracts)
    for table in sorted(empty):
        report(
            f"{table} is empty in PostgreSQL, and a snapshot does not tell: what is loaded of it stays until "
            f"`orders-platform gaps repair {table}`"
        )
    return recovery


def decide_for(settings: Settings, contracts: tuple[Contract, ...], *, accept_new_slot: bool = False) -> Recovery:
    """The decision for this stack as it is now. Raises `SlotLostError`, `PostgresRestoredError`, `StackError`."""
    offsets = [entry["offset"] for entry in ConnectRest(settings).offsets(CONNECTOR) if entry["offset"].get("lsn")]
    found = read_slot(settings.postgres)
    slot = found is not None and found.usable
    owed = is_owed(settings) if slot else None
    if slot and owed is None and not offsets:  # the notes have expired: who has delivered something has read the tables
        owed = not any(has_delivered(settings, contract) for contract in contracts)
    return decide(
        offsets=bool(offsets),
        slot=slot,
        owed=owed,
        reading=any("snapshot" in each for each in offsets),
        restored=any(int(each["lsn"]) > end_of_log(settings.postgres) for each in offsets),
        accept_new_slot=accept_new_slot,
    )


def _empty_tables(settings: Settings, contracts: tuple[Contract, ...]) -> set[str]:
    """Tables without rows in PostgreSQL of which something was delivered before: a snapshot does not tell of them."""
    found = set()
    with psycopg.connect(settings.postgres, autocommit=True, connect_timeout=10) as connection:
        connection.execute("SET lock_timeout = '2s'")
        for contract in contracts:
            query = sql.SQL("SELECT FROM {} LIMIT 1").format(sql.Identifier(contract.schema, contract.source_table))
            with suppress(psycopg.Error):  # Debezium itself says what it may not read, and this is a hint
                if connection.execute(query).fetchone() is None and has_delivered(settings, contract):
                    found.add(contract.table)
    return found


def _stop(rest: ConnectRest) -> None:
    """Stops the connector and waits until its task has ended."""
    rest.stop(CONNECTOR)
    deadline = time.monotonic() + STOPPED_SECONDS
    while time.monotonic() < deadline:
        status = rest.status(CONNECTOR)
        if status is not None and status.state == "STOPPED" and not status.tasks:
            return
        time.sleep(POLL_SECONDS)
    raise StackError(f"the connector does not stop within {STOPPED_SECONDS:g} s: see the log of Kafka Connect")


def _wait_until_running(rest: ConnectRest, report: Report) -> None:
    """A task that has failed is started again once: what it failed of (a broker that died) may be over."""
    deadline = time.monotonic() + RUNNING_SECONDS
    restarted, started_since = None, False
    seen = "nothing yet"
    while time.monotonic() < deadline:
        status = rest.status(CONNECTOR)
        if status is not None:
            if status.running:
                return
            if status.failed and restarted is None:
                report("the connector has failed: it is started again")
                rest.restart(CONNECTOR)
                restarted = time.monotonic()
            elif not status.failed:
                started_since = restarted is not None
            elif started_since or (restarted is not None and time.monotonic() > restarted + SECOND_FAILURE_SECONDS):
                raise StackError(f"Debezium's connector fails: {status.trace.strip()[:1500]}")
            seen = f"{status.state}, tasks {', '.join(status.tasks) or 'none'}"
        time.sleep(POLL_SECONDS)
    raise StackError(f"Debezium's connector does not run after {RUNNING_SECONDS:g} s ({seen}): see Kafka Connect's log")


def _streams(settings: Settings) -> bool:
    """Waits until the slot is read from; not for ever: a complete snapshot of a large shop comes first.

    After a crash Connect repeats what it knew before until its tasks have started: RUNNING alone proves nothing.
    """
    deadline = time.monotonic() + STREAMING_SECONDS
    while time.monotonic() < deadline:
        slot = read_slot(settings.postgres)
        if slot is not None and slot.active:
            return True
        time.sleep(POLL_SECONDS)
    return False


def _wait_until_begun(settings: Settings, rest: ConnectRest, report: Report) -> None:
    """Until Debezium reads the tables, or has read them, or goes on without. The slot waits for open transactions."""
    deadline = time.monotonic() + BEGUN_SECONDS
    while time.monotonic() < deadline:
        slot = read_slot(settings.postgres)
        if (slot is not None and slot.active) or any("snapshot" in each["offset"] for each in rest.offsets(CONNECTOR)):
            return
        time.sleep(POLL_SECONDS)
    report(
        f"Debezium has not begun to read the tables after {BEGUN_SECONDS:g} s: it waits for transactions that are open "
        "in PostgreSQL, or its log says why"
    )


def _refuse_passed_over(settings: Settings) -> None:
    """Raises `StackError` if the connector streams changes and has not delivered the snapshot that comes first."""
    deadline = time.monotonic() + DELIVERED_SECONDS
    while is_owed(settings):
        if time.monotonic() >= deadline:
            raise StackError(
                "Debezium broke off before it had read the tables, and then passed over that: see the log of Kafka "
                "Connect for why, mend it, and run `orders-platform up` again, which begins anew"
            )
        time.sleep(POLL_SECONDS)


def _drop_slot(dsn: str) -> None:
    """Drops the slot; its reader may need a moment to let go of it."""
    deadline = time.monotonic() + STOPPED_SECONDS
    with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
        while True:
            try:
                connection.execute(
                    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", [SLOT]
                )
            except psycopg.errors.ObjectInUse:
                if time.monotonic() >= deadline:
                    raise StackError(f"slot {SLOT} is in use by another reader and cannot be dropped") from None
                time.sleep(POLL_SECONDS)
            else:
                return


def _new_tables(before: Mapping[str, str], contracts: tuple[Contract, ...]) -> list[str]:
    known = set(before.get("table.include.list", "").split(","))
    return [name for contract in contracts if (name := table_pattern(contract)) not in known]


def _refuse_without_signals(dsn: str) -> None:
    """Raises `StackError` where our role may not ask for a snapshot: before the connector is stopped for it."""
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        row = connection.execute("SELECT has_table_privilege(%s, 'INSERT'), current_user", [SIGNAL_TABLE]).fetchone()
    if row and not row[0]:
        raise StackError(
            f"the rows of a new table are read when {SIGNAL_TABLE} says so, and our role may not write to it: have its "
            f"owner run GRANT SELECT, INSERT, DELETE ON {SIGNAL_TABLE} TO {row[1]}"
        )


def request_snapshot(dsn: str, tables: list[str]) -> str:
    """Asks Debezium to read tables anew while changes go on; returns the signal's id.

    https://debezium.io/documentation/reference/3.7/connectors/postgresql.html#postgresql-incremental-snapshots
    """
    signal = uuid.uuid4().hex
    data = {"data-collections": tables, "type": "incremental"}
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        connection.execute(
            f"INSERT INTO {SIGNAL_TABLE} (id, type, data) VALUES (%s, 'execute-snapshot', %s)",
            [signal, json.dumps(data)],
        )
    return signal
