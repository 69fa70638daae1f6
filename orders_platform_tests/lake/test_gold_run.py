"""A build of gold: what is published was audited, what was killed is healed, what was overtaken is done again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.types import StringType

from orders_platform.fault_points import VARIABLE, FaultPoint
from orders_platform.lake import gold_workspace
from orders_platform.lake.commits import ConflictError, head
from orders_platform.lake.gold import discard, plan, prepare, publish
from orders_platform.lake.gold_run import ATTEMPTS, DatesRefusedError, GoldAuditError, build_gold, run_dbt_cli
from orders_platform.lake.gold_workspace import NoWorkspaceError, Workspace
from orders_platform.settings import Settings
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.lake.models_in_process import run_models
from orders_platform_tests.lake.shop_in_silver import Row, ShopInSilver, at, gold_daily_revenue

FIRST, SECOND, THIRD = (date(2026, 3, day) for day in (1, 2, 3))


@pytest.fixture
def filled(shop: ShopInSilver) -> ShopInSilver:
    shop.put("customers", [shop.customer(number, ("EU", "US")[number % 2]) for number in range(1, 5)])
    shop.put("orders", [shop.order(n, at(1 + n % 3), customer_id=1 + n % 6) for n in range(20)])
    shop.put("orders", [shop.order(3, at(1), refunded=Decimal("0.01")), shop.order(4, at(2), status="cancelled")])
    shop.put("line_items", [shop.line(n, n // 2, quantity=1 + n % 3) for n in range(40)])
    return shop


def refs(catalog: Catalog) -> set[str]:
    return {
        ref for name in ("fact_orders", "daily_revenue") for ref in catalog.load_table(f"gold.{name}").metadata.refs
    }


def test_dbt_builds_tests_and_publishes_what_the_shop_says(
    settings: Settings, catalog: Catalog, filled: ShopInSilver
) -> None:
    tokyo = new_settings(settings.home, business_time_zone="Asia/Tokyo")
    filled.put("orders", [filled.order(20, at(2, hour=20))])  # the third of March in Tokyo
    result = build_gold(tokyo, catalog)
    assert (result.dates, result.left, result.attempts) == ((FIRST, SECOND, THIRD), (), 1)
    expected = filled.daily_revenue(tokyo.time_zone)
    assert {model: sum(days.values()) for model, days in result.rows.items()} == {
        "gold_fact_orders": 21,
        "gold_daily_revenue": len(expected),
    }
    assert gold_daily_revenue(catalog) == expected
    assert refs(catalog) == {"main"}
    facts = catalog.load_table("gold.fact_orders").scan().to_arrow().to_pylist()
    assert {row["order_id"]: (row["items"], row["lines"]) for row in facts}[1] == (3 + 1, 2)


def test_columns_that_silver_has_and_no_contract_names_are_no_concern_of_gold(
    settings: Settings, catalog: Catalog, filled: ShopInSilver
) -> None:
    """As when the shop's table was altered: files with and without the column, and names that models use too."""
    for name in ("silver.orders", "silver.line_items"):
        with catalog.load_table(name).update_schema() as update:
            update.add_column("order_date", StringType())
            update.add_column("note", StringType())
    filled.put("orders", [filled.order(20, at(2))])
    build_gold(settings, catalog)
    assert gold_daily_revenue(catalog) == filled.daily_revenue(settings.time_zone)


def test_a_row_that_breaks_a_dbt_test_keeps_readers_on_what_they_saw(
    settings: Settings, catalog: Catalog, filled: ShopInSilver
) -> None:
    build_gold(settings, catalog, run_dbt=run_models)
    before = gold_daily_revenue(catalog)
    filled.put("orders", [filled.order(5, at(3), status="lost")])
    with pytest.raises(DatesRefusedError, match="2026-03-03 by accepted_values_gold_fact_orders_status") as failure:
        build_gold(settings, catalog)
    assert (failure.value.dates, failure.value.result) == ((THIRD,), None)
    assert gold_daily_revenue(catalog) == before
    assert refs(catalog) == {"main"}
    assert plan(settings, catalog).stale_dates == (THIRD,)


