"""The front speaks ClickHouse's HTTP interface to ClickHouse's own client, and to several at once."""

from __future__ import annotations

import datetime as dt
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from urllib.parse import quote

import clickhouse_connect
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from orders_platform.settings import Settings

DAY = dt.date(2026, 3, 1)


@pytest.fixture
def client(clickhouse: Settings) -> Iterator[Client]:
    with clickhouse_connect.get_client(dsn=clickhouse.clickhouse) as client:
        yield client


@pytest.fixture
def table(client: Client) -> Iterator[str]:
    """An empty table of days, amounts and names."""
    name = f"t_{uuid.uuid4().hex}"
    client.command(
        f"CREATE TABLE {name} (d Date, n Decimal(14, 2), s String) ENGINE = MergeTree PARTITION BY d ORDER BY s"
    )
    yield name
    client.command(f"DROP TABLE {name}")


@pytest.mark.parametrize("compression", ["lz4", "zstd", "gzip", False])
def test_rows_go_in_and_come_out_as_they_were(clickhouse: Settings, table: str, compression: str | bool) -> None:
    rows = [(DAY, Decimal("12.50"), "ü\n'\\"), (DAY, Decimal("-0.01"), "")]
    with clickhouse_connect.get_client(dsn=clickhouse.clickhouse, compress=compression) as client:
        summary = client.insert(table, rows, column_names=["d", "n", "s"])
        assert summary.written_rows == 2
        assert client.query(f"SELECT * FROM {table} ORDER BY n DESC").result_rows == rows


def test_arrow_tables_go_in_and_come_out(client: Client, table: str) -> None:
    rows = pa.table({"d": [DAY], "n": pa.array([Decimal("2.25")], pa.decimal128(14, 2)), "s": ["arrow"]})
    client.insert_arrow(table, rows)
    assert client.query_arrow(f"SELECT n, s FROM {table}").to_pylist() == [{"n": Decimal("2.25"), "s": "arrow"}]


def test_statements_take_parameters_and_columns_can_be_asked_for(client: Client, table: str) -> None:
    client.insert(table, [(DAY, 1, "it's"), (DAY, 2, "b")], column_names=["d", "n", "s"])
    found = client.query(f"SELECT n FROM {table} WHERE s = {{s:String}}", parameters={"s": "it's"})
    assert found.result_rows == [(Decimal(1),)]
    assert client.query(f"SELECT * FROM {table} LIMIT 0").column_names == ("d", "n", "s")
    long = ["a" * 20_000] * 5
    assert client.query("SELECT {x:Array(String)}", parameters={"x": long}).result_rows == [(long,)]


def test_a_setting_of_one_statement_does_not_stay_and_one_of_the_session_does(client: Client) -> None:
    assert client.command("SELECT getSetting('max_threads')", settings={"max_threads": 7}) == 7
    assert client.command("SELECT getSetting('max_threads')") != 7
    client.command("SET max_threads = 5")
    assert client.command("SELECT getSetting('max_threads')") == 5


def test_errors_carry_clickhouses_codes(client: Client, table: str) -> None:
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE") as unknown:
        client.query("SELECT * FROM no_such_table")
    assert unknown.value.code == 60
    with pytest.raises(DatabaseError, match="has no parts in partition") as refused:
        client.command(f"ALTER TABLE {table} REPLACE PARTITION '{DAY}' FROM {table}")
    assert refused.value.code == 36


def test_many_clients_write_and_read_at_the_same_time(clickhouse: Settings, table: str) -> None:
    def work(number: int) -> None:
        with clickhouse_connect.get_client(dsn=clickhouse.clickhouse) as client:
            for _ in range(10):
                client.insert(table, [(DAY, number, "x")], column_names=["d", "n", "s"])
                client.query(f"SELECT sum(n) FROM {table}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    with clickhouse_connect.get_client(dsn=clickhouse.clickhouse) as client:
        assert client.query(f"SELECT count(), sum(n) FROM {table}").result_rows == [(60, Decimal(150))]


def _get(settings: Settings, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{settings.ports.clickhouse}{path}", headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_it_can_be_asked_by_hand(clickhouse: Settings) -> None:
    assert _get(clickhouse, "/ping") == (200, "Ok.\n")
    assert _get(clickhouse, "/?query=" + quote("SELECT 1, 'a'")) == (200, "1\ta\n")
    assert _get(clickhouse, "/?query=" + quote("SELECT 1 AS x FORMAT JSONEachRow")) == (200, '{"x":1}\n')


def test_a_web_page_is_refused(clickhouse: Settings) -> None:
    status, text = _get(clickhouse, "/?query=SELECT%201", {"Origin": "https://example.com"})
    assert status == 400
    assert "web pages are refused" in text


def test_an_encoding_that_nobody_knows_is_refused(clickhouse: Settings) -> None:
    status, text = _get(clickhouse, "/?query=SELECT%201", {"Content-Encoding": "snail"})
    assert (status, "content encoding 'snail' is not supported" in text) == (400, True)
