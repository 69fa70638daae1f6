"""What a contract says of a source table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from orders_platform.contracts.column_types import canonical_type, has_text_form

_REWRITTEN = ("time", "interval", "numeric", "decimal")
"""Types that are text in the tables, though not the text that Debezium writes."""
_NOT_OF_A_TOPIC = re.compile(r"[^A-Za-z0-9._-]")


class Masking(StrEnum):
    """What silver keeps of a column with personal data."""

    HMAC = "hmac"
    """Hex of the keyed SHA-256 HMAC of the UTF-8 text: equal values stay equal, nothing can be read back."""
    LAST_PART = "last_part"
    """The text behind the last comma, trimmed: the town of an address."""


@dataclass(frozen=True)
class Column:
    """A column of the source table.

    `source_type` is PostgreSQL's (`numeric(12,2)`), `type` the platform's name of it, which is Iceberg's
    (`decimal(12, 2)`). `required` means NOT NULL in the shop; a deleted row has only its key. `physical_name` is what
    PostgreSQL calls it, where that is no name for the tables of the lake. `as_text` keeps PostgreSQL's text of it, also
    of values that the type's place in the tables cannot hold (infinity). `unambiguous` promises that it never holds
    what arrives looking like another value (24:00:00, an infinite interval, an array of several dimensions).
    `former_names` are PostgreSQL's names of it in older events.
    """

    name: str
    source_type: str
    required: bool = False
    description: str = ""
    masking: Masking | None = None
    accepted_values: tuple[str, ...] = ()
    physical_name: str | None = None
    as_text: bool = False
    unambiguous: bool = False
    former_names: tuple[str, ...] = ()

    @property
    def source_name(self) -> str:
        """The column's name in PostgreSQL and in Debezium's events."""
        return self.physical_name or self.name

    @property
    def source_names(self) -> tuple[str, ...]:
        """Its names in events, that of now first."""
        return (self.source_name, *self.former_names)

    @property
    def is_as_it_arrives(self) -> bool:
        """Whether the tables hold what events say of it, and no other form of that."""
        return canonical_type(self.source_type) == "string" and not self.source_type.lower().startswith(_REWRITTEN)

    @property
    def is_array(self) -> bool:
        """Whether PostgreSQL's type is an array, which the tables hold as JSON."""
        return self.source_type.rstrip().endswith("[]")

    @property
    def type(self) -> str:
        """Iceberg's name of the type. Raises `UnsupportedTypeError`."""
        kind = canonical_type(self.source_type)
        return "string" if self.as_text and has_text_form(kind) else kind

    @property
    def masked_type(self) -> str:
        """The type from silver on: masked values are text."""
        return "string" if self.masking else self.type


@dataclass(frozen=True)
class Contract:
    """A source table: its columns in order, key, owner, and what is kept of it.

    `table` is what the platform calls it (tables of the lake, assets), `schema` and `source_table` what PostgreSQL
    does.
    """

    table: str
    schema: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    version: str
    owner: str
    description: str = ""
    history: bool = False
    order_date_column: str | None = None
    latency_minutes: int = 5
    dead_letter_count: int = 10
    dead_letter_share: float = 0.001
    """A day with more dead letters than the count, and with more than the share of its records, stops the table."""
    physical_table: str | None = None

    def column(self, name: str) -> Column:
        """The column of that name. Raises `KeyError`."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.table} has no column {name!r}")

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def key_columns(self) -> tuple[Column, ...]:
        return tuple(self.column(name) for name in self.key)

    @property
    def source_table(self) -> str:
        """The table's name in PostgreSQL, without its schema."""
        return self.physical_table or self.table

    @property
    def source(self) -> str:
        """`schema.table` as PostgreSQL and Debezium's events say it, unquoted."""
        return f"{self.schema}.{self.source_table}"

    @property
    def bronze_table(self) -> str:
        return f"bronze.{self.table}"

    @property
    def silver_table(self) -> str:
        return f"silver.{self.table}"

    @property
    def versions_table(self) -> str | None:
        """The table of all versions, where history is kept."""
        return f"silver.{self.table}_versions" if self.history else None

    def topic(self, prefix: str) -> str:
        """Debezium's topic of the table: `<topic.prefix>.<schema>.<table>`, what Kafka does not take being `_`."""
        return _NOT_OF_A_TOPIC.sub("_", f"{prefix}.{self.source}")
