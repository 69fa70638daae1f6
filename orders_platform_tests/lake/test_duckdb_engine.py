"""What DuckDB writes, PyIceberg and DuckDB read back, exactly, also after the table's columns have changed."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from multiprocessing.connection import Connection

import duckdb
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.schema import Schema
from pyiceberg.types import DecimalType, LongType, NestedField, StringType

from orders_platform.lake import duckdb_engine
from orders_platform.lake.catalog import TABLE_PROPERTIES, TableSchemaError, ensure_table, open_catalog
from orders_platform.lake.commits import commit, head
from orders_platform.lake.duckdb_engine import connect, live_files, scan_sql, write_files, write_sorted_parts
from orders_platform.lake.schemas import bronze_schema, duckdb_type
from orders_platform.settings import Settings
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.lake.changes import DAY, append, bronze, contract, order, product, read
from orders_platform_tests.waiting import PATIENCE_SECONDS

PRODUCTS = contract("products")


@pytest.fixture
def catalog(settings: Settings) -> Catalog:
    return open_catalog(settings)


def test_nested_columns_decimals_and_times_are_read_back_by_pyiceberg(settings: Settings, catalog: Catalog) -> None:
    error = {"stage": "decode", "error_class": "X", "message": "m", "contract_version": "1"}
    raw = {"key": b"\x00k", "value": None, "headers": "{}"}
    change = product(1, "u", 7, price=Decimal("12345678.91"), _unavailable=["description"], _error=error, _raw=raw)
    append(settings, catalog, PRODUCTS, [change])
    (row,) = bronze(catalog, PRODUCTS).scan().to_arrow().to_pylist()
    assert row["price"] == Decimal("12345678.91")
    assert row["created_at"] == datetime(2026, 3, 1, tzinfo=UTC)
    assert row["_unavailable"] == ["description"]
    assert row["_error"] == error
    assert row["_raw"] == raw


def test_bounds_let_pyiceberg_leave_files_out(settings: Settings, catalog: Catalog) -> None:
    for i in (1, 2, 3):
        append(settings, catalog, PRODUCTS, [product(i, "c", i)])
    files = list(bronze(catalog, PRODUCTS).scan(row_filter="_kafka_offset = 2").plan_files())
    assert len(files) == 1


def test_paths_may_have_spaces(settings: Settings) -> None:
    spaced = new_settings(settings.home / "a folder with spaces")
    catalog = open_catalog(spaced)
    append(spaced, catalog, PRODUCTS, [product(1, "c", 1)])
    assert bronze(catalog, PRODUCTS).scan().to_arrow().num_rows == 1
    assert len(read(spaced, bronze(catalog, PRODUCTS))) == 1


def test_a_row_of_another_partition_is_refused(settings: Settings, catalog: Catalog) -> None:
    append(settings, catalog, PRODUCTS, [product(1, "c", 1)])
    table = bronze(catalog, PRODUCTS)
    with connect(settings) as connection, pytest.raises(ValueError, match="_ingest_day"):
        write_files(connection, table, f"SELECT * FROM {scan_sql(table)}", partition=date(2026, 3, 2))


def test_a_query_without_rows_writes_no_file(settings: Settings, catalog: Catalog) -> None:
    table = bronze(catalog, PRODUCTS)
    with connect(settings) as connection:
        assert write_files(connection, table, f"SELECT * FROM {scan_sql(table)}", partition=DAY) == []


def test_sorted_rows_are_cut_into_files_whose_ranges_do_not_overlap(settings: Settings, catalog: Catalog) -> None:
    schema = Schema(NestedField(1, "id", LongType(), required=False))
    table = ensure_table(catalog, "test.numbers", schema, sort=["id"])
    with connect(settings) as connection:
        numbers = "SELECT (hash(i) % 1000000)::BIGINT AS id FROM range(300000) t(i)"
        files = write_sorted_parts(connection, table, numbers, ["id"], parts=6)
    bounds = sorted(
        (int.from_bytes(f.lower_bounds[1], "little"), int.from_bytes(f.upper_bounds[1], "little")) for f in files
    )
    assert [file.record_count for file in files] == [50_000] * 6
    assert all(high <= low for (_, high), (low, _) in pairwise(bounds))


def test_a_new_column_reads_as_null_in_old_files_and_a_renamed_one_keeps_its_values(
    settings: Settings, catalog: Catalog
) -> None:
    first = Schema(NestedField(1, "id", LongType(), required=False), NestedField(2, "a", LongType(), required=False))
    table = ensure_table(catalog, "test.evolving", first)
    with connect(settings) as connection:
        new = write_files(connection, table, "SELECT 1 AS id, 2 AS a")
        commit(table, expected=head(table), add=new, summary={})
        with table.update_schema() as update:
            update.rename_column("a", "b")
        wider = Schema(*(NestedField(i, n, LongType(), required=False) for i, n in enumerate(("id", "b", "c"), 1)))
        table = ensure_table(catalog, "test.evolving", wider)
        assert connection.execute(f"SELECT id, b, c FROM {scan_sql(table)}").fetchall() == [(1, 2, None)]


def test_a_column_of_another_type_is_refused_by_name(catalog: Catalog) -> None:
    ensure_table(catalog, "test.typed", Schema(NestedField(1, "id", LongType(), required=False)))
    with pytest.raises(TableSchemaError, match=r"test\.typed"):
        ensure_table(catalog, "test.typed", Schema(NestedField(1, "id", StringType(), required=False)))


def test_a_decimal_of_another_scale_is_refused_and_one_with_more_digits_is_not(catalog: Catalog) -> None:
    def priced(precision: int, scale: int) -> Schema:
        return Schema(NestedField(1, "price", DecimalType(precision, scale), required=False))

    ensure_table(catalog, "test.priced", priced(6, 2))
    for precision in (6, 12):
        with pytest.raises(TableSchemaError, match=r"test\.priced: column price is decimal\(6, 2\)"):
            ensure_table(catalog, "test.priced", priced(precision, 4))
    wide = ensure_table(catalog, "test.priced", priced(9, 2))
    assert wide.schema().find_field("price").field_type == DecimalType(9, 2)
    assert ensure_table(catalog, "test.priced", priced(6, 2)).metadata_location == wide.metadata_location


def test_tables_have_their_properties_from_the_first_commit_on(catalog: Catalog) -> None:
    properties = dict(bronze(catalog, PRODUCTS).properties)
    assert {k: v for k, v in TABLE_PROPERTIES.items() if k != "format-version"}.items() <= properties.items()


def test_ensuring_a_table_twice_changes_nothing(catalog: Catalog) -> None:
    before = bronze(catalog, PRODUCTS).metadata_location
    assert bronze(catalog, PRODUCTS).metadata_location == before


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("decimal(12, 2)", "DECIMAL(12,2)"), ("timestamptz", "TIMESTAMPTZ"), ("long", "BIGINT"), ("binary", "BLOB")],
)
def test_types_have_duckdbs_names(name: str, wanted: str) -> None:
    assert duckdb_type(name) == wanted


def test_nested_types_have_duckdbs_names() -> None:
    schema = bronze_schema(PRODUCTS)
    assert duckdb_type(schema.find_field("_unavailable").field_type) == "VARCHAR[]"
    assert duckdb_type(schema.find_field("_raw").field_type) == 'STRUCT("key" BLOB, "value" BLOB, "headers" VARCHAR)'


def test_two_processes_may_open_a_new_catalog_at_once(settings: Settings) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        tables = list(pool.map(lambda _: bronze(open_catalog(settings), contract("orders")), range(4)))
    assert len({str(table.metadata.table_uuid) for table in tables}) == 1
    append(settings, open_catalog(settings), contract("orders"), [order(1, "c", 1)])
    assert len(live_files(bronze(open_catalog(settings), contract("orders")))) == 1


def test_sessions_of_a_process_see_nothing_of_each_other(settings: Settings) -> None:
    with connect(settings) as one, connect(settings) as other:
        one.execute("CREATE TEMP TABLE own AS SELECT 1 AS a; SET TimeZone = 'Asia/Tokyo'")
        with pytest.raises(duckdb.CatalogException, match="own"):
            other.execute("FROM own")
        assert other.execute("SELECT current_setting('TimeZone')").fetchall() == [("UTC",)]
    with connect(settings) as later, pytest.raises(duckdb.CatalogException, match="own"):
        later.execute("FROM own")


def test_a_database_that_an_error_has_closed_is_opened_anew(settings: Settings) -> None:
    with connect(settings):
        for database in duckdb_engine._shared.values():
            database.close()
    with connect(settings) as con:
        assert con.execute("SELECT 1").fetchall() == [(1,)]


def test_a_forked_process_has_a_database_of_its_own(settings: Settings) -> None:
    """Threads of a database do not come along into a fork: its queries would wait for them for ever."""
    with connect(settings) as con:
        con.execute("SELECT sum(range) FROM range(1000000)")
    context = multiprocessing.get_context("fork")
    answers, sender = context.Pipe(duplex=False)
    forked = context.Process(target=_send_sum, args=(settings, sender))
    forked.start()
    try:
        assert answers.poll(PATIENCE_SECONDS)
        assert answers.recv() == 499_999_500_000
    finally:
        forked.kill()  # what else was forked with it may keep it from ending
        forked.join()


def _send_sum(settings: Settings, sender: Connection) -> None:
    with connect(settings) as con:
        (found,) = con.execute("SELECT sum(range) FROM range(1000000)").fetchall()[0]
    sender.send(int(found))
