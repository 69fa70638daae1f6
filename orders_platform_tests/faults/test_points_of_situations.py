"""A process dies at each durable step that only some situation brings about; the next one ends in the right tables."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem
from pyiceberg.catalog import Catalog

from orders_platform.fault_points import SituationPoint
from orders_platform.ingest.drift import decisions
from orders_platform.ingest.drift_acceptance import accept, open_drift
from orders_platform.ingest.ledger import TAG
from orders_platform.ingest.ledger_rebuild import NotNeededError, rebuild
from orders_platform.lake import gold, maintenance
from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.gold_run import build_gold
from orders_platform.settings import Settings
from orders_platform_tests.faults.mortal_orders import ORDERS, TABLES, Orders, carry, stage
from orders_platform_tests.faults.remote_store import RemoteStore
from orders_platform_tests.faults.table_faults import compact, expire
from orders_platform_tests.ingest.broker_admin import drop_topic, make_topic
from orders_platform_tests.lake.models_in_process import run_models
from orders_platform_tests.lake.shop_in_silver import ShopInSilver, at, gold_daily_revenue

pytestmark = pytest.mark.timeout(300)
KEPT = 2


def points(situation: str) -> list[SituationPoint]:
    return [point for point in SituationPoint if point.startswith(situation)]


def carry_and_expire(settings: Settings) -> None:
    """The same, where each commit is followed by an expiry that leaves few snapshots."""
    maintenance.COMMITS_BETWEEN_EXPIRIES = 1
    maintenance.expire.__defaults__ = (KEPT,)
    carry(settings)


def rebuild_ledger(settings: Settings) -> None:
    """What an operator does who was told so; also one who does not know that it is done already."""
    with suppress(NotNeededError):
        rebuild(settings, open_catalog(settings), ORDERS)


def accept_drift(settings: Settings) -> None:
    """What an operator does when a table has stopped, and once more when nobody knows whether it was done."""
    catalog = open_catalog(settings)
    stops = open_drift(settings, catalog, ORDERS)
    if stops is not None and stops.change:
        accept(settings, catalog, ORDERS, stops.change, reason="the one was dropped, the other added", by="a test")


def build(settings: Settings) -> None:
    build_gold(settings, open_catalog(settings), run_dbt=run_models)


def build_without_publishing(settings: Settings) -> None:
    catalog = open_catalog(settings)
    planned = gold.plan(settings, catalog)
    with tempfile.TemporaryDirectory() as folder:
        workspace = gold.prepare(settings, catalog, planned, planned.stale_dates, Path(folder))
        run_models(workspace)
        gold.discard(catalog, workspace)


@pytest.fixture
def new_orders(broker: Settings, tmp_path: Path) -> Iterator[Callable[..., Orders]]:
    """Makes a topic with tables in a folder or, given the variables of a server, on S3."""
    made: list[tuple[Orders, RemoteStore | None]] = []

    def make(server: Mapping[str, str] | None = None) -> Orders:
        name = f"t{uuid.uuid4().hex[:12]}"
        store = RemoteStore(server, name) if server else None
        kafka = {"bootstrap.servers": broker.kafka_config["bootstrap.servers"]}
        own = {"home": tmp_path / name, "topic_prefix": name, "kafka": kafka}
        settings = store.settings(own) if store else Settings(_env_file=None, **own)
        environment = {
            "ORDERS_PLATFORM_HOME": str(settings.home),
            "ORDERS_PLATFORM_TOPIC_PREFIX": name,
            "ORDERS_PLATFORM_KAFKA__BOOTSTRAP_SERVERS": kafka["bootstrap.servers"],
            **(store.environment if store else {}),
        }
        files, staging = (
            (store.files, f"{store.prefix}/staging") if store else (LocalFileSystem(), str(settings.staging))
        )
        orders = Orders(settings, environment, files, staging)
        make_topic(settings)
        made.append((orders, store))
        return orders

    yield make
    for orders, store in made:
        drop_topic(orders.settings, ORDERS.topic(orders.settings.topic_prefix))
        if store:
            store.close()


@pytest.fixture
def orders(new_orders: Callable[..., Orders]) -> Orders:
    return new_orders()


@pytest.fixture
def shop(tmp_path: Path) -> ShopInSilver:
    """A shop in silver, of which gold has been built."""
    settings = Settings(_env_file=None, home=tmp_path / "home")
    shop = ShopInSilver(settings, open_catalog(settings))
    shop.put("customers", [shop.customer(number, "EU") for number in range(3)])
    shop.put("orders", [shop.order(number, at(1 + number % 2)) for number in range(4)])
    shop.put("line_items", [shop.line(number, number // 2) for number in range(8)])
    build(settings)
    return shop


def _run(shop: ShopInSilver, work: Callable[[Settings], object], fault: str = "") -> None:
    environment = {"ORDERS_PLATFORM_HOME": str(shop.settings.home)}
    Orders(shop.settings, environment, LocalFileSystem(), "").run(work, fault)


def _assert_gold_right(shop: ShopInSilver) -> None:
    planned = gold.plan(shop.settings, shop.catalog)
    assert gold_daily_revenue(shop.catalog) == shop.daily_revenue()
    assert (planned.stale_dates, planned.has_news) == ((), False)


def test_every_situation_has_its_test() -> None:
    tested = ("table-", "schema-", "expiry-", "staged-file-", "rebuild-", "drift-", "note-", "branch-")
    assert [point for point in SituationPoint if not point.startswith(tested)] == []


def test_tables_whose_creation_was_cut_off_are_completed(orders: Orders) -> None:
    for number, point in enumerate(points("table-") * len(TABLES)):
        orders.put(number)
        orders.run(carry, point)  # what is there by now is not created again: the next table's turn comes
    orders.run(carry)
    orders.assert_right()


def test_a_table_whose_new_column_was_cut_off_is_given_it_by_the_next_run_and_no_value_is_lost(orders: Orders) -> None:
    orders.put(1)
    orders.run(carry)
    added: list[str] = []
    for point, times in product(points("schema-"), range(1, len(TABLES) + 1)):
        added.append(f"extra_{len(added)}")
        orders.put(len(added) % 4, **{name: f"{name} of {point}" for name in added})
        orders.run(carry, f"{point}:{times}")
        orders.run(carry)
        orders.assert_right(*added)
    for name in TABLES:
        columns = [each.name for each in orders.catalog.load_table(name).schema().fields]
        assert [each for each in columns if each.startswith("extra")] == added


def test_an_expiry_that_was_cut_off_is_completed_by_the_next(orders: Orders) -> None:
    for number in range(KEPT + 2):
        orders.put(number)
        orders.run(carry)
    for times, point in enumerate(points("expiry-"), 1):  # each in another table
        orders.put(times)
        orders.run(carry_and_expire, f"{point}:{times}")
        orders.put(times)
        orders.run(carry_and_expire)
        orders.assert_right()
        for name in TABLES:
            metadata = orders.catalog.load_table(name).metadata
            assert len(metadata.snapshots) <= KEPT + len(metadata.refs), f"{name} after {point}"


@pytest.mark.parametrize("remote", [False, True], ids=["folder", "S3"])
def test_a_broken_staged_file_that_was_half_set_aside_is_replaced(
    remote: bool, new_orders: Callable[..., Orders], request: pytest.FixtureRequest
) -> None:
    orders = new_orders(request.getfixturevalue("s3_server") if remote else None)
    passed = [each for each in points("staged-file-") if remote or each is not SituationPoint.STAGED_FILE_COPIED_ASIDE]
    read: set[str] = set()
    for number, point in enumerate(passed):
        orders.put(number)
        orders.run(stage)
        (new,) = orders.staged - read
        with orders.files.open_output_stream(new) as file:
            file.write(b"PAR1 and no more")
        orders.run(carry, point)
        orders.run(carry)  # sets it aside, if that was still to be done
        orders.run(carry)  # stages its offsets again: they were the last of their partition, and so left no gap
        orders.assert_right()
        read = orders.staged
        assert new in read, "its offsets were staged again"
        assert [path for path in orders.under_staging if path.startswith(new) and path.endswith(".set-aside")]


def test_a_rebuilt_ledger_that_was_cut_off_is_whole_or_not_there(orders: Orders) -> None:
    for number, point in enumerate(points("rebuild-")):
        orders.put(number)
        orders.run(carry)
        _lose_ledger(orders.catalog)
        orders.run(rebuild_ledger, point)
        orders.run(rebuild_ledger)
        orders.put(number)
        orders.run(carry)
        orders.assert_right()


def test_an_accepted_change_whose_acceptance_was_cut_off_is_accepted_once(orders: Orders) -> None:
    orders.put(0)
    orders.run(carry)
    for number, point in enumerate(points("drift-"), 1):
        orders.put(number, without="refunded", **{f"returned_{number}": "1.00"})
        orders.run(stage)
        orders.run(accept_drift, point)
        orders.run(accept_drift)
        orders.run(carry)
        orders.assert_right(*(f"returned_{each}" for each in range(1, number + 1)))
        accepted = [each["change"] for each in decisions(orders.catalog.load_table(ORDERS.bronze_table))]
        assert accepted == [f"columns:-refunded+returned_{each}" for each in range(1, number + 1)]


def test_gold_that_could_not_note_what_it_has_read_notes_it_in_the_next_build(shop: ShopInSilver) -> None:
    for number, (point, times) in enumerate(product(points("note-"), (1, 2))):
        shop.put("customers", [shop.customer(100 + number, "EU")])  # of no order
        _run(shop, build, f"{point}:{times}")
        _run(shop, build)
        _assert_gold_right(shop)


def test_a_branch_of_gold_whose_removal_was_cut_off_shows_nothing_and_stops_nothing(shop: ShopInSilver) -> None:
    for number, (point, times) in enumerate(product(points("branch-"), (1, 2))):
        shop.put("orders", [shop.order(number, at(1), total=f"{number + 7}.00")])
        before = gold_daily_revenue(shop.catalog)
        _run(shop, build_without_publishing, f"{point}:{times}")
        assert gold_daily_revenue(shop.catalog) == before
        _run(shop, build)
        _assert_gold_right(shop)


def _lose_ledger(catalog: Catalog) -> None:
    """Another engine rewrites the table, and takes everything else away."""
    compact(catalog, ORDERS.bronze_table)
    catalog.load_table(ORDERS.bronze_table).manage_snapshots().remove_tag(TAG).commit()
    expire(catalog, ORDERS)
