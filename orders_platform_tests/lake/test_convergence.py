"""Whatever the order in which changes arrive, however they are cut into batches and repeated: the same tables."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any
from uuid import uuid4

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from orders_platform.lake.audit import check_silver
from orders_platform.lake.catalog import open_catalog
from orders_platform.lake.silver import ensure_silver, merge_silver
from orders_platform.lake.versions import ensure_versions
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.lake.changes import append, contract, product, read, silver_rows
from orders_platform_tests.lake.model import current_products

PRODUCTS = contract("products")


def history(seed: int, length: int) -> list[dict[str, Any]]:
    """Changes as PostgreSQL would make them: inserts, updates with and without a description, deletes, changed keys."""
    choose = random.Random(seed)
    alive: set[int] = set()
    changes: list[dict[str, Any]] = []
    at = 0
    while len(changes) < length:
        at += 1
        key = choose.randint(1, 5)
        kind = choose.choice(["insert", "update", "update", "update", "long", "delete", "move", "truncate"])
        if key not in alive:
            changes.append(product(key, "c", at, description=f"d{at}", _unavailable=[], _old_key=None))
            alive.add(key)
        elif kind == "long":
            changes.append(product(key, "u", at, description=f"d{at}", _unavailable=[], _old_key=None))
        elif kind == "update":
            changes.append(product(key, "u", at, description=None, _unavailable=["description"], _old_key=None))
        elif kind == "delete":
            changes.append(product(key, "d", at, description=None, _old_key=None))
            alive.discard(key)
        elif kind == "move":
            new = choose.randint(1, 5)
            if new in alive:
                continue
            changes.append(product(key, "d", at, description=None, _old_key=None))
            at += 1
            changes.append(
                product(
                    new,
                    "c",
                    at,
                    description=None,
                    _unavailable=["description"],
                    _old_key=json.dumps({"product_id": key}),
                )
            )
            alive.discard(key)
            alive.add(new)
        elif kind == "truncate" and choose.random() < 0.3:
            row = product(0, "d", at, description=None, _old_key=None)
            changes.append({**row, "product_id": None, "_op": "t"})
            alive.clear()
    return changes


def redelivered(choose: random.Random, changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Some changes as a connector without exactly-once sends them again: at another offset, perhaps another commit."""
    return [
        {
            **row,
            "_kafka_offset": row["_kafka_offset"] + 10_000,
            "_commit_pos": row["_commit_pos"] - choose.choice([0, 5]),
        }
        for row in choose.sample(changes, len(changes) // 5)
    ]


def shuffled_batches(choose: random.Random, changes: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The changes in any order, some of them twice, in any batches."""
    mixed = [*changes, *choose.sample(changes, len(changes) // 4)]
    choose.shuffle(mixed)
    cuts = sorted(choose.sample(range(1, len(mixed)), min(3, len(mixed) - 1)))
    return [mixed[a:b] for a, b in zip([0, *cuts], [*cuts, len(mixed)], strict=True)]


def outcome(folder: Path, batches: list[list[dict[str, Any]]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Silver and versions of an installation of its own after these batches."""
    settings = new_settings(folder / uuid4().hex)
    catalog = open_catalog(settings)
    for batch in batches:
        append(settings, catalog, PRODUCTS, batch)
        merge_silver(settings, catalog, PRODUCTS)
    check = check_silver(settings, catalog, PRODUCTS)
    assert check.passed, check.description
    return silver_rows(settings, catalog, PRODUCTS), read(settings, ensure_versions(catalog, PRODUCTS))


@hypothesis_settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 10_000), length=st.integers(2, 40))
def test_changes_in_any_order_and_any_batches_end_in_the_same_silver_and_versions(
    tmp_path: Path, seed: int, length: int
) -> None:
    changes = [*history(seed, length), *redelivered(random.Random(seed), history(seed, length))]
    straight, versions = outcome(tmp_path, [changes])
    mixed, mixed_versions = outcome(tmp_path, shuffled_batches(random.Random(seed), changes))
    assert mixed == straight
    assert mixed_versions == versions
    current = {r["product_id"]: (int(r["price"]), r["description"]) for r in straight if not r["_deleted"]}
    assert current == current_products(changes)


def test_merging_again_changes_nothing(tmp_path: Path) -> None:
    settings = new_settings(tmp_path / "home")
    catalog = open_catalog(settings)
    append(settings, catalog, PRODUCTS, history(1, 20))
    merge_silver(settings, catalog, PRODUCTS)
    before = ensure_silver(catalog, PRODUCTS).metadata.current_snapshot_id
    assert merge_silver(settings, catalog, PRODUCTS).snapshot_id is None
    assert ensure_silver(catalog, PRODUCTS).metadata.current_snapshot_id == before
