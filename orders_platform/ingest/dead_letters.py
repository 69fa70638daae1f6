"""Records that could not be decoded or broke their contract: bronze rows with a reason and their raw bytes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.expressions.parser import parse
from pyiceberg.table import Table

from orders_platform.contracts import Contract
from orders_platform.lake.duckdb_engine import connect, scan_sql
from orders_platform.settings import Settings


@dataclass(frozen=True)
class DeadLetter:
    """One record: where it is in Kafka, why it is no row, and what it says, byte for byte."""

    table: str
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

    def to_dict(self) -> dict[str, Any]:
        """For JSON: times in ISO 8601, bytes in base64."""
        encoded = {
            name: None if value is None else base64.b64encode(value).decode("ascii")
            for name, value in (("key", self.key), ("value", self.value))
        }
        times = {"timestamp": self.timestamp.isoformat(), "ingest_day": self.ingest_day.isoformat()}
        return {**self.__dict__, **encoded, **times}


def list_dead_letters(
    settings: Settings,
    catalog: Catalog,
    contract: Contract,
    *,
    day: date | None = None,
    error_class: str | None = None,
    limit: int = 100,
) -> list[DeadLetter]:
    """Dead letters of a table by day, partition and offset, newest first."""
    conditions, values = ["_error IS NOT NULL"], list[Any]()
    if day is not None:
        conditions.append("_ingest_day = ?")
        values.append(day)
    if error_class is not None:
        conditions.append("_error.error_class = ?")
        values.append(error_class)
    return _select(settings, catalog, contract, conditions, values, day, limit)


def show_dead_letter(
    settings: Settings, catalog: Catalog, contract: Contract, partition: int, offset: int
) -> DeadLetter | None:
    """The dead letter at an offset, None if there is none; the newest, where a topic was made anew."""
    conditions = ["_error IS NOT NULL", "_kafka_partition = ?", "_kafka_offset = ?"]
    found = _select(settings, catalog, contract, conditions, [partition, offset], None, 1)
    return found[0] if found else None


def count_dead_letters(settings: Settings, catalog: Catalog, contract: Contract) -> dict[str, int]:
    """How many dead letters a table has, by class of error."""
    table = _table(catalog, contract)
    if table is None:
        return {}
    with connect(settings) as con:
        found = con.execute(
            f"SELECT _error.error_class, count(*) FROM {scan_sql(table)} WHERE _error IS NOT NULL GROUP BY 1 ORDER BY 1"
        ).fetchall()
    return dict(found)


def _select(
    settings: Settings,
    catalog: Catalog,
    contract: Contract,
    conditions: Sequence[str],
    values: Sequence[Any],
    day: date | None,
    limit: int,
) -> list[DeadLetter]:
    table = _table(catalog, contract)
    if table is None:
        return []
    of_day = parse(f"_ingest_day = '{day.isoformat()}'") if day else None
    with connect(settings) as con:
        rows = con.execute(
            f"""SELECT _topic_id, _kafka_partition, _kafka_offset, _kafka_ts, _ingest_day, _error.stage,
                       _error.error_class, _error.message, _error.contract_version, _raw.key, _raw.value, _raw.headers
            FROM {scan_sql(table, row_filter=of_day)} WHERE {" AND ".join(conditions)}
            ORDER BY _ingest_day DESC, _kafka_partition, _kafka_offset DESC LIMIT {int(limit)}""",
            list(values),
        ).fetchall()
    return [DeadLetter(contract.table, *row) for row in rows]


def _table(catalog: Catalog, contract: Contract) -> Table | None:
    try:
        return catalog.load_table(contract.bronze_table)
    except NoSuchTableError:
        return None
