"""Registers Debezium's connector, as often as one likes, and sees to it that it runs."""

from __future__ import annotations

import json
import time
import uuid

import psycopg

from orders_platform.contracts import Contract
from orders_platform.settings import Settings
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
        # Stopped at first: only a connector that exists tells its offsets.
        rest.create_stopped(CONNECTOR, connector_config(settings, contracts, "initial", publication))
    try:
        recovery = decide_for(settings, contracts, accept_new_slot=accept_new_slot)
    except PostgresRestoredError:
        rest.stop(CONNECTOR)
        raise
    if recovery is Recovery.RESUME:
        mode = (before or {}).get("snapshot.mode", recovery.snapshot_mode)
        _apply(rest, before, connector_config(settings, contracts, mode, publication), report)
    else:
        report(f"the connector starts with snapshot.mode={recovery.snapshot_mode} ({recovery.value})")
        config = connector_config(settings, contracts, recovery.snapshot_mode, publication)
        _start_over(settings, rest, recovery, config)
    _wait_until_running(rest, report)
    _wait_until_streaming(settings)
    publish_generated_columns(settings.postgres)
    if recovery is Recovery.RESUME and before is not None:
        _read_new_tables(settings, before, contracts, report)
    return recovery


def decide_for(settings: Settings, contracts: tuple[Contract, ...], *, accept_new_slot: bool = False) -> Recovery:
    """The decision for this stack as it is now. Raises `SlotLostError`, `PostgresRestoredError`, `StackError`."""
    read = [int(entry["offset"].get("lsn") or 0) for entry in ConnectRest(settings).offsets(CONNECTOR)]
    offsets = bool(read)
    found = read_slot(settings.postgres)
    slot = found is not None and found.usable
    delivered = slot and not offsets and has_delivered(settings, contracts)
    restored = offsets and max(read) > end_of_log(settings.postgres)
    return decide(offsets=offsets, slot=slot, delivered=delivered, restored=restored, accept_new_slot=accept_new_slot)


def _apply(rest: ConnectRest, before: dict[str, str] | None, config: dict[str, str], report: Report) -> None:
    status = rest.status(CONNECTOR)
    if before is not None and before != config:
        changed = sorted(name for name in {*before, *config} if before.get(name) != config.get(name))
        report(f"the connector's configuration has changed: {', '.join(changed)}")
        # Stopped in between: otherwise the task of before goes on for a while, and looks like the new one.
        _stop(rest)
        rest.put_config(CONNECTOR, config)
        rest.resume(CONNECTOR)
    elif status is not None and status.state in ("STOPPED", "PAUSED"):
        rest.resume(CONNECTOR)


def _start_over(settings: Settings, rest: ConnectRest, recovery: Recovery, config: dict[str, str]) -> None:
    _stop(rest)
    if rest.offsets(CONNECTOR):
        rest.delete_offsets(CONNECTOR)
    if recovery is not Recovery.STREAM_WHAT_IS_UNCONFIRMED:
        _drop_slot(settings.postgres)
    rest.put_config(CONNECTOR, config)
    rest.resume(CONNECTOR)


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


def _wait_until_streaming(settings: Settings) -> None:
    """Until the slot is read from; not for ever: an initial snapshot of a large shop comes first, and takes its time.

    After a crash Connect repeats what it knew before until its tasks have started: RUNNING alone proves nothing.
    """
    deadline = time.monotonic() + STREAMING_SECONDS
    while time.monotonic() < deadline:
        slot = read_slot(settings.postgres)
        if slot is not None and slot.active:
            return
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


def _read_new_tables(
    settings: Settings, before: dict[str, str], contracts: tuple[Contract, ...], report: Report
) -> None:
    known = set(before.get("table.include.list", "").split(","))
    new = [name for contract in contracts if (name := table_pattern(contract)) not in known]
    if new:
        report(f"reading the rows of {', '.join(new)} by an incremental snapshot")
        request_snapshot(settings.postgres, new)


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
