"""What bronze, silver and the versions must hold, from the topics and PostgreSQL alone."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from orders_platform.contracts import Column, Contract, Masking
from orders_platform.lake.catalog import open_catalog
from orders_platform.settings import Settings
from orders_platform_tests.faults.differing import Rows, named, utc
from orders_platform_tests.faults.oracle_ledger import ledger_differences
from orders_platform_tests.faults.recording import Kept, envelope, read_ends, read_topic

NOTHING: Mapping[str, Any] = MappingProxyType({})
UNAVAILABLE = "__debezium_unavailable_value"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
REPAIR = "repair"
"""How the id of a log begins that a repair has made: deletes that PostgreSQL has vouched for."""


Records = Mapping[str, Sequence[Kept]]
"""Per table."""


def ingest_differences(
    settings: Settings,
    contracts: Sequence[Contract],
    state: Mapping[str, Rows],
    earlier: Records = NOTHING,
    *,
    restored: bool = False,
) -> list[str]:
    """Everything in which bronze, silver or the versions differ from what they must be."""
    found: list[str] = []
    catalog = open_catalog(settings)
    for contract in contracts:
        records = list(dict.fromkeys([*earlier.get(contract.table, ()), *read_topic(settings, contract)]))
        table = catalog.load_table(contract.bronze_table)
        bronze = table.scan().to_arrow().to_pylist()
        found += ledger_differences(contract, table, records, bronze, read_ends(settings, contract))
        repairs = [row for row in bronze if row["_topic_id"].startswith(REPAIR)]
        found += bronze_differences(contract, records, [row for row in bronze if row not in repairs])
        silver = catalog.load_table(contract.silver_table).scan().to_arrow().to_pylist()
        found += silver_differences(settings, contract, silver, state[contract.table])
        versions = []
        if contract.versions_table:
            versions = catalog.load_table(contract.versions_table).scan().to_arrow().to_pylist()
            found += versions_differences(settings, contract, records, repairs, versions)
        if not restored:
            for layer, rows in ((contract.bronze_table, bronze), (contract.versions_table, versions)):
                counted_anew = [_place_of(row) for row in rows if row["_epoch"]]
                found += named(
                    str(layer), "rows are of a time after PostgreSQL went back, which it did not", counted_anew
                )
    return found


def _place_of(row: Mapping[str, Any]) -> str:
    return f"epoch {row['_epoch']} at offset {row['_kafka_offset']}"


def bronze_differences(contract: Contract, records: Sequence[Kept], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Bronze has each record that is not a tombstone once, with all that it says, on its day, and nothing else."""
    wanted = Counter({kept.place for kept in records if kept.record.value is not None})
    held = Counter(_place(row) for row in rows)
    said = {kept.place: {**told, **_arrived(kept)} for kept in records if (told := _told(contract, kept))}
    days = _days(records)
    differing = [
        f"{place} {line}" for row in rows if (place := _place(row)) in said for line in _other(row, said[place])
    ]
    layer = contract.bronze_table
    return (
        named(layer, "records are missing", (wanted - held).elements())
        + named(layer, "records are there twice or from nowhere", (held - wanted).elements())
        + named(layer, "values differ", differing)
        + named(
            layer,
            "rows are in another day's partition",
            [
                f"{place} in {row['_ingest_day']} instead of {days[place]}"
                for row in rows
                if days.get(place := _place(row), row["_ingest_day"]) != row["_ingest_day"]
            ],
        )
    )


def _other(row: Mapping[str, Any], said: Mapping[str, Any]) -> list[str]:
    """Where a row does not hold what a change says."""
    return [f"{name}={row[name]!r} instead of {value!r}" for name, value in said.items() if utc(row[name]) != value]


def _place(row: Mapping[str, Any]) -> tuple[str, int, int]:
    """Where a log has the row's record. A log that was cut back goes on under the topic's id with a number."""
    return row["_topic_id"].partition("~")[0], row["_kafka_partition"], row["_kafka_offset"]


def _days(records: Iterable[Kept]) -> dict[tuple[str, int, int], date]:
    """The ingest day of each record: the latest that its partition has reached by then, in UTC.

    Only as far as the records follow each other from the start: the mark of a transaction, which no consumer sees, has
    the broker's time.
    """
    days: dict[tuple[str, int, int], date] = {}
    latest: dict[tuple[str, int], tuple[int, date]] = {}
    for kept in sorted(records, key=lambda each: each.place):
        log, partition, offset = kept.place
        following, day = latest.get((log, partition), (0, date.min))
        if offset == following:
            day = max(day, datetime.fromtimestamp(kept.timestamp / 1000, UTC).date())
            latest[log, partition] = offset + 1, day
            days[kept.place] = day
    return days


