"""Case 31: what evolves by itself evolves. The shop adds columns and widens types, and a real Debezium captures it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table import Table

from orders_platform.contracts import Column, Masking
from orders_platform.fault_points import VARIABLE, FaultPoint
from orders_platform.ingest.backlog import unread
from orders_platform.ingest.bronze import bronze_table, load_day
from orders_platform.ingest.dead_letter_fate import replay
from orders_platform.ingest.dead_letters import Selection, list_dead_letters
from orders_platform.ingest.ledger import Ledger
from orders_platform.ingest.ledger_rebuild import rebuild
from orders_platform.ingest.placeholder import PLACEHOLDER
from orders_platform.ingest.staging import stage_day
from orders_platform.lake.audit import check_silver
from orders_platform.lake.evolved import evolve, evolved_fields
from orders_platform.quality.shop_snapshot import shop_snapshot
from orders_platform.quality.shop_types import altered_columns
from orders_platform.settings import Settings
from orders_platform_tests.cases.captured import Capture, capturing, write_contract
from orders_platform_tests.ingest.events import keep_clear_of_midnight

COLUMNS = {
    "key": "int",
    "name": {"physicalType": "text", "required": True},
    "amount": "integer",
    "rate": "real",
    "price": "numeric(6,2)",
}
DDL = "key int PRIMARY KEY, name text NOT NULL, amount int, rate real, price numeric(6,2)"
ROW = "'a', 1, 0.5, 1.00"
LONG = "(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 400) g)"
NUMBERS = "(SELECT array_agg((random() * 2000000000)::int) FROM generate_series(1, 2000))"
MANY = "(SELECT array_agg(gen_random_uuid()) FROM generate_series(1, 500))"
ALTERED = {
    "added": "ALTER TABLE added ADD extra text, ADD long text, ADD numbers int[], ADD ids uuid[], ADD doc jsonb,"
    f" ADD raw bytea; INSERT INTO added VALUES (2, {ROW}, 'new', {LONG}, {NUMBERS}, {MANY}, '{{\"a\": [1, 2]}}',"
    f" decode({LONG}, 'hex')); UPDATE added SET extra = 'newer' WHERE key = 2",
    "secret": f"ALTER TABLE secret ADD phone text; INSERT INTO secret VALUES (2, {ROW}, '+49 30 1')",
    "retyped": f"ALTER TABLE retyped ADD extra int; INSERT INTO retyped VALUES (2, {ROW}, 7)",
    "veiled": f"ALTER TABLE veiled ADD phone text; INSERT INTO veiled VALUES (2, {ROW}, '+49 30 1')",
    "clashing": 'ALTER TABLE clashing ADD _lsn int, ADD "Quantity" text, ADD valid_to text, ADD "a b" int,'
    f" ADD extra text; INSERT INTO clashing VALUES (2, {ROW}, 1, 'N', 'v', 3, 'fine')",
    "widened": "ALTER TABLE widened ALTER amount TYPE bigint, ALTER rate TYPE double precision,"
    " ALTER price TYPE numeric(9,2); INSERT INTO widened VALUES"
    " (2, 'b', 5000000000, 0.1234567890123, 1.00), (3, 'c', 1, 1e300, 1234567.89)",
    "absurd": "ALTER TABLE absurd ALTER price TYPE numeric; INSERT INTO absurd VALUES"
    f" (2, 'b', 1, 1, 1e40::numeric(60,2)), (3, 'c', 1, 1, 1.234), (4, {ROW})",
    "raced": f"ALTER TABLE raced ADD extra text, ALTER amount TYPE bigint; INSERT INTO raced VALUES (2, {ROW}, 'new');"
    " UPDATE raced SET amount = 5000000000 WHERE key = 2",
    "killed": f"ALTER TABLE killed ADD extra text; INSERT INTO killed VALUES (2, {ROW}, 'new')",
    "as_before": f"INSERT INTO as_before VALUES (2, {ROW})",
}


@pytest.fixture(scope="module")
def capture(live_stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Capture]:
    """A table a kind of change, each with a row before it and others after it; all captured, none of it loaded."""
    folder = tmp_path_factory.mktemp("contracts")
    ddl = ""
    for table in ALTERED:
        masked = {"masking": "hmac"} if table == "secret" else {}
        name = {**COLUMNS["name"], "customProperties": [{"property": p, "value": v} for p, v in masked.items()]}
        columns = {**COLUMNS, "name": name}
        if table == "clashing":
            columns["quantity"] = {"physicalType": columns.pop("amount"), "physicalName": "amount"}
        history = table in ("added", "clashing", "veiled")
        write_contract(folder, table, table, columns, ["key"], history=history)
        ddl += f"CREATE TABLE {table} ({DDL}); INSERT INTO {table} VALUES (0, {ROW});"
    keep_clear_of_midnight()  # two tests load the one day that there is
    with capturing(live_stack, tmp_path_factory.mktemp("evolution"), "evolution", ddl, folder) as capture:
        with capture.shop() as shop:
            for table, change in ALTERED.items():
                shop.execute(f"INSERT INTO {table} VALUES (1, {ROW})".encode())
                for statement in change.split(";"):
                    shop.execute(statement.encode())
        capture.wait()
        yield capture


def column(capture: Capture, table: str, name: str) -> list[Any]:
    return [row[name] for row in capture.silver(table)]


def types(table: Table) -> dict[str, str]:
    return {field.name: str(field.field_type) for field in table.schema().fields if not field.name.startswith("_")}


def bronze(capture: Capture, table: str) -> Table:
    return bronze_table(capture.catalog, capture.contracts[table])


def shown(capture: Capture, table: str) -> str:
    """Everything that a reader of the tables may see."""
    contract = capture.contracts[table]
    seen = [capture.silver(table), capture.bronze(table, where="_error IS NULL")]
    if contract.versions_table:
        seen.append(capture._rows(contract.versions_table, "*", "true", "key"))
    return str(seen)


def test_case_31_an_added_column_evolves_by_itself(capture: Capture) -> None:
    """In bronze, silver and versions, as the text that arrived; reported once; the placeholder is nowhere."""
    capture.load("added")
    (load,) = (each for each in capture.loads["added"] if each.rows)
    assert str(load.drift) == "added doc, extra, ids, long, numbers, raw"
    assert load.drift_is_new
    assert str(Ledger.read(bronze(capture, "added")).drift) == str(load.drift)
    assert column(capture, "added", "extra") == [None, None, "newer"]
    assert column(capture, "added", "doc") == [None, None, '{"a": [1, 2]}']
    with capture.shop() as shop:
        (long, numbers, ids, raw) = shop.execute(
            "SELECT long, array_to_json(numbers)::text, array_to_json(ids)::text,"
            " translate(encode(raw, 'base64'), E'\\n', '') FROM added WHERE key = 2"
        ).fetchall()[0]
    (found,) = capture.silver("added", "long, numbers, ids, raw", "key = 2")
    assert found == {"long": long, "numbers": numbers, "ids": ids, "raw": raw}
    assert PLACEHOLDER not in shown(capture, "added")
    (unavailable,) = capture.bronze("added", "_unavailable", "_op = 'u'")
    assert sorted(unavailable["_unavailable"]) == ["ids", "long", "numbers", "raw"]
    versions = capture.catalog.load_table(str(capture.contracts["added"].versions_table))
    assert types(versions)["extra"] == "string"
    assert capture.compare("added").equal
    assert check_silver(capture.settings, capture.catalog, capture.contracts["added"]).passed


def test_case_31_a_column_that_evolved_goes_on_when_the_contract_takes_it_up_as_text(capture: Capture) -> None:
    contract = capture.contracts["added"]
    capture.contracts["added"] = replace(contract, columns=(*contract.columns, Column("extra", "text")))
    with capture.shop() as shop:
        shop.execute(f"INSERT INTO added VALUES (4, {ROW}, 'declared')".encode())
    capture.wait()
    capture.load("added")
    assert column(capture, "added", "extra") == [None, None, "newer", "declared"]
    assert capture.compare("added").equal
    assert "extra" not in {field.name for field in evolved_fields(bronze(capture, "added").schema())}
    assert "extra" not in str(Ledger.read(bronze(capture, "added")).drift)
    assert capture.loads["added"][-1].drift_is_new


def test_case_31_a_column_taken_out_of_the_contract_does_not_come_back_by_itself(capture: Capture) -> None:
    """Its name may stand for personal data; the column stays, null from then on."""
    contract = capture.contracts["added"]
    capture.contracts["added"] = replace(contract, columns=contract.columns[:-1])
    with capture.shop() as shop:
        shop.execute(f"INSERT INTO added VALUES (5, {ROW}, 'not wanted')".encode())
    capture.wait()
    capture.load("added")
    assert column(capture, "added", "extra") == [None, None, "newer", "declared", None]
    assert "waiting extra (it was taken out of the contract)" in str(capture.loads["added"][-1].drift)
    assert check_silver(capture.settings, capture.catalog, capture.contracts["added"]).passed


def test_case_31_a_new_column_of_a_table_with_personal_data_stays_in_bronze(capture: Capture) -> None:
    capture.load("secret")
    assert [row["phone"] for row in capture.bronze("secret")] == [None, None, "+49 30 1"]
    assert "+49 30 1" not in str(capture.silver("secret"))
    assert "phone" not in types(capture.catalog.load_table("silver.secret"))
    contract = capture.contracts["secret"]
    phone = Column("phone", "text", masking=Masking.HMAC)
    capture.contracts["secret"] = replace(contract, columns=(*contract.columns, phone))
    with capture.shop() as shop:
        shop.execute(f"INSERT INTO secret VALUES (3, {ROW}, '+49 30 2')".encode())
    capture.wait()
    capture.load("secret")
    assert "+49" not in str(capture.silver("secret"))
    (row,) = capture.silver("secret", "phone", "key = 3")
    assert len(row["phone"]) == 64
    assert [row["phone"] for row in capture.bronze("secret")] == [None, None, "+49 30 1", "+49 30 2"]


def test_case_31_clear_text_goes_out_of_silver_when_the_contract_masks_it(capture: Capture) -> None:
    capture.load("veiled")
    assert column(capture, "veiled", "phone") == [None, None, "+49 30 1"]
    contract = capture.contracts["veiled"]
    phone = Column("phone", "text", masking=Masking.HMAC)
    capture.contracts["veiled"] = replace(contract, columns=(*contract.columns, phone))
    with capture.shop() as shop:
        shop.execute(f"INSERT INTO veiled VALUES (3, {ROW}, '+49 30 2')".encode())
    capture.wait()
    capture.load("veiled")
    assert "+49" not in str(capture.silver("veiled"))
    assert "+49" not in str(capture._rows("silver.veiled_versions", "*", "true", "key"))
    assert [row["phone"] for row in capture.bronze("veiled")] == [None, None, "+49 30 1", "+49 30 2"]


def test_case_31_a_contract_that_gives_an_evolved_column_a_type_keeps_its_text_beside_it(capture: Capture) -> None:
    capture.load("retyped")
    assert column(capture, "retyped", "extra") == [None, None, "7"]
    contract = capture.contracts["retyped"]
    capture.contracts["retyped"] = replace(contract, columns=(*contract.columns, Column("extra", "integer")))
    with capture.shop() as shop:
        shop.execute(f"INSERT INTO retyped VALUES (3, {ROW}, 8)".encode())
    capture.wait()
    capture.load("retyped")
    for rows in (capture.silver("retyped"), capture.bronze("retyped")):
        assert [row["extra"] for row in rows] == [None, None, None, 8]
        assert [row["extra_before"] for row in rows] == [None, None, "7", None]
    assert check_silver(capture.settings, capture.catalog, capture.contracts["retyped"]).passed
    with capture.shop() as shop:
        shop.execute(b"UPDATE retyped SET name = 'b' WHERE key = 2")
    capture.wait()
    capture.load("retyped")
    assert capture.compare("retyped").equal
    assert [row["extra_before"] for row in capture.bronze("retyped")] == [None, None, "7", None, None]


def test_case_31_new_columns_whose_names_are_taken_wait_and_break_nothing(capture: Capture) -> None:
    capture.load("clashing")
    drift = str(capture.loads["clashing"][-1].drift)
    assert drift.startswith("added extra; waiting Quantity (the tables have quantity), _lsn (a name is letters")
    assert "valid_to (the name is taken)" in drift
    assert "a b (a name is letters, digits and _" in drift
    assert column(capture, "clashing", "extra") == [None, None, "fine"]
    assert capture.compare("clashing").equal
    contract = capture.contracts["clashing"]
    capture.contracts["clashing"] = replace(
        contract, columns=(*contract.columns, Column("surname", "text", physical_name="Quantity"))
    )
    with capture.shop() as shop:
        shop.execute(b"UPDATE clashing SET amount = 9 WHERE key = 2")
    capture.wait()
    capture.load("clashing")
    assert column(capture, "clashing", "surname") == [None, None, "N"]


def test_case_31_a_widened_type_evolves_by_the_first_value_that_proves_it(capture: Capture) -> None:
    capture.load("widened")
    (load,) = (each for each in capture.loads["widened"] if each.rows)
    assert str(load.drift) == "widened amount to bigint, price to numeric(9,2), rate to double precision"
    assert (load.drift_is_new, load.dead) == (True, 0)
    wide = {"amount": "long", "rate": "double", "price": "decimal(9, 2)"}
    for table in (bronze(capture, "widened"), capture.catalog.load_table("silver.widened")):
        assert {name: types(table)[name] for name in wide} == wide
    assert column(capture, "widened", "amount") == [1, 1, 5000000000, 1]
    assert column(capture, "widened", "rate")[2:] == [0.1234567890123, 1e300]
    assert capture.compare("widened").equal
    assert check_silver(capture.settings, capture.catalog, capture.contracts["widened"]).passed
    with shop_snapshot(capture.settings.postgres) as snapshot:
        said = altered_columns(snapshot, capture.contracts["widened"])
    assert said[0] == "amount is bigint, in the contract it is integer"


def test_case_31_a_contract_that_is_as_wide_at_last_changes_nothing(capture: Capture) -> None:
    contract = capture.contracts["widened"]
    wide = {"amount": "bigint", "rate": "double precision", "price": "numeric(9,2)"}
    columns = tuple(replace(c, source_type=wide.get(c.name, c.source_type)) for c in contract.columns)
    capture.contracts["widened"] = replace(contract, columns=columns)
    with capture.shop() as shop:
        shop.execute(b"UPDATE widened SET amount = -5000000000 WHERE key = 2")
    capture.wait()
    capture.load("widened")
    assert str(capture.loads["widened"][-1].drift) == ""
    assert capture.compare("widened").equal
    with shop_snapshot(capture.settings.postgres) as snapshot:
        assert altered_columns(snapshot, capture.contracts["widened"]) == ()


def test_case_31_a_value_that_no_promotion_holds_is_a_dead_letter_and_alters_nothing(capture: Capture) -> None:
    """Too many digits for any decimal, and digits behind the point: replayed, they stay what they are."""
    capture.load("absurd")
    letters = list_dead_letters(capture.settings, capture.catalog, capture.contracts["absurd"])
    assert [letter.error_class for letter in letters] == ["ValueOutOfRange"] * 2
    assert types(bronze(capture, "absurd"))["price"] == "decimal(6, 2)"
    assert column(capture, "absurd", "key") == [0, 1, 4]
    fate = replay(capture.settings, capture.catalog, capture.contracts["absurd"], Selection())
    assert (fate.left, fate.rows) == (2, 0)


def test_case_31_two_loads_that_evolve_at_once_end_in_one_table(
    capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each finds the other's schema when it commits its own, and the other's rows when it commits its own."""
    from orders_platform.ingest import evolution

    contract = capture.contracts["raced"]
    (day,) = unread(capture.settings, capture.catalog, contract).days
    stage_day(capture.settings, contract, day)
    began: list[str] = []
    raced: list[int] = []

    def overtaken(table: Table, added: Any, widened: Any) -> None:
        what = "widened" if widened else "added" if added else ""
        if what and what not in began:
            began.append(what)
            raced.append(load_day(capture.settings, capture.catalog, contract, day).rows)
        evolve(table, added, widened)

    monkeypatch.setattr(evolution, "evolve", overtaken)
    mine = load_day(capture.settings, capture.catalog, contract, day)
    assert sorted(began) == ["added", "widened"]
    assert mine.rows + sum(raced) == 4
    assert types(bronze(capture, "raced"))["amount"] == "long"
    assert [field.name for field in evolved_fields(bronze(capture, "raced").schema())] == ["extra"]
    capture.load("raced")
    assert column(capture, "raced", "extra") == [None, None, "new"]
    assert column(capture, "raced", "amount") == [1, 1, 5000000000]


