"""What a contract promises, as Great Expectations: required columns, accepted values, the key.

The library takes seconds to import and is an extra (`orders-platform[quality]`): it is loaded where it is used.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

from pyiceberg.catalog import Catalog

from orders_platform.contracts import Contract
from orders_platform.lake.duckdb_engine import connect, scan_sql
from orders_platform.lake.outcome import CheckOutcome
from orders_platform.lake.schemas import column_list
from orders_platform.quality.lake_sides import load
from orders_platform.settings import Settings

LARGEST_SAMPLE = 1_000_000
"""Rows that are validated at most: they are held in memory."""

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite
    from great_expectations.core import ExpectationValidationResult


def expectations(contract: Contract) -> ExpectationSuite:
    """The suite for the current rows of a contract's silver table."""
    _say_nothing_to_others()
    from great_expectations import ExpectationSuite
    from great_expectations.expectations.core.expect_column_values_to_be_in_set import ExpectColumnValuesToBeInSet
    from great_expectations.expectations.core.expect_column_values_to_be_unique import ExpectColumnValuesToBeUnique
    from great_expectations.expectations.core.expect_column_values_to_not_be_null import ExpectColumnValuesToNotBeNull
    from great_expectations.expectations.core.expect_compound_columns_to_be_unique import (
        ExpectCompoundColumnsToBeUnique,
    )
    from great_expectations.expectations.expectation import Expectation

    found: list[Expectation] = []
    for column in contract.columns:
        if column.required:
            found.append(ExpectColumnValuesToNotBeNull(column=column.name))
        if column.accepted_values:
            values = list(column.accepted_values)
            found.append(ExpectColumnValuesToBeInSet(column=column.name, value_set=values))
    if len(contract.key) == 1:
        found.append(ExpectColumnValuesToBeUnique(column=contract.key[0]))
    else:
        found.append(ExpectCompoundColumnsToBeUnique(column_list=list(contract.key)))
    return ExpectationSuite(name=contract.silver_table, expectations=found)


def check_expectations(
    settings: Settings, catalog: Catalog, contract: Contract, snapshot_id: int | None = None
) -> CheckOutcome:
    """Validates the current rows of a silver snapshot (main's head by default), of many a random `LARGEST_SAMPLE`.

    Raises:
        NotLoadedError: silver has no such table yet.
        ImportError: Great Expectations is not installed.
    """
    _say_nothing_to_others()
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    suite = expectations(contract)
    columns = column_list(
        column.name
        for column in contract.columns
        if column.required or column.accepted_values or column.name in contract.key
    )
    with closing(connect(settings)) as con:
        rows = scan_sql(load(catalog, contract.silver_table), snapshot_id)
        current = f"SELECT {columns} FROM {rows} WHERE _deleted IS FALSE"
        frame = con.execute(f"SELECT * FROM ({current}) USING SAMPLE reservoir({LARGEST_SAMPLE} ROWS)").df()
    asset = context.data_sources.add_pandas("silver").add_dataframe_asset(contract.table)
    batch = asset.add_batch_definition_whole_dataframe("rows").get_batch({"dataframe": frame})
    results = batch.validate(suite).results
    broken = [_sentence(result) for result in results if not result.success]
    return CheckOutcome(
        passed=not broken,
        description="; ".join(broken) or f"{len(results)} expectations met by {len(frame)} rows",
        metadata={"rows": len(frame), "expectations": len(results), "broken": len(broken)},
    )


def _sentence(result: ExpectationValidationResult) -> str:
    configuration = result.expectation_config
    assert configuration is not None
    columns = configuration.kwargs.get("column") or ", ".join(configuration.kwargs.get("column_list", ()))
    return f"{configuration.type} of {columns}: {result.result.get('unexpected_count', 'some')} rows break it"


def _say_nothing_to_others() -> None:
    """Great Expectations reports its use to its makers unless told not to, before it is imported."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
