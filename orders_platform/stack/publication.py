"""The publication that Debezium reads: whose it is, and whether it has what is needed.

Only an owner of a table may put it into a publication, so a role with no more rights than it needs finds one that the
owner has made; Debezium then must not alter it.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from orders_platform.contracts import Contract
from orders_platform.stack.errors import StackError

PUBLICATION = "orders_platform"
SIGNAL_TABLE = "public.debezium_signal"
GENERATED_COLUMNS_SINCE = 180000
"""PostgreSQL's first version whose publications can carry stored generated columns."""

_TABLES = "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = %s"
_MAY_ALTER = """
    SELECT has_database_privilege(current_database(), 'CREATE')
           AND coalesce((SELECT pg_has_role(pubowner, 'USAGE') FROM pg_publication WHERE pubname = %s), true)
           AND coalesce((SELECT bool_and(pg_has_role(relowner, 'USAGE')) FROM pg_class
                         WHERE oid IN (SELECT to_regclass(name) FROM unnest(%s::text[]) name)), true)
"""


def autocreate_mode(dsn: str, contracts: tuple[Contract, ...], publication: str = PUBLICATION) -> str:
    """Debezium's `publication.autocreate.mode`: `filtered` where our role may make and alter it, else `disabled`.

    Raises:
        StackError: where it may not, and the publication is missing or lacks a table; with the SQL for an owner.
    """
    tables = [(contract.schema, contract.source_table) for contract in contracts]
    schema, _, name = SIGNAL_TABLE.partition(".")
    tables.append((schema, name))
    quoted = {table: sql.Identifier(*table).as_string(None) for table in tables}
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            if connection.execute(_MAY_ALTER, [publication, list(quoted.values())]).fetchone() == (True,):
                return "filtered"
            found = connection.execute("SELECT 1 FROM pg_publication WHERE pubname = %s", [publication]).fetchone()
            published = set(connection.execute(_TABLES, [publication]).fetchall())
            role, new = connection.info.user, connection.info.server_version >= GENERATED_COLUMNS_SINCE
    except psycopg.Error as error:
        raise StackError(f"the publications of the shop's database cannot be read: {error}") from error
    missing = ", ".join(quoted[table] for table in tables if table not in published)
    if found is None:
        generated = " WITH (publish_generated_columns = stored)" if new else ""
        raise StackError(
            f"publication {publication} is not there, and the role {role} may not make it; nothing is lost. "
            f"Have an owner of the tables run: CREATE PUBLICATION {publication} FOR TABLE {missing}{generated}"
        )
    if missing:
        raise StackError(
            f"publication {publication} lacks {missing}, and the role {role} may not alter it; nothing is lost. "
            f"Have its owner run: ALTER PUBLICATION {publication} ADD TABLE {missing}"
        )
    return "disabled"


def publish_generated_columns(dsn: str, publication: str = PUBLICATION) -> None:
    """Has the publication carry stored generated columns, where PostgreSQL can (18 or later) and it does not yet.

    Without it, they are in a snapshot's rows and missing from all later ones. Raises `StackError`.
    """
    change = sql.SQL("ALTER PUBLICATION {} SET (publish_generated_columns = stored)").format(
        sql.Identifier(publication)
    )
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            if connection.info.server_version < GENERATED_COLUMNS_SINCE:
                return
            found = "SELECT pubgencols FROM pg_publication WHERE pubname = %s"
            if connection.execute(found, [publication]).fetchone() != ("s",):
                connection.execute(change)
    except psycopg.errors.InsufficientPrivilege as error:
        raise StackError(
            f"publication {publication} does not carry generated columns, and our role may not alter it ({error}). "
            f"Have its owner run: {change.as_string(None)}"
        ) from error
    except psycopg.Error as error:
        raise StackError(f"publication {publication} cannot be changed: {error}") from error