def _told(contract: Contract, kept: Kept) -> dict[str, Any] | None:
    """What a change says of its row and of itself, by the names of the tables' columns; None where it is no row's.

    Of a row: the values that travelled, which are the key alone for a deleted one under the default identity.
    """
    change = envelope(kept.record)
    if change is None or change["op"] == "t":
        return None
    image, source = change["after"], change["source"]
    if image is None:
        key: Mapping[str, Any] = json.loads(kept.record.key or b"{}")
        image = {name: value for name, value in change["before"].items() if name in key}
    sent = [column for column in contract.columns if column.source_name in image]
    left_out = [column.name for column in sent if image[column.source_name] == UNAVAILABLE]
    committed, own = json.loads(source["sequence"])
    return {
        **{c.name: _typed(c, image[c.source_name]) for c in sent if c.name not in left_out},
        **dict.fromkeys(left_out),
        "_op": change["op"],
        "_commit_pos": int(committed or source["lsn"] or own),
        "_lsn": _lsn(source),
        "_tx_id": source["txId"],
        "_source_ts": EPOCH + timedelta(microseconds=source["ts_us"]),
        "_unavailable": left_out or None,
    }


def _arrived(kept: Kept) -> dict[str, Any]:
    """What bronze alone tells of a record."""
    change = envelope(kept.record)
    snapshot = change and change["source"]["snapshot"]
    return {
        "_snapshot": None if snapshot == "false" else snapshot,
        "_kafka_ts": EPOCH + timedelta(milliseconds=kept.timestamp),
    }


def _typed(column: Column, value: Any) -> Any:
    """A value of the event as Python has it."""
    if value is None or column.type in ("string", "boolean", "int", "long"):
        return value
    return utc(datetime.fromisoformat(value)) if column.type == "timestamptz" else Decimal(value)


def masked(settings: Settings, contract: Contract, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as silver may show it."""
    out = dict(row)
    for column in contract.columns:
        value = out.get(column.name)
        if value is None or column.masking is None:
            continue
        if column.masking is Masking.HMAC:
            out[column.name] = hmac.new(settings.masking_key, value.encode(), hashlib.sha256).hexdigest()
        else:
            out[column.name] = value.rsplit(",", 1)[1].strip() if "," in value else None
    return out


def _plain(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: utc(row[name]) for name in names}


def silver_differences(
    settings: Settings, contract: Contract, rows: Sequence[Mapping[str, Any]], state: Rows
) -> list[str]:
    """Silver's rows that are not deleted are PostgreSQL's, value for value; no key is there twice."""
    layer = contract.silver_table
    keys = Counter(tuple(row[k] for k in contract.key) for row in rows)
    live = {
        tuple(row[k] for k in contract.key): _plain(row, contract.column_names) for row in rows if not row["_deleted"]
    }
    wanted = {key: _plain(masked(settings, contract, row), contract.column_names) for key, row in state.items()}
    differing = [
        f"{key} {name}={live[key][name]!r} instead of {row[name]!r}"
        for key, row in wanted.items()
        if key in live
        for name in contract.column_names
        if live[key][name] != row[name]
    ]
    return (
        named(layer, "keys are there twice", [key for key, count in keys.items() if count > 1])
        + named(layer, "rows are missing", sorted(wanted.keys() - live.keys()))
        + named(layer, "rows should not be there", sorted(live.keys() - wanted.keys()))
        + named(layer, "values differ", differing)
    )


def versions_differences(
    settings: Settings,
    contract: Contract,
    records: Sequence[Kept],
    repairs: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
) -> list[str]:
    """The versions are the topic's changes, each once however often delivered, and the deletes of repairs."""

    def version(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return *(row[name] for name in contract.key), row["_lsn"]

    told: dict[tuple[Any, ...], list[dict[str, Any]]] = {version(row): [] for row in repairs}
    for kept in records:
        if said := _told(contract, kept):
            also = {"_deleted": said["_op"] == "d", "_kafka_offset": kept.offset}
            told.setdefault(version(said), []).append({**masked(settings, contract, said), **also})
    held = Counter(version(row) for row in rows)
    differing = [
        f"{version(row)} {', '.join(min(others, key=len))}"
        for row in rows
        if (others := [_other(row, said) for said in told.get(version(row), ())]) and all(others)
    ]
    layer = str(contract.versions_table)
    return (
        named(layer, "versions are missing", sorted(told.keys() - held.keys()))
        + named(layer, "versions are from nowhere", sorted(held.keys() - told.keys()))
        + named(layer, "versions are there twice", [key for key, count in held.items() if count > 1])
        + named(layer, "versions differ", differing)
    )


def _lsn(source: Mapping[str, Any]) -> int:
    """A change's own position; an incremental snapshot's reads have it as the second part of the sequence only."""
    return int(source["lsn"] or json.loads(source["sequence"])[1])
