"""The shop's tables, read from PostgreSQL in one snapshot by COPY: one sequential pass, no sort, no work in SQL."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import psycopg
import pyarrow as pa
import pyarrow.csv as pacsv
from duckdb import DuckDBPyConnection
from psycopg import sql

from orders_platform.contracts import Contract
from orders_platform.lake.schemas import quoted
from orders_platform.lake.shop_keys import key_name, keys_sql
from orders_platform.lake.text_form import postgres_text
from orders_platform.quality.errors import ShopUnreadableError
from orders_platform.quality.key_range import EVERYTHING, KeyRange, postgres_key
from orders_platform.quality.sides import Key, RowShape

_NULL = r"\N"
SIGNAL_TABLE = "public.debezium_signal"
"""Debezium's signal data collection, if the connector has one under this name."""
_BLOCK_BYTES = 4 * 1024 * 1024
_SESSION = (
    "-c timezone=UTC -c datestyle=ISO -c intervalstyle=iso_8601 -c extra_float_digits=1 -c bytea_output=hex"
    " -c default_transaction_read_only=on -c default_transaction_isolation=repeatable\\ read"
    # One core at most, no queue behind somebody's ALTER TABLE, and no old snapshot left behind if this process hangs.
    " -c max_parallel_workers_per_gather=0 -c lock_timeout=10s -c idle_in_transaction_session_timeout=60s"
    " -c application_name=orders-platform-reconcile"
)


@dataclass(frozen=True)
class ShopSnapshot:
    """An open REPEATABLE READ transaction: everything read through it is as of one moment."""

    connection: psycopg.Connection


@contextmanager
def shop_snapshot(dsn: str) -> Iterator[ShopSnapshot]:
    """Opens a snapshot, which holds back PostgreSQL's vacuum until it is closed: keep it short.

    Raises:
        ShopUnreadableError: naming what PostgreSQL said.
    """
    try:
        with psycopg.connect(dsn, options=_SESSION) as connection:
            # The first statement takes the snapshot.
            connection.execute("SELECT 1")
            yield ShopSnapshot(connection)
            connection.rollback()
    except psycopg.Error as error:
        raise _unreadable(error) from error


def row_estimate(snapshot: ShopSnapshot, contract: Contract) -> int:
    """PostgreSQL's own estimate of a table's rows, which costs it nothing; 0 where it has none yet, or no table."""
    name = sql.Identifier(contract.schema, contract.source_table).as_string(snapshot.connection)
    row = snapshot.connection.execute(
        "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass(%s)", [name]
    ).fetchone()
    return int(row[0]) if row else 0


def key_after(snapshot: ShopSnapshot, contract: Contract, first: Key | None, rows: int) -> Key | None:
    """The key that stands `rows` rows behind `first` (the table's start if None); None beyond the table's end.

    PostgreSQL steps through so many entries of the key's index, and reads no row.
    """
    key = postgres_key(contract)
    # Under its own name, the text would be what ORDER BY sorts by.
    texts = sql.SQL(", ").join(
        sql.SQL("{}::text AS {}").format(sql.Identifier(column.source_name), sql.Identifier(f"_text_of_{column.name}"))
        for column in contract.key_columns
    )
    query = sql.SQL("SELECT {} FROM {} WHERE {} ORDER BY {} OFFSET {} LIMIT 1").format(
        texts,
        sql.Identifier(contract.schema, contract.source_table),
        KeyRange(first).postgres(contract),
        key,
        sql.Literal(rows),
    )
    row = snapshot.connection.execute(query).fetchone()
    return tuple(row) if row is not None else None


def mark_present(dsn: str) -> int:
    """The present position of the WAL, as a number; whatever is committed by now was written below it.

    Debezium confirms a position only where it has a record to send, so in a silent shop it would never be seen to pass
    this one. Where its table of signals is there and may be written, a row put there, and taken away, is that record.

    Raises:
        ShopUnreadableError: naming what PostgreSQL said.
    """
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            row = connection.execute(
                "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn,"
                " to_regclass(%(table)s) IS NOT NULL"
                " AND coalesce(has_table_privilege(to_regclass(%(table)s), 'INSERT'), false)"
                " AND coalesce(has_table_privilege(to_regclass(%(table)s), 'DELETE'), false)",
                {"table": SIGNAL_TABLE},
            ).fetchone()
            assert row is not None
            if row[1]:
                marker = uuid4().hex
                with connection.transaction():
                    connection.execute(
                        f"INSERT INTO {SIGNAL_TABLE} (id, type, data) VALUES (%s, 'log', %s)",
                        [marker, '{"message": "reconciliation has come as far as {}"}'],
                    )
                    connection.execute(f"DELETE FROM {SIGNAL_TABLE} WHERE id = %s", [marker])
            return int(row[0])
    except psycopg.Error as error:
        raise _unreadable(error) from error


