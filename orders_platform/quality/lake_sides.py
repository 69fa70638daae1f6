"""The lake's and the dashboards' tables as sides of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError
from duckdb import DuckDBPyConnection
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from orders_platform.contracts import Contract
from orders_platform.lake.duckdb_engine import scan_sql
from orders_platform.lake.evolved import as_wide
from orders_platform.lake.schemas import quoted
from orders_platform.lake.text_form import lake_text, typed_text
from orders_platform.quality import gold_rows
from orders_platform.quality.errors import NotLoadedError
from orders_platform.quality.gold_inputs import INPUTS, GoldInputs
from orders_platform.quality.key_range import EVERYTHING, KeyRange
from orders_platform.quality.sides import QuerySide, RowShape
from orders_platform.serving.client import open_client
from orders_platform.settings import Settings


def silver_side(catalog: Catalog, contract: Contract, within: KeyRange = EVERYTHING) -> QuerySide:
    """Silver's current rows, or those of a range of keys, at its newest snapshot each time."""
    shape = RowShape(contract.key, contract.column_names)
    types = {column.name: column.masked_type for column in contract.columns}

    def query(_: DuckDBPyConnection) -> str:
        rows = scan_sql(load(catalog, contract.silver_table))
        where = f"_deleted IS FALSE AND {within.duckdb(contract)}"
        return f"SELECT {_texts(shape.columns, types)} FROM {rows} WHERE {where}"

    return QuerySide(contract.silver_table, shape, query)


def as_loaded(catalog: Catalog, contract: Contract) -> Contract:
    """The contract with the types that the tables have come to hold; columns that evolved are not compared."""
    try:
        return as_wide(contract, catalog.load_table(contract.bronze_table).schema())
    except NoSuchTableError:
        return contract


def gold_side(catalog: Catalog, identifier: str, shape: RowShape) -> QuerySide:
    """A gold table as readers see it."""

    def query(_: DuckDBPyConnection) -> str:
        return f"SELECT {_texts(shape.columns, gold_rows.TYPES)} FROM {scan_sql(load(catalog, identifier))}"

    return QuerySide(identifier, shape, query)


def expected_facts(settings: Settings, catalog: Catalog, inputs: GoldInputs) -> QuerySide:
    """What gold.fact_orders must hold, from silver."""
    shape = gold_rows.FACT_ORDERS

    def query(_: DuckDBPyConnection) -> str:
        return f"SELECT {_texts(shape.columns, gold_rows.TYPES)} FROM ({_facts(settings, catalog, inputs)})"

    return QuerySide("silver's orders, line_items and customers", shape, query)


def expected_revenue(settings: Settings, catalog: Catalog, inputs: GoldInputs) -> QuerySide:
    """What gold.daily_revenue must hold, from silver."""
    shape = gold_rows.DAILY_REVENUE

    def query(_: DuckDBPyConnection) -> str:
        daily = gold_rows.daily_revenue_sql(_facts(settings, catalog, inputs))
        return f"SELECT {_texts(shape.columns, gold_rows.TYPES)} FROM ({daily})"

    return QuerySide("silver's orders by date, region and currency", shape, query)


def clickhouse_side(settings: Settings) -> QuerySide:
    """The dashboards' table."""
    shape = gold_rows.DAILY_REVENUE

    def query(con: DuckDBPyConnection) -> str:
        columns = _clickhouse_columns(settings, shape.columns)
        con.register("_clickhouse_rows", pa.table(columns))
        typed = ", ".join(f"{_typed(name)} AS {quoted(name)}" for name in shape.columns)
        return f"SELECT {typed} FROM _clickhouse_rows"

    return QuerySide("ClickHouse's daily_revenue", shape, query)


def load(catalog: Catalog, identifier: str) -> Table:
    """The table as it is now.

    Raises:
        NotLoadedError: if it does not exist.
    """
    try:
        return catalog.load_table(identifier)
    except NoSuchTableError:
        raise NotLoadedError(f"{identifier} does not exist yet; load it first: orders-platform sync") from None


def _facts(settings: Settings, catalog: Catalog, inputs: GoldInputs) -> str:
    snapshots = inputs.read() or {}
    orders, lines, customers = (scan_sql(load(catalog, name), snapshots.get(name)) for name in INPUTS)
    return gold_rows.fact_orders_sql(orders, lines, customers, settings.business_time_zone)


def _texts(columns: Sequence[str], types: Mapping[str, str]) -> str:
    return ", ".join(f"{lake_text(name, types[name])} AS {quoted(name)}" for name in columns)


def _typed(name: str) -> str:
    """Text of ClickHouse, which writes decimals without their last zeros, as the text of the column's type."""
    kind = gold_rows.TYPES[name]
    if kind == "string":
        return quoted(name)
    duckdb_type = {"long": "BIGINT"}.get(kind, kind)
    return typed_text(f"CAST({quoted(name)} AS {duckdb_type})", kind)


def _clickhouse_columns(settings: Settings, columns: Sequence[str]) -> dict[str, pa.StringArray]:
    texts = ", ".join(f"toString({name})" for name in columns)
    try:
        with open_client(settings) as client:
            found = client.query(f"SELECT {texts} FROM daily_revenue", column_oriented=True).result_columns
    except ClickHouseError as error:
        raise NotLoadedError(f"ClickHouse's daily_revenue cannot be read: {error}".strip()) from error
    return {name: pa.array(found[position] if found else [], pa.string()) for position, name in enumerate(columns)}