LOAD_AND_DIE = """
import sys
from datetime import date
from pathlib import Path
from orders_platform.contracts import load_contracts
from orders_platform.ingest.bronze import load_day
from orders_platform.lake.catalog import open_catalog
from orders_platform.settings import Settings
settings = Settings.model_validate_json(sys.argv[1])
(contract,) = [each for each in load_contracts(Path(sys.argv[2])) if each.table == "killed"]
load_day(settings, open_catalog(settings), contract, date.fromisoformat(sys.argv[3]))
"""


def test_case_31_a_kill_between_the_evolution_and_its_rows_loses_nothing(capture: Capture, tmp_path: Path) -> None:
    contract = capture.contracts["killed"]
    (day,) = unread(capture.settings, capture.catalog, contract).days
    stage_day(capture.settings, contract, day)
    write_contract(tmp_path, "killed", "killed", COLUMNS, ["key"])
    died = subprocess.run(
        [sys.executable, "-c", LOAD_AND_DIE, capture.settings.model_dump_json(), str(tmp_path), str(day)],
        env={**os.environ, VARIABLE: FaultPoint.BRONZE_BEFORE_COMMIT},
        capture_output=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert [field.name for field in evolved_fields(bronze(capture, "killed").schema())] == ["extra"]
    assert capture.bronze("killed") == []
    capture.load("killed")
    (load,) = (each for each in capture.loads["killed"] if each.rows)
    assert (str(load.drift), load.drift_is_new) == ("added extra", True)
    assert column(capture, "killed", "extra") == [None, None, "new"]
    ledger = rebuild(capture.settings, capture.catalog, contract, although_believed=True).ledger
    assert ledger.rows == 3
    capture.load("killed")
    assert len(capture.bronze("killed")) == 3


def test_case_31_a_table_that_nobody_altered_has_one_schema_and_is_decoded_once(
    capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orders_platform.ingest.decoding import Decoder

    fills: list[str] = []
    fill = Decoder._fill
    monkeypatch.setattr(Decoder, "_fill", lambda self, target, *rest: (fills.append(target), fill(self, target, *rest)))
    capture.load("as_before")
    assert fills == ["changes"] * sum(bool(each.rows) for each in capture.loads["as_before"])
    assert len(bronze(capture, "as_before").metadata.schemas) == 1
    assert str(capture.loads["as_before"][-1].drift) == ""
