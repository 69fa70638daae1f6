"""Keys of the lake as PostgreSQL's own values, for queries that look rows of the shop up by key.

A key travels as the text by which the lake compares it (`text_form.lake_text`). PostgreSQL reads it as the type that
its catalogue gives the column, which for enums and domains is a name that no contract knows; so the key's index serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from orders_platform.contracts import Column, Contract


def keys_sql(
    connection: psycopg.Connection[Any], contract: Contract, keys: Sequence[Sequence[str | None]]
) -> sql.Composed:
    """A query of the keys, in the types of the shop's columns: `number` from 1 on in their order, then k0, k1, …"""
    types = column_types(connection, contract)
    numbers = range(len(contract.key))
    values = [
        sql.SQL("{} AS {}").format(
            _value(column, sql.Identifier(f"t{i}"), types.get(column.source_name, column.source_type)), key_name(i)
        )
        for i, column in enumerate(contract.key_columns)
    ]
    texts = [sql.SQL("{}::text[]").format(sql.Literal([key[i] for key in keys])) for i in numbers]
    return sql.SQL("SELECT number, {} FROM unnest({}) WITH ORDINALITY AS given({}, number)").format(
        sql.SQL(", ").join(values),
        sql.SQL(", ").join(texts),
        sql.SQL(", ").join(sql.Identifier(f"t{i}") for i in numbers),
    )


def key_name(i: int) -> sql.Identifier:
    """The name of the key's column of that number in `keys_sql`."""
    return sql.Identifier(f"k{i}")


def _value(column: Column, text: sql.Identifier, kind: str) -> sql.Composed:
    if column.type == "binary":
        form = "decode({}, 'hex')::{}"
    elif column.is_array:
        form = "ARRAY(SELECT json_array_elements_text({}::json))::{}"
    else:
        form = "{}::{}"
    return sql.SQL(form).format(text, sql.SQL(kind))


def column_types(connection: psycopg.Connection[Any], contract: Contract) -> dict[str, str]:
    """PostgreSQL's columns of the table and what it calls their types, without limits, to which a cast would cut.

    Empty if there is no such table.
    """
    table = sql.Identifier(contract.schema, contract.source_table).as_string(connection)
    rows = connection.execute(
        "SELECT attname, format_type(atttypid, -1) FROM pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        [table],
    ).fetchall()
    return {str(name): str(kind) for name, kind in rows}
