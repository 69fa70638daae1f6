"""Somebody's own PostgreSQL: `up` works with the rights that the README lists, and with its encryption."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from orders_platform.contracts import load_contracts
from orders_platform.settings import Settings
from orders_platform.stack import StackError, down, up
from orders_platform.stack.connect_rest import ConnectRest
from orders_platform.stack.connector import request_snapshot
from orders_platform.stack.debezium import CONNECTOR, connector_config, create_signal_table, what_stays
from orders_platform.stack.publication import autocreate_mode, publish_generated_columns
from orders_platform.stack.shop import apply_schema
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.stack.topic_records import records

CONTRACTS = load_contracts()
README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
(RIGHTS,) = re.findall(r"```sql\n(CREATE ROLE .*?)```", README, re.DOTALL)
ROLE = "shop_reader"
CUSTOMER = "INSERT INTO customers VALUES (%s, 'a@b.c', 'A', NULL, NULL, 'EU', now(), now())"


def _statements() -> list[str]:
    without_comments = re.sub(r"--.*", "", RIGHTS)
    return [statement.strip() for statement in without_comments.split(";") if statement.strip()]


@pytest.fixture
def owner(shop_dsn: str) -> Iterator[str]:
    """A database with the shop's tables, as their owner sees it; the role goes with it."""
    apply_schema(shop_dsn)
    yield shop_dsn
    with psycopg.connect(shop_dsn, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone():
            connection.execute(sql.SQL("DROP OWNED BY {0}").format(sql.Identifier(ROLE)))
            connection.execute(sql.SQL("DROP ROLE {0}").format(sql.Identifier(ROLE)))


def _run(owner: str, *statements: str) -> None:
    with psycopg.connect(owner, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def _reader(owner: str) -> str:
    return owner.replace("//shop@", f"//{ROLE}@")


@pytest.fixture
def foreign(owner: str, new_home: Callable[[str], Path]) -> Iterator[Settings]:
    """A stack on that database, as the role of the README; ClickHouse is not needed here."""
    _run(owner, *_statements())
    settings = new_settings(new_home("own postgres"), postgres_dsn=_reader(owner), clickhouse_url="http://127.0.0.1:9")
    try:
        yield settings
    finally:
        down(settings, print)
        _run(owner, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


def test_up_needs_no_more_than_the_rights_of_the_readme(owner: str, foreign: Settings) -> None:
    with psycopg.connect(owner) as connection:
        connection.execute(CUSTOMER, [1])
    up(foreign, print)
    with psycopg.connect(owner) as connection:
        connection.execute(CUSTOMER, [2])
    request_snapshot(foreign.postgres, ["public.customers"])
    # Read twice: by the initial snapshot, and by the one that was asked for.
    wanted = [(1, "r"), (1, "r"), (2, "c"), (2, "r")]
    records(foreign, "customers", lambda found: sorted((r.key["customer_id"], r.value["op"]) for r in found) == wanted)
    config = ConnectRest(foreign).config(CONNECTOR)
    assert config is not None
    assert config["publication.autocreate.mode"] == "disabled"
    up(foreign, print)  # nothing is made or altered that is there already
    down(foreign, print)
    said = what_stays(foreign)
    assert said is not None
    (command,) = re.findall(r"SELECT pg_drop_replication_slot\(.*?\);", said)
    with psycopg.connect(foreign.postgres, autocommit=True) as connection:
        slots = "SELECT count(*) FROM pg_replication_slots"
        assert connection.execute(slots).fetchone() == (1,)
        connection.execute(command.encode())
        assert connection.execute(slots).fetchone() == (0,)


def test_without_them_each_is_named_with_the_sql_that_gives_it(owner: str) -> None:
    reader = _reader(owner)
    create_role, usage, select, signal_table, signal_rights, publication = _statements()
    _run(owner, create_role, usage, select)
    with pytest.raises(StackError, match="debezium_signal is not there, and our role may not make it") as error:
        create_signal_table(reader)
    assert f"GRANT SELECT, INSERT, DELETE ON public.debezium_signal TO {ROLE}" in str(error.value)
    _run(owner, signal_table, signal_rights)
    create_signal_table(reader)
    with pytest.raises(StackError, match="publication orders_platform is not there") as error:
        autocreate_mode(reader, CONTRACTS)
    (advice,) = re.findall(r"CREATE PUBLICATION .*", str(error.value))
    _run(owner, advice)
    assert autocreate_mode(reader, CONTRACTS) == "disabled"
    publish_generated_columns(reader)
    _run(owner, "ALTER PUBLICATION orders_platform DROP TABLE public.orders")
    with pytest.raises(StackError, match=r'lacks "public"\."orders"') as error:
        autocreate_mode(reader, CONTRACTS)
    (advice,) = re.findall(r"ALTER PUBLICATION .*", str(error.value))
    _run(owner, advice, "ALTER PUBLICATION orders_platform SET (publish_generated_columns = none)")
    assert autocreate_mode(reader, CONTRACTS) == "disabled"
    with pytest.raises(StackError, match="does not carry generated columns") as error:
        publish_generated_columns(reader)
    (advice,) = re.findall(r"ALTER PUBLICATION .*", str(error.value))
    _run(owner, advice)
    publish_generated_columns(reader)
    _run(owner, "DROP PUBLICATION orders_platform", publication)
    assert autocreate_mode(reader, CONTRACTS) == "disabled"


def test_who_owns_the_tables_has_debezium_make_its_publication(owner: str) -> None:
    assert autocreate_mode(owner, CONTRACTS) == "filtered"
    create_signal_table(owner)
    create_signal_table(owner)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("", {}),
        ("?sslmode=verify-full", {"sslmode": "verify-full"}),
        (
            "?sslmode=verify-ca&sslrootcert=/etc/ca.pem&sslcert=/etc/c.pem&sslkey=/etc/c.pk8&sslpassword=p",
            {
                "sslmode": "verify-ca",
                "sslrootcert": "/etc/ca.pem",
                "sslcert": "/etc/c.pem",
                "sslkey": "/etc/c.pk8",
                "sslpassword": "p",
            },
        ),
        (
            "?sslmode=verify-full&sslrootcert=system",
            {"sslmode": "verify-full", "sslfactory": "org.postgresql.ssl.DefaultJavaSSLFactory"},
        ),
    ],
)
def test_the_encryption_of_the_dsn_is_the_connectors(settings: Settings, asked: str, given: dict[str, str]) -> None:
    elsewhere = settings.model_copy(update={"postgres_dsn": f"postgresql://me@db.example.com/shop{asked}"})
    config = connector_config(elsewhere, CONTRACTS, "initial")
    assert {name: value for name, value in config.items() if name.startswith("database.ssl")} == {
        f"database.{name}": value for name, value in given.items()
    }
