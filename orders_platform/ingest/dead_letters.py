"""Records that could not be decoded or broke their contract: bronze rows with a reason and their raw bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from orders_platform.contracts import Contract
from orders_platform.lake.duckdb_engine import connect, live_files, scan_files_sql
from orders_platform.settings import Settings

DEAD = "_error.error_class"
"""The column of bronze that only dead letters have; manifests say how many rows of a file lack it."""


@dataclass(frozen=True)
class Discarded:
    """Somebody's decision that a dead letter is of no use. The record stays; it no longer counts as a problem."""

    reason: str
    by: str
    at: datetime


@dataclass(frozen=True)
class DeadLetter:
    """One record: where it is in Kafka, why it is no row, and what it says, byte for byte.

    `headers` is a JSON array of [name, base64 of the value], null for a record without headers.
    """

    table: str
    topic: str
    topic_id: str
    partition: int
    offset: int
    timestamp: datetime
    ingest_day: date
    stage: str
    error_class: str
    message: str
    contract_version: str
    key: bytes | None
    value: bytes | None
    headers: str | None
    discarded: Discarded | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: times in ISO 8601, bytes in base64."""
        encoded = {
            name: None if value is None else base64.b64encode(value).decode("ascii")
            for name, value in (("key", self.key), ("value", self.value))
        }
        times = {"timestamp": self.timestamp.isoformat(), "ingest_day": self.ingest_day.isoformat()}
        headers = json.loads(self.headers) if self.headers else []
        given_up = self.discarded and {**vars(self.discarded), "at": self.discarded.at.isoformat()}
        return {**vars(self), **encoded, **times, "headers": headers, "discarded": given_up}


@dataclass(frozen=True)
class Selection:
    """Which dead letters are meant: those to which everything applies that is given.

    `discarded`: only those that are, or only those that are not; None for both.
    """

    day: date | None = None
    error_class: str | None = None
    stage: str | None = None
    partition: int | None = None
    offset: int | None = None
    discarded: bool | None = None

    def where(self) -> tuple[str, list[Any]]:
        """A condition on rows of bronze, in SQL with `?`, and its values."""
        columns = {
            "_ingest_day": self.day,
            DEAD: self.error_class,
            "_error.stage": self.stage,
            "_kafka_partition": self.partition,
            "_kafka_offset": self.offset,
        }
        given = {column: value for column, value in columns.items() if value is not None}
        conditions = ["_error IS NOT NULL", *(f"{column} = ?" for column in given)]
        if self.discarded is not None:
            conditions.append(f"_discarded IS {'NOT ' if self.discarded else ''}NULL")
        return " AND ".join(conditions), list(given.values())


def list_dead_letters(
    settings: Settings, catalog: Catalog, contract: Contract, selection: Selection = Selection(), limit: int = 100
) -> list[DeadLetter]:
    """Dead letters of a table by day, partition and offset, and by Kafka's time in a topic made anew, newest first."""
    table = _table(catalog, contract)
    if table is None:
        return []
    where, values = selection.where()
    with connect(settings) as con:
        rows = con.execute(
            f"""SELECT _topic_id, _kafka_partition, _kafka_offset, _kafka_ts, _ingest_day, _error.stage,
                       _error.error_class, _error.message, _error.contract_version, _raw.key, _raw.value, _raw.headers,
                       _discarded.reason, _discarded."by", _discarded."at"
            FROM {scan_files_sql(table, dead_letter_files(table))} WHERE {where}
            ORDER BY _ingest_day DESC, _kafka_partition, _kafka_offset DESC, _kafka_ts DESC LIMIT {int(limit)}""",
            values,
        ).fetchall()
    topic = contract.topic(settings.topic_prefix)
    found = (DeadLetter(contract.table, topic, *row[:-3]) for row in rows)
    return [
        replace(letter, discarded=Discarded(*row[-3:]) if row[-1] else None)
        for letter, row in zip(found, rows, strict=True)
    ]


def show_dead_letter(
    settings: Settings, catalog: Catalog, contract: Contract, partition: int, offset: int
) -> DeadLetter | None:
    """The dead letter at an offset, None if there is none; the newest, where a topic was made anew."""
    found = list_dead_letters(settings, catalog, contract, Selection(partition=partition, offset=offset), 1)
    return found[0] if found else None


def count_dead_letters(settings: Settings, catalog: Catalog, contract: Contract) -> dict[str, int]:
    """How many dead letters a table has that nobody has discarded, by class of error."""
    table = _table(catalog, contract)
    if table is None:
        return {}
    where, _ = Selection(discarded=False).where()
    with connect(settings) as con:
        found = con.execute(
            f"SELECT {DEAD}, count(*) FROM {scan_files_sql(table, dead_letter_files(table))} "
            f"WHERE {where} GROUP BY 1 ORDER BY 1"
        ).fetchall()
    return dict(found)


def dead_letter_files(table: Table, files: Iterable[DataFile] | None = None) -> Sequence[DataFile]:
    """Those files (all of the table's, by default) that may hold dead letters, as the manifests tell."""
    column = table.schema().find_field(DEAD).field_id
    among = live_files(table) if files is None else files
    return [file for file in among if (file.null_value_counts or {}).get(column, -1) != file.record_count]


def _table(catalog: Catalog, contract: Contract) -> Table | None:
    try:
        return catalog.load_table(contract.bronze_table)
    except NoSuchTableError:
        return None
