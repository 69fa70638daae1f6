"""Says what the tables must hold, from the topics and PostgreSQL alone, and names whatever they hold instead.

It shares no code with what it judges: the topics are read with a plain consumer, the tables with PyIceberg, masks are
computed with Python's hmac, revenue with Python's Decimal.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from operator import add
from types import MappingProxyType
from typing import Any, NamedTuple

import clickhouse_connect

from orders_platform.contracts import Column, Contract, Masking
from orders_platform.lake.catalog import open_catalog
from orders_platform.settings import Settings
from orders_platform_tests.faults.recording import Kept, Record, envelope, read_topic

Rows = Mapping[tuple[Any, ...], Mapping[str, Any]]
SHOWN = 5
NOTHING: Mapping[str, Any] = MappingProxyType({})
UNAVAILABLE = "__debezium_unavailable_value"
REPAIR = "repair"
"""How the id of a log begins that a repair has made: deletes that PostgreSQL has vouched for."""


Records = Mapping[str, Sequence[Kept]]
"""Per table."""


def differences(
    settings: Settings, contracts: Sequence[Contract], state: Mapping[str, Rows], earlier: Records = NOTHING
) -> list[str]:
    """Everything in which bronze, silver, gold or ClickHouse differ from what they must be; empty when all is well.

    `earlier`: records that were loaded before the topic lost them.
    """
    return ingest_differences(settings, contracts, state, earlier) + published_differences(settings, state)


def published_differences(settings: Settings, state: Mapping[str, Rows]) -> list[str]:
    """Everything in which gold or ClickHouse differ from what they must be."""
    catalog = open_catalog(settings)
    facts = catalog.load_table("gold.fact_orders").scan().to_arrow().to_pylist()
    daily = catalog.load_table("gold.daily_revenue").scan().to_arrow().to_pylist()
    return gold_differences(settings, facts, daily, state) + clickhouse_differences(settings, state)


def ingest_differences(
    settings: Settings, contracts: Sequence[Contract], state: Mapping[str, Rows], earlier: Records = NOTHING
) -> list[str]:
    """Everything in which bronze, silver or the versions differ from what they must be."""
    found: list[str] = []
    catalog = open_catalog(settings)
    for contract in contracts:
        records = list(dict.fromkeys([*earlier.get(contract.table, ()), *read_topic(settings, contract)]))
        bronze = catalog.load_table(contract.bronze_table).scan().to_arrow().to_pylist()
        repairs = [row for row in bronze if row["_topic_id"].startswith(REPAIR)]
        found += bronze_differences(contract, records, [row for row in bronze if row not in repairs])
        silver = catalog.load_table(contract.silver_table).scan().to_arrow().to_pylist()
        found += silver_differences(settings, contract, silver, state[contract.table])
        if contract.versions_table:
            versions = catalog.load_table(contract.versions_table).scan().to_arrow().to_pylist()
            found += versions_differences(contract, records, repairs, versions)
    return found


def _named(layer: str, what: str, items: Iterable[Any]) -> list[str]:
    items = list(items)
    if not items:
        return []
    shown = ", ".join(str(i) for i in items[:SHOWN])
    return [f"{layer}: {len(items)} {what}: {shown}{' …' if len(items) > SHOWN else ''}"]


def bronze_differences(contract: Contract, records: Sequence[Kept], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Bronze has each record that is not a tombstone once, with its values, on its day, and nothing else."""
    wanted = Counter({kept.place for kept in records if kept.record.value is not None})
    held = Counter(_place(row) for row in rows)
    images = {kept.place: image for kept in records if (image := _image(kept.record))}
    days = _days(records)
    differing = [
        f"{place} {column.name}={row[column.name]!r} instead of {image[column.source_name]!r}"
        for row in rows
        if (image := images.get(place := _place(row)))
        for column in contract.columns
        if column.source_name in image
        and image[column.source_name] != UNAVAILABLE
        and _typed(column, image[column.source_name]) != _utc(row[column.name])
    ]
    layer = contract.bronze_table
    return (
        _named(layer, "records are missing", (wanted - held).elements())
        + _named(layer, "records are there twice or from nowhere", (held - wanted).elements())
        + _named(layer, "values differ", differing)
        + _named(
            layer,
            "rows are in another day's partition",
            [
                f"{place} in {row['_ingest_day']} instead of {days[place]}"
                for row in rows
                if days.get(place := _place(row), row["_ingest_day"]) != row["_ingest_day"]
            ],
        )
    )


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


def _image(record: Record) -> Mapping[str, Any] | None:
    """What a change says of its row: all of it, or of a deleted one under the default identity its key."""
    change = envelope(record)
    if change is None or change["op"] == "t":
        return None
    if change["after"] is not None:
        return change["after"]
    key: Mapping[str, Any] = json.loads(record.key or b"{}")
    return {name: value for name, value in change["before"].items() if name in key}


def _typed(column: Column, value: Any) -> Any:
    """A value of the event as Python has it."""
    if value is None or column.type in ("string", "boolean", "int", "long"):
        return value
    return _utc(datetime.fromisoformat(value)) if column.type == "timestamptz" else Decimal(value)


