"""Masked values are the same whether DuckDB computes them over a table or Python one by one."""

from __future__ import annotations

import duckdb
import pytest

from orders_platform.contracts import Column, Masking
from orders_platform.lake.masking import mask_sql, mask_value
from orders_platform.lake.transform import to_duckdb

KEYS = [b"k", b"exactly 64 bytes ".ljust(64, b"x"), b"longer than one block of SHA-256 " * 3]
TEXTS = ["ann@example.com", "", "Ünïcödé 🙂", "Main Street 1, 12345, Berlin ", "no comma", "trailing,", None]


@pytest.mark.parametrize("key", KEYS, ids=["short", "one block", "long"])
@pytest.mark.parametrize("masking", [None, *Masking])
def test_duckdb_and_python_mask_alike(masking: Masking | None, key: bytes) -> None:
    column = Column("c", "text", masking=masking)
    with duckdb.connect() as connection:
        sql = to_duckdb(f"SELECT {mask_sql(column, key, '`c`')} AS m FROM changes")
        for text in TEXTS:
            connection.execute("CREATE OR REPLACE TABLE changes AS SELECT ?::VARCHAR AS c", [text])
            assert connection.execute(sql).fetchone() == (mask_value(masking, key, text),)


def test_another_key_gives_another_pseudonym() -> None:
    assert mask_value(Masking.HMAC, b"a", "x") != mask_value(Masking.HMAC, b"b", "x")


def test_an_address_keeps_its_town_alone() -> None:
    assert mask_value(Masking.LAST_PART, b"", "Main Street 1, 12345, Berlin ") == "Berlin"
    assert mask_value(Masking.LAST_PART, b"", "Main Street 1") is None