def test_dates_that_tests_refuse_keep_no_other_date_from_readers(
    settings: Settings, catalog: Catalog, filled: ShopInSilver
) -> None:
    good = of_dates(filled.daily_revenue(), THIRD)
    assert good
    filled.put("orders", [filled.order(0, at(1), status="lost"), filled.order(1, at(2), currency=None)])
    with pytest.raises(DatesRefusedError, match="not published for 2 of 3 order dates") as refused:
        build_gold(settings, catalog)
    by_test = {test.split(".")[2][:32]: days for test, days in refused.value.refused.items()}
    assert by_test == {"accepted_values_gold_fact_orders": {FIRST}, "not_null_gold_fact_orders_curren": {SECOND}}
    assert refused.value.result is not None
    assert (refused.value.dates, refused.value.result.dates) == ((FIRST, SECOND), (THIRD,))
    assert gold_daily_revenue(catalog) == good
    assert plan(settings, catalog).stale_dates == (FIRST, SECOND)
    filled.put("orders", [filled.order(0, at(1)), filled.order(1, at(2))])
    assert build_gold(settings, catalog, run_dbt=run_models).dates == (FIRST, SECOND)
    assert gold_daily_revenue(catalog) == filled.daily_revenue()


def of_dates(revenue: dict[tuple[date, str, str], Row], *dates: date) -> dict[tuple[date, str, str], Row]:
    return {key: row for key, row in revenue.items() if key[0] in dates}