def masked(settings: Settings, contract: Contract, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as silver may show it."""
    out = dict(row)
    for column in contract.columns:
        value = out[column.name]
        if value is None or column.masking is None:
            continue
        if column.masking is Masking.HMAC:
            out[column.name] = hmac.new(settings.masking_key, value.encode(), hashlib.sha256).hexdigest()
        else:
            out[column.name] = value.rsplit(",", 1)[1].strip() if "," in value else None
    return out


def _utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value


def _plain(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: _utc(row[name]) for name in names}


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
        _named(layer, "keys are there twice", [key for key, count in keys.items() if count > 1])
        + _named(layer, "rows are missing", sorted(wanted.keys() - live.keys()))
        + _named(layer, "rows should not be there", sorted(live.keys() - wanted.keys()))
        + _named(layer, "values differ", differing)
    )


def versions_differences(
    contract: Contract,
    records: Sequence[Kept],
    repairs: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
) -> list[str]:
    """The versions are the topic's changes, each once however often delivered, and the deletes of repairs."""
    held = Counter((*(row[k] for k in contract.key), row["_lsn"]) for row in rows)
    wanted = {(*(row[k] for k in contract.key), row["_lsn"]) for row in repairs}
    for kept in records:
        change = envelope(kept.record)
        if change is None or change["op"] == "t":
            continue
        image = change["after"] or change["before"]
        wanted.add((*(image[k] for k in contract.key), _lsn(change["source"])))
    layer = str(contract.versions_table)
    return (
        _named(layer, "versions are missing", sorted(wanted - held.keys()))
        + _named(layer, "versions are from nowhere", sorted(held.keys() - wanted))
        + _named(layer, "versions are there twice", [key for key, count in held.items() if count > 1])
    )


def _lsn(source: Mapping[str, Any]) -> int:
    """A change's own position; an incremental snapshot's reads have it as the second part of the sequence only."""
    return int(source["lsn"] or json.loads(source["sequence"])[1])


def revenue(order: Mapping[str, Any]) -> Decimal:
    """What an order earned: nothing when cancelled, else its total less what was paid back."""
    return Decimal(0) if order["status"] == "cancelled" else order["total"] - order["refunded"]


def _order_date(settings: Settings, order: Mapping[str, Any]) -> date:
    placed: datetime = order["created_at"]
    return placed.astimezone(settings.time_zone).date()


class Fact(NamedTuple):
    """An order as gold must have it; `lines` is the number of its line items, `items` what they add up to."""

    order_date: date
    order_id: int
    customer_key: int
    region_key: str
    status: str
    currency: str
    items: int
    lines: int
    total: Decimal
    refunded: Decimal
    revenue: Decimal


class Day(NamedTuple):
    """What the orders of a date, region and currency add up to."""

    orders: int
    cancelled_orders: int
    items: int
    revenue: Decimal
    refunded: Decimal


def expected_facts(settings: Settings, state: Mapping[str, Rows]) -> list[Fact]:
    """One an order of PostgreSQL's."""
    quantities: dict[int, list[int]] = {}
    for line in state["line_items"].values():
        quantities.setdefault(line["order_id"], []).append(line["quantity"])
    return [
        Fact(
            _order_date(settings, order),
            order["order_id"],
            order["customer_id"],
            state["customers"][(order["customer_id"],)]["region"],
            order["status"],
            order["currency"],
            sum(quantities.get(order["order_id"], ())),
            len(quantities.get(order["order_id"], ())),
            order["total"],
            order["refunded"],
            revenue(order),
        )
        for order in state["orders"].values()
    ]


def expected_days(facts: Iterable[Fact]) -> dict[tuple[date, str, str], Day]:
    """By order date, region and currency."""
    days: dict[tuple[date, str, str], Day] = {}
    for fact in facts:
        key = (fact.order_date, fact.region_key, fact.currency)
        one = Day(1, int(fact.status == "cancelled"), fact.items, fact.revenue, fact.refunded)
        days[key] = Day(*map(add, days[key], one)) if key in days else one
    return days


def gold_differences(
    settings: Settings,
    facts: Sequence[Mapping[str, Any]],
    daily: Sequence[Mapping[str, Any]],
    state: Mapping[str, Rows],
) -> list[str]:
    """One fact an order, with each of its figures; the daily table sums them."""
    expected = expected_facts(settings, state)
    held = Counter(Fact(*(row[name] for name in Fact._fields)) for row in facts)
    wanted = Counter(expected)
    days = {(r["order_date"], r["region"], r["currency"]): Day(*(r[name] for name in Day._fields)) for r in daily}
    return (
        _named("gold.fact_orders", "orders are missing", (wanted - held).elements())
        + _named("gold.fact_orders", "orders are wrong", (held - wanted).elements())
        + _day_differences("gold.daily_revenue", days, expected_days(expected))
        + ([] if len(days) == len(daily) else ["gold.daily_revenue: a day, region and currency is there twice"])
    )


def clickhouse_differences(settings: Settings, state: Mapping[str, Rows]) -> list[str]:
    """ClickHouse shows what PostgreSQL's rows add up to."""
    client = clickhouse_connect.get_client(dsn=settings.clickhouse)
    try:
        columns = ", ".join(("order_date", "region", "currency", *Day._fields))
        rows = client.query(f"SELECT {columns} FROM daily_revenue").result_rows
    finally:
        client.close()
    days = {tuple(row[:3]): Day(*row[3:]) for row in rows}
    twice = [] if len(days) == len(rows) else ["clickhouse.daily_revenue: a day, region and currency is there twice"]
    expected = expected_days(expected_facts(settings, state))
    return _day_differences("clickhouse.daily_revenue", days, expected) + twice


def _day_differences(layer: str, held: Mapping[Any, Any], wanted: Mapping[Any, Any]) -> list[str]:
    return (
        _named(layer, "days are missing", sorted(wanted.keys() - held.keys()))
        + _named(layer, "days should not be there", sorted(held.keys() - wanted.keys()))
        + _named(
            layer,
            "days differ",
            [f"{k}: {held[k]} instead of {w}" for k, w in wanted.items() if k in held and held[k] != w],
        )
    )
