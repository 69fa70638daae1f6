"""Commit and offsets: each case of the catalogue under this heading, on a real broker and real tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

from pyiceberg.catalog import Catalog

from orders_platform.contracts import Contract
from orders_platform.ingest.bronze import load_day
from orders_platform.ingest.dead_letter_fate import replay
from orders_platform.ingest.dead_letters import Selection, list_dead_letters
from orders_platform.ingest.staging import stage_day
from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.silver import merge_silver
from orders_platform.settings import Settings
from orders_platform_tests.ingest.events import Record, change, contract, moment, produce
from orders_platform_tests.ingest.loads import assert_sound, ingest
from orders_platform_tests.lake.changes import silver_rows

DAY = date(2026, 3, 1)


def elsewhere(settings: Settings, home: Path) -> Settings:
    """An installation of its own on the same topics."""
    return Settings(_env_file=None, home=home, ports=settings.ports, topic_prefix=settings.topic_prefix)  # type: ignore[call-arg]


def undisturbed(settings: Settings, of: Contract, *days: date) -> list[dict[str, object]]:
    """Silver as one load of each day makes it."""
    with_catalog = open_catalog(settings)
    for day in days:
        stage_day(settings, of, day)
        load_day(settings, with_catalog, of, day)
    merge_silver(settings, with_catalog, of)
    return silver_rows(settings, with_catalog, of)


def test_case_45_one_poison_record_stops_nothing_and_takes_its_place_after_a_fix(
    shop_topic: Settings, topic: str, catalog: Catalog, tmp_path: Path
) -> None:
    """It is kept with place, reason and bytes; the rest goes on; a replay leads to the same tables as no failure."""
    produce(
        shop_topic,
        topic,
        [
            change(1, 10, at=moment(DAY)),
            change(1, 20, "u", at=moment(DAY), currency=None, status="paid"),
            change(2, 30, at=moment(DAY), currency=None),
            change(3, 40, at=moment(DAY), currency=None),
            Record({**change(3, 50, "d").value}, {"order_id": 3}, 0, moment(DAY)),
        ],
    )
    assert (ingest(shop_topic, DAY).rows, ingest(shop_topic, DAY).rows) == (2, 0)
    merge_silver(shop_topic, catalog, contract())
    produce(shop_topic, topic, [change(2, 60, "u", at=moment(DAY), status="shipped")])
    assert ingest(shop_topic, DAY).rows == 1
    merge_silver(shop_topic, catalog, contract())
    poison = list_dead_letters(shop_topic, catalog, contract())
    assert [(each.partition, each.offset, each.error_class) for each in poison] == [
        (0, offset, "MissingValue") for offset in (3, 2, 1)
    ]
    assert all(each.value and b'"currency": null' in each.value for each in poison)

    strict = contract()
    columns = tuple(replace(c, required=c.required and c.name != "currency") for c in strict.columns)
    fixed = replace(strict, columns=columns, version="1.1.0")
    assert replay(shop_topic, catalog, fixed, Selection()).rows == 3
    merge_silver(shop_topic, catalog, fixed)
    assert_sound(shop_topic, catalog, DAY)
    healed = silver_rows(shop_topic, catalog, fixed)
    assert healed == undisturbed(elsewhere(shop_topic, tmp_path / "undisturbed"), fixed, DAY)
    assert [(row["order_id"], row["status"], row["_deleted"]) for row in healed] == [
        (1, "paid", False), (2, "shipped", False), (3, None, True),
    ]  # fmt: skip
    assert replay(shop_topic, catalog, fixed, Selection()).snapshot_id is None