def test_the_test_of_revenue_sees_one_cent(
    settings: Settings, catalog: Catalog, filled: ShopInSilver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The model is altered, not the test: it takes a cent off one order. Only then, behind a date that the facts' own
    tests refuse, is the aggregate tested: the third build has the one date that is good."""
    project = tmp_path / "dbt_project"
    shutil.copytree(gold_workspace.PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    model = project / "models" / "gold" / "gold_fact_orders.sql"
    sql = model.read_text(encoding="utf-8")
    assert "rebuilt.total - rebuilt.refunded end" in sql
    cent = "rebuilt.total - rebuilt.refunded - case when rebuilt.order_id = 7 then 0.01 else 0 end end"
    model.write_text(sql.replace("rebuilt.total - rebuilt.refunded end", cent), encoding="utf-8")
    monkeypatch.setattr(gold_workspace, "PROJECT", project)
    good = of_dates(filled.daily_revenue(), THIRD)
    filled.put("orders", [filled.order(0, at(1), status="lost")])
    with pytest.raises(DatesRefusedError, match="2026-03-02 by gold_revenue_agrees_with_silver") as refused:
        build_gold(settings, catalog, run_dbt=without_saved_parse)
    assert refused.value.dates == (FIRST, SECOND)
    assert gold_daily_revenue(catalog) == good


def without_saved_parse(workspace: Workspace) -> None:
    (workspace.target / "partial_parse.msgpack").unlink(missing_ok=True)
    run_dbt_cli(workspace)


def test_an_overtaken_build_is_done_again_on_the_new_head(
    settings: Settings, catalog: Catalog, filled: ShopInSilver
) -> None:
    overtaken = []

    def slowly(workspace: Workspace) -> None:
        run_models(workspace)
        if not overtaken:
            overtaken.append(workspace.dates)
            filled.put("orders", [filled.order(100, at(3), "1.00")])
            build_gold(settings, catalog, run_dbt=run_models)

    filled.put("orders", [filled.order(6, at(1), "5.00")])
    result = build_gold(settings, catalog, [FIRST], run_dbt=slowly)
    assert (result.attempts, result.dates) == (2, (FIRST,))
    assert gold_daily_revenue(catalog) == filled.daily_revenue()
    assert plan(settings, catalog).stale_dates == ()


def test_a_build_that_is_overtaken_each_time_gives_up_and_leaves_nothing_behind(
    settings: Settings, catalog: Catalog, filled: ShopInSilver
) -> None:
    runs = []

    def always_late(workspace: Workspace) -> None:
        run_models(workspace)
        runs.append(workspace)
        build_gold(settings, catalog, [SECOND], by_hand=True, run_dbt=run_models)

    with pytest.raises(ConflictError):
        build_gold(settings, catalog, [FIRST], run_dbt=always_late)
    assert len(runs) == ATTEMPTS
    assert refs(catalog) == {"main"}
    assert FIRST in plan(settings, catalog).stale_dates
    assert filled.current("orders")


def test_a_thawed_run_whose_branch_is_gone_publishes_nothing(
    settings: Settings, catalog: Catalog, filled: ShopInSilver, tmp_path: Path
) -> None:
    workspace = prepare(settings, catalog, plan(settings, catalog), [FIRST], tmp_path / "frozen")
    run_models(workspace)
    discard(catalog, workspace)
    with pytest.raises(ConflictError):
        publish(catalog, workspace)
    assert head(catalog.load_table("gold.fact_orders")) is None
    assert filled.current("orders")


BUILD_AND_DIE = """
import sys
from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.gold_run import build_gold
from orders_platform.settings import load
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.lake.models_in_process import run_models
settings = load()
build_gold(settings, open_catalog(settings), run_dbt=run_models)
"""


@pytest.mark.parametrize(
    "point",
    [  # :1 is passed for the facts, :2 for the aggregate built from them
        f"{FaultPoint.GOLD_BEFORE_BRANCH}:2",
        f"{FaultPoint.GOLD_AFTER_BRANCH}:2",
        f"{FaultPoint.GOLD_BEFORE_PUBLISH}:1",
        f"{FaultPoint.GOLD_BEFORE_PUBLISH}:2",
        f"{FaultPoint.GOLD_AFTER_PUBLISH}:2",
    ],
)
def test_a_run_killed_at_any_durable_step_is_healed_by_the_next(
    settings: Settings, catalog: Catalog, filled: ShopInSilver, point: str
) -> None:
    build_gold(settings, catalog, run_dbt=run_models)
    filled.put("orders", [filled.order(3, at(2), "9.00"), filled.order(50, at(4))])
    environment = {**os.environ, VARIABLE: point, "ORDERS_PLATFORM_HOME": str(settings.home), "PYTHONPATH": "."}
    died = subprocess.run([sys.executable, "-c", BUILD_AND_DIE], env=environment, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    while build_gold(settings, catalog, run_dbt=run_models).dates:
        pass
    assert gold_daily_revenue(catalog) == filled.daily_revenue()
    assert plan(settings, catalog).stale_dates == ()


@pytest.mark.parametrize("seed", range(2))
def test_any_history_of_changes_and_partial_builds_ends_in_what_the_shop_says(
    settings: Settings, catalog: Catalog, filled: ShopInSilver, seed: int
) -> None:
    chance = random.Random(seed)

    def change() -> None:
        order, day = chance.randrange(30), chance.randint(1, 5)
        kind = chance.randrange(6)
        if kind == 0:
            status = chance.choice(["paid", "cancelled"])
            filled.put("orders", [filled.order(order, at(day), customer_id=chance.randint(1, 6), status=status)])
        elif kind == 1:
            filled.delete("orders", (order,))
        elif kind == 2:
            filled.put("line_items", [filled.line(chance.randrange(50), order, chance.randint(1, 9))])
        elif kind == 3:
            filled.delete("line_items", (chance.randrange(50),))
        elif kind == 4:
            filled.put("customers", [filled.customer(chance.randint(1, 6), chance.choice(["EU", "US"]))])
        else:
            filled.delete("customers", (chance.randint(1, 6),))

    for _ in range(8):
        for _ in range(chance.randint(1, 3)):
            change()
        days = chance.sample([date(2026, 3, day) for day in range(1, 6)], chance.randint(1, 2))
        build_gold(settings, catalog, chance.choice([None, days]), by_hand=chance.random() < 0.3, run_dbt=run_models)
    build_gold(settings, catalog, run_dbt=run_models)
    assert gold_daily_revenue(catalog) == filled.daily_revenue()
    assert plan(settings, catalog).stale_dates == ()


def test_dbt_started_by_hand_says_what_to_run_instead(tmp_path: Path) -> None:
    with pytest.raises(NoWorkspaceError, match="run `orders-platform sync`"):
        Workspace.read(tmp_path)


def test_dbt_that_does_not_get_as_far_as_its_results_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gold_workspace, "PROJECT", tmp_path / "no project")
    workspace = Workspace(tmp_path, "gold-x", (FIRST,), (), {})
    with pytest.raises(GoldAuditError, match="no project"):
        run_dbt_cli(workspace)
