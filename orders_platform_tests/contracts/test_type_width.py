"""Which type holds less, and where Iceberg can follow a wider one."""

from __future__ import annotations

import pytest

from orders_platform.contracts.type_width import narrower, spelled, widened


@pytest.mark.parametrize(
    ("kind", "as_postgresql"),
    [
        ("int4", "integer"),
        ("NUMERIC(12, 2)", "numeric(12,2)"),
        ("decimal(5)", "numeric(5,0)"),
        ("timestamptz(3)", "timestamp(3) with time zone"),
        ("timestamp", "timestamp without time zone"),
        ("timestamp with time zone", "timestamp with time zone"),
        ("time(3)", "time(3) without time zone"),
        ("char", "character(1)"),
        ("varchar(20)[]", "character varying(20)[]"),
        ("double precision", "double precision"),
        ("enum", "enum"),
    ],
)
def test_a_type_is_spelled_as_postgresql_does(kind: str, as_postgresql: str) -> None:
    assert spelled(kind) == as_postgresql
    assert spelled(as_postgresql) == as_postgresql


@pytest.mark.parametrize(
    ("seen", "declared", "is_narrower", "is_widened"),
    [
        ("integer", "int4", False, False),
        ("smallint", "integer", True, False),
        ("bigint", "integer", False, True),
        ("real", "double precision", True, False),
        ("double precision", "float4", False, True),
        ("numeric(10,2)", "numeric(12,2)", True, False),
        ("numeric(14,2)", "numeric(12,2)", False, True),
        ("numeric(14,4)", "numeric(12,2)", False, False),
        ("numeric(12,4)", "numeric(12,2)", True, False),
        ("numeric", "numeric(12,2)", False, False),
        ("numeric(12,2)", "numeric", True, False),
        ("varchar(10)", "text", True, False),
        ("text", "varchar(10)", False, False),
        ("timestamptz(3)", "timestamptz", True, False),
        ("text", "integer", False, False),
    ],
)
def test_what_holds_less_and_what_iceberg_promotes(
    seen: str, declared: str, is_narrower: bool, is_widened: bool
) -> None:
    assert narrower(seen, declared) == is_narrower
    assert widened(seen, declared) == is_widened
