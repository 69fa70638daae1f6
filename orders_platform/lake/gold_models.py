"""What the dbt models of gold say of themselves in their YAML: table, sort order, and what makes their dates stale.

It is read from the models' files, not from dbt's manifest, so that what is stale can be asked without a parsed project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from orders_platform.errors import PlatformError

PROJECT = Path(__file__).parents[2] / "dbt_project"
"""The dbt project, beside the package in the repository and in the image."""

MANIFEST = PROJECT / "target" / "manifest.json"


class GoldModelError(PlatformError):
    """The dbt models do not say what the platform must know; the message names the model and the key."""


@dataclass(frozen=True)
class ChangeQuery:
    """From the changed rows of a silver table to the orders that they concern.

    `columns`: the change matters only if one of them differs (all, if empty). `facts_by`: the column of the fact table
    that holds the changed table's key, where the query looks into the fact table. `orders_sql` returns `order_id`s.
    """

    table: str
    orders_sql: str
    columns: tuple[str, ...] = ()
    facts_by: str | None = None


@dataclass(frozen=True)
class GoldModel:
    """A dbt model that is an Iceberg table partitioned by order date.

    It is stale by changes of silver (`changes`) or because the model that it is `built_from` was rebuilt.
    """

    name: str
    identifier: str
    sort_by: tuple[str, ...]
    changes: tuple[ChangeQuery, ...] = ()
    built_from: str | None = None


@lru_cache
def load_models(project: Path = PROJECT) -> tuple[GoldModel, ...]:
    """Gold's models, each behind the one that it is built from.

    Raises:
        GoldModelError: if one lacks its table or says not what makes it stale, or if the project is not there.
    """
    files = sorted((project / "models" / "gold").glob("*.yml"))
    if not files:
        raise GoldModelError(f"{project}: no dbt models found under models/gold")
    documents = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]
    models = [_model(entry) for document in documents for entry in document.get("models", ())]
    return tuple(sorted(models, key=lambda model: model.built_from is not None))


def _model(entry: Mapping[str, Any]) -> GoldModel:
    name = entry["name"]
    meta = entry.get("config", {}).get("meta", {})
    model = GoldModel(
        name=name,
        identifier=meta.get("iceberg_table", ""),
        sort_by=tuple(meta.get("sort_by", ())),
        changes=tuple(_change(table, change) for table, change in meta.get("changes", {}).items()),
        built_from=meta.get("built_from"),
    )
    if not model.identifier:
        raise GoldModelError(f"{name}: config.meta.iceberg_table is missing")
    if bool(model.changes) == bool(model.built_from):
        raise GoldModelError(f"{name}: say what makes its dates stale, in config.meta: either changes or built_from")
    return model


def _change(table: str, entry: Mapping[str, Any]) -> ChangeQuery:
    return ChangeQuery(table, entry["orders"], tuple(entry.get("columns", ())), entry.get("facts_by"))