def confirmed_position(dsn: str) -> int | None:
    """The position that the replication slot which has come least far has confirmed; None where there is no slot.

    Raises:
        ShopUnreadableError: naming what PostgreSQL said.
    """
    with shop_snapshot(dsn) as snapshot:
        row = snapshot.connection.execute(
            "SELECT min(confirmed_flush_lsn) - '0/0'::pg_lsn FROM pg_replication_slots"
            " WHERE database = current_database() AND plugin = 'pgoutput' AND NOT temporary"
        ).fetchone()
    return int(row[0]) if row and row[0] is not None else None


def _unreadable(error: psycopg.Error) -> ShopUnreadableError:
    return ShopUnreadableError(f"The shop's database cannot be read: {error}".strip())


@dataclass(frozen=True)
class ShopSide:
    """A table of the shop, or a range of its keys. Each load takes a snapshot of its own, unless one is `held`.

    `gone` names columns that it no longer has, which `contract` must not name.
    """

    dsn: str
    contract: Contract
    masking_key: bytes = field(repr=False)
    held: ShopSnapshot | None = None
    within: KeyRange = EVERYTHING
    gone: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        lacking = f" (which no longer has {', '.join(self.gone)})" if self.gone else ""
        return f"PostgreSQL's {self.contract.source}{lacking}"

    @property
    def shape(self) -> RowShape:
        return RowShape(self.contract.key, self.contract.column_names)

    def load(self, con: DuckDBPyConnection, target: str, select: str, keys: Sequence[Key] | None = None) -> None:
        if self.held is not None:
            self._load(self.held, con, target, select, keys)
            return
        with shop_snapshot(self.dsn) as snapshot:
            self._load(snapshot, con, target, select, keys)

    def _load(
        self, snapshot: ShopSnapshot, con: DuckDBPyConnection, target: str, select: str, keys: Sequence[Key] | None
    ) -> None:
        texts = ", ".join(
            f"{postgres_text(column, self.masking_key)} AS {quoted(column.name)}" for column in self.contract.columns
        )
        with snapshot.connection.cursor() as cursor, cursor.copy(self._command(snapshot, keys)) as copy:
            con.register("_shop_rows", _reader(copy, self.contract.column_names))
            rows = f"SELECT {texts} FROM _shop_rows"
            con.execute(f"CREATE OR REPLACE TEMP TABLE {quoted(target)} AS SELECT {select} FROM ({rows})")
            con.unregister("_shop_rows")

    def _command(self, snapshot: ShopSnapshot, keys: Sequence[Key] | None) -> sql.Composed:
        table = sql.Identifier(self.contract.schema, self.contract.source_table)
        columns = sql.SQL(", ").join(
            sql.SQL("array_to_json({}) AS {}" if column.is_array else "{} AS {}").format(
                sql.Identifier(column.source_name), sql.Identifier(column.name)
            )
            for column in self.contract.columns
        )
        query = sql.SQL("SELECT {} FROM {}").format(columns, table)
        if keys is not None:
            names = sql.SQL(", ").join(sql.Identifier(column.source_name) for column in self.contract.key_columns)
            given = sql.SQL(", ").join(key_name(i) for i in range(len(self.contract.key)))
            query += sql.SQL(" WHERE ({}) IN (SELECT {} FROM ({}) AS keys)").format(
                names, given, keys_sql(snapshot.connection, self.contract, keys)
            )
        elif not self.within.is_everything:
            query += sql.SQL(" WHERE {}").format(self.within.postgres(self.contract))
        return sql.SQL("COPY ({}) TO STDOUT (FORMAT csv, HEADER, NULL {})").format(query, sql.Literal(_NULL))


class _CopiedBytes(io.RawIOBase):
    """The rows of a COPY as one stream of bytes."""

    def __init__(self, copy: psycopg.Copy) -> None:
        self._copy = copy
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._left:
            self._left = memoryview(self._copy.read())
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


def _reader(copy: psycopg.Copy, columns: Sequence[str]) -> pa.RecordBatchReader:
    """The rows as text, under a header: without it, a table without rows would be no CSV to Arrow.

    What is quoted is a value, even if it reads like PostgreSQL's null; an empty line is an empty text.
    """
    return pacsv.open_csv(
        io.BufferedReader(_CopiedBytes(copy), _BLOCK_BYTES),
        read_options=pacsv.ReadOptions(block_size=_BLOCK_BYTES),
        parse_options=pacsv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()),
            null_values=[_NULL],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
