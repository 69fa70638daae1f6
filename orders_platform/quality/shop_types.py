"""Whether PostgreSQL's columns still have the types that the contract says: events without a schema do not tell."""

from __future__ import annotations

from psycopg import sql

from orders_platform.contracts import Contract
from orders_platform.contracts.column_types import UnsupportedTypeError, canonical_type
from orders_platform.contracts.type_width import narrower, spelled
from orders_platform.quality.shop_snapshot import ShopSnapshot

# A domain is declared as what it is made of.
_TYPES = """
    WITH RECURSIVE made_of (attname, attnotnull, type, modifier) AS (
        SELECT attname, attnotnull, atttypid, atttypmod FROM pg_attribute
        WHERE attrelid = to_regclass({}) AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT attname, attnotnull, typbasetype, greatest(typtypmod, modifier) FROM made_of JOIN pg_type ON oid = type
        WHERE typtype = 'd'
    )
    SELECT attname, attnotnull, CASE WHEN typtype = 'e' THEN 'enum' ELSE format_type(oid, modifier) END
    FROM made_of JOIN pg_type ON oid = type WHERE typtype <> 'd'
"""


def altered_columns(snapshot: ShopSnapshot, contract: Contract) -> tuple[str, ...]:
    """In words, the columns of which PostgreSQL's catalogue says something else than the contract; it reads no row.

    A type that no contract can name (an extension's) is declared as another one and cannot be compared.
    """
    name = sql.Identifier(contract.schema, contract.source_table).as_string(snapshot.connection)
    rows = snapshot.connection.execute(sql.SQL(_TYPES).format(sql.Literal(name))).fetchall()
    found = {str(column): (bool(not_null), str(kind)) for column, not_null, kind in rows}
    if not found:
        return ("the table is gone",)
    said = []
    for column in contract.columns:
        if column.source_name not in found:
            said.append(f"{column.source_name} is gone")
            continue
        not_null, kind = found[column.source_name]
        if column.required and not not_null:
            said.append(f"{column.source_name} allows null, in the contract it is required")
        if _has_a_name(kind) and spelled(kind) != spelled(column.source_type):
            word = ": narrowed?" if narrower(kind, column.source_type) else ""
            said.append(f"{column.source_name} is {kind}, in the contract it is {column.source_type}{word}")
    return tuple(said)


def _has_a_name(kind: str) -> bool:
    try:
        canonical_type(kind)
    except UnsupportedTypeError:
        return False
    return True
