"""Records of a topic applied to empty tables in any portions, on any days, as often as one likes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from orders_platform.ingest.bronze import bronze_table
from orders_platform.ingest.decoding import Decoder
from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.commits import commit, head
from orders_platform.lake.duckdb_engine import connect_alone, scan_sql, write_files
from orders_platform.lake.silver import SilverResult, ensure_silver, merge_silver
from orders_platform.lake.versions import ensure_versions, versions_sql
from orders_platform.settings import Settings
from orders_platform_tests.cases.captured import Capture

DAY = date(2026, 3, 1)


@dataclass(frozen=True)
class Portion:
    """Records that arrive together, on a day."""

    records: pa.Table
    day: date = DAY


def shuffled(records: pa.Table, seed: int, portions: int = 4) -> list[Portion]:
    """The records dealt out at random, so that later ones arrive earlier and on earlier days."""
    random = Random(seed)
    dealt = [random.randrange(portions) for _ in range(records.num_rows)]
    numbers = pa.array(dealt, pa.int32())
    return [Portion(records.filter(pc.equal(numbers, n)), DAY + timedelta(days=n)) for n in range(portions)]


def again(records: pa.Table, later: int = 1_000_000) -> pa.Table:
    """The same records as a connector delivers them a second time: at other offsets."""
    position = records.schema.get_field_index("offset")
    return records.set_column(position, records.schema.field("offset"), pc.add(records["offset"], later))


class Replay:
    """One table of a capture, from its records to silver, in a home of its own."""

    def __init__(self, capture: Capture, table: str, home: Path) -> None:
        self.contract = capture.contracts[table]
        self.settings: Settings = capture.settings.model_copy(update={"home": home})
        # Copied with the values that were derived from the former home.
        for name in ("staging", "catalog_properties"):
            self.settings.__dict__.pop(name, None)
        self.catalog = open_catalog(self.settings)
        self.late = 0

    def apply(self, portions: Iterable[Portion]) -> list[SilverResult]:
        """Writes each portion to bronze and merges it."""
        bronze = bronze_table(self.catalog, self.contract)
        results = []
        for portion in portions:
            with closing(connect_alone(self.settings)) as con:
                decoded = Decoder(con, self.contract).decode(portion.records, "topic-id", portion.day)
                self.late += decoded.late
                files = write_files(con, bronze, decoded.sql, partition=portion.day)
                commit(bronze, expected=head(bronze), add=files, summary={})
            results.append(merge_silver(self.settings, self.catalog, self.contract))
        return results

    def silver(self) -> list[dict[str, Any]]:
        """Current rows with their place in the order of changes, but without where and when they arrived."""
        keys = ", ".join(f'"{name}"' for name in self.contract.key)
        columns = ", ".join(f'"{name}"' for name in self.contract.column_names)
        source = scan_sql(ensure_silver(self.catalog, self.contract))
        return self._rows(f"SELECT {columns}, _commit_pos, _lsn FROM {source} WHERE NOT _deleted ORDER BY {keys}")

    def versions(self) -> list[dict[str, Any]]:
        """The intervals of all versions."""
        found = versions_sql(ensure_versions(self.catalog, self.contract), self.contract)
        keys = ", ".join(f'"{name}"' for name in self.contract.key)
        return self._rows(f"SELECT * FROM ({found}) ORDER BY {keys}, valid_from")

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        with closing(connect_alone(self.settings)) as con:
            return con.execute(sql).to_arrow_table().to_pylist()
