"""Changes that a real Debezium captured from a database of a test's own, and where they have come to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import yaml
from pyiceberg.catalog import Catalog

from orders_platform.contracts import Contract, load_contracts
from orders_platform.ingest.backlog import unread
from orders_platform.ingest.bronze import BronzeResult, load_day
from orders_platform.ingest.consumer import RangeReader
from orders_platform.ingest.decoding import RECORDS
from orders_platform.ingest.kafka_admin import KafkaAdmin
from orders_platform.ingest.offsets import OffsetRange
from orders_platform.ingest.staging import stage_day
from orders_platform.ingest.topics import create_topics
from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.duckdb_engine import connect, scan_sql
from orders_platform.lake.silver import SilverResult, merge_silver
from orders_platform.quality.comparison import Patience
from orders_platform.quality.key_range import EVERYTHING
from orders_platform.quality.reconcile import reconcile_range
from orders_platform.quality.report import TableComparison
from orders_platform.settings import Settings
from orders_platform.stack import wait_until_captured
from orders_platform.stack.connect_rest import ConnectRest
from orders_platform.stack.debezium import connector_config, create_signal_table, read_slot
from orders_platform.stack.publication import publish_generated_columns
from orders_platform_tests.waiting import eventually


def write_contract(
    folder: Path,
    table: str,
    physical_name: str,
    columns: Mapping[str, str | Mapping[str, Any]],
    key: Sequence[str],
    **custom: Any,
) -> None:
    """A contract file. A column is its PostgreSQL type, or properties of the standard beside that type."""
    properties = []
    for name, given in columns.items():
        prop: dict[str, Any] = {"name": name, **({"physicalType": given} if isinstance(given, str) else given)}
        if name in key:
            prop |= {"primaryKey": True, "primaryKeyPosition": list(key).index(name) + 1, "required": True}
        properties.append(prop)
    document = {
        "apiVersion": "v3.0.2",
        "kind": "DataContract",
        "name": table,
        "version": "1.0.0",
        "team": [{"username": "data-platform@example.com", "role": "owner"}],
        "schema": [{"name": table, "physicalName": physical_name, "properties": properties}],
        "customProperties": [{"property": name, "value": value} for name, value in custom.items()],
    }
    folder.mkdir(exist_ok=True)
    (folder / f"{table}.yaml").write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


@dataclass
class Capture:
    """A database, the connector that follows it, and an installation that loads what it writes."""

    settings: Settings
    catalog: Catalog
    contracts: dict[str, Contract]
    slot: str
    loads: dict[str, list[BronzeResult]] = field(default_factory=dict)
    merges: dict[str, list[SilverResult]] = field(default_factory=dict)

    @contextmanager
    def shop(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.settings.postgres, autocommit=True) as connection:
            yield connection

    def wait(self) -> None:
        """Until Debezium has captured all that is committed."""
        wait_until_captured(self.settings, slot=self.slot, contracts=self.contracts.values())

    def load(self, *tables: str) -> None:
        """Carries what is captured to silver."""
        for table in tables or self.contracts:
            contract = self.contracts[table]
            for day in unread(self.settings, self.catalog, contract).days:
                stage_day(self.settings, contract, day)
                self.loads.setdefault(table, []).append(load_day(self.settings, self.catalog, contract, day))
            self.merges.setdefault(table, []).append(merge_silver(self.settings, self.catalog, contract))

    def replay_day(self, table: str, day: date) -> None:
        """Stages, loads and merges a day again."""
        contract = self.contracts[table]
        stage_day(self.settings, contract, day)
        self.loads[table].append(load_day(self.settings, self.catalog, contract, day))
        self.merges[table].append(merge_silver(self.settings, self.catalog, contract))

    def count(self, table: str, of: str) -> int:
        """A number of the table's loads, added up."""
        return sum(getattr(load, of) for load in self.loads[table])

    def bronze(self, table: str, columns: str = "*", where: str = "true") -> list[dict[str, Any]]:
        """Rows of bronze in the order of changes."""
        order = "_commit_pos, _lsn, _kafka_offset"
        return self._rows(self.contracts[table].bronze_table, columns, where, order)

    def silver(self, table: str, columns: str = "*", where: str = "NOT _deleted") -> list[dict[str, Any]]:
        """Current rows of silver, by key."""
        contract = self.contracts[table]
        return self._rows(contract.silver_table, columns, where, ", ".join(f'"{name}"' for name in contract.key))

    def _rows(self, identifier: str, columns: str, where: str, order: str) -> list[dict[str, Any]]:
        with connect(self.settings) as con:
            source = scan_sql(self.catalog.load_table(identifier))
            found = con.execute(f"SELECT {columns} FROM {source} WHERE {where} ORDER BY {order}")
            return found.to_arrow_table().to_pylist()

    def compare(self, table: str) -> TableComparison:
        """Silver with PostgreSQL, value by value."""
        contract = self.contracts[table]
        return reconcile_range(self.settings, self.catalog, contract, EVERYTHING, patience=Patience(limit_seconds=0))

    def records(self, table: str) -> pa.Table:
        """Every record of a table's topic, schema `RECORDS`."""
        return read_records(self.settings, self.contracts[table].topic(self.settings.topic_prefix))


def read_records(settings: Settings, topic: str) -> pa.Table:
    """Every record of a topic, schema `RECORDS`."""
    log = KafkaAdmin(settings).topic(topic)
    found = [RECORDS.empty_table()]
    with RangeReader(settings, topic) as reader:
        for partition, bounds in log.partitions.items():
            for chunk in reader.read(OffsetRange(partition, bounds.start, bounds.high_watermark)):
                number = pa.repeat(pa.scalar(partition, pa.int32()), chunk.records.num_rows)
                found.append(chunk.records.add_column(0, RECORDS.field("partition"), number).cast(RECORDS))
    return pa.concat_tables(found)


@contextmanager
def capturing(stack: Settings, home: Path, name: str, ddl: str, folder: Path, **connector: str) -> Iterator[Capture]:
    """A database `name` made by `ddl`, followed by a connector of its own on the running stack.

    Args:
        folder: the contracts' files.
        connector: settings of the connector that differ from the stack's.
    """
    with psycopg.connect(stack.postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    settings = Settings(  # type: ignore[call-arg]
        _env_file=None,
        home=home,
        ports=stack.ports,
        topic_prefix=name,
        postgres_dsn=f"postgresql://shop@127.0.0.1:{stack.ports.postgres}/{name}",
    )
    contracts = load_contracts(folder)
    create_signal_table(settings.postgres)
    with psycopg.connect(settings.postgres, autocommit=True) as connection:
        connection.execute(ddl.encode())
    create_topics(settings, contracts)
    rest = ConnectRest(stack)
    own = {"name": name, "slot.name": name, "publication.name": name, **connector}
    rest.put_config(name, {**connector_config(settings, contracts, "initial"), **own})
    assert eventually(lambda: (slot := read_slot(settings.postgres, name)) and slot.active)  # the tables are read
    publish_generated_columns(settings.postgres, name)
    catalog = open_catalog(settings)
    try:
        yield Capture(settings, catalog, {contract.table: contract for contract in contracts}, name)
    finally:
        catalog.close()
        rest.stop(name)


def today(capture: Capture, table: str) -> date:
    """The day on which the table's last load was made."""
    return capture.loads[table][-1].day
