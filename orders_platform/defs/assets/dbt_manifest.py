"""dbt's models and tests as asset and check specs, read from the manifest that `make manifest` wrote.

dagster-dbt runs dbt (see `gold`), but is not imported here: its import costs more than two seconds, and every run
worker would pay them. What is read follows dagster-dbt's own conventions (`meta.dagster`, names of tests), which a
test compares with its translator.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from orders_platform.defs.assets.columns import schema_of
from orders_platform.defs.checks.per_day import daily_check
from orders_platform.lake.gold_models import MANIFEST


class ManifestError(Exception):
    """The manifest is not there or cannot be read; the message names the command that makes it."""


@dataclass(frozen=True)
class DbtModel:
    """A model with its tests: what Dagster shows of it."""

    unique_id: str
    spec: dg.AssetSpec
    tests: Mapping[str, dg.AssetCheckSpec]
    """Check specs by dbt's id of the test."""


def read_models(manifest: Path = MANIFEST) -> tuple[DbtModel, ...]:
    """The models of the project, upstream ones first.

    Raises:
        ManifestError: naming `make manifest`.
    """
    try:
        document = json.loads(manifest.read_text(encoding="utf-8"))
        return tuple(_models(document))
    except FileNotFoundError:
        raise ManifestError(f"{manifest} is missing: run `make manifest`, which lets dbt describe its models") from None
    except (OSError, json.JSONDecodeError, KeyError) as error:
        raise ManifestError(f"{manifest} cannot be read ({error!r}): run `make manifest` again") from None


def _models(document: Mapping[str, Any]) -> Iterator[DbtModel]:
    nodes, sources = document["nodes"], document["sources"]
    models = {key: node for key, node in nodes.items() if node["resource_type"] == "model"}
    names = {key: _asset_key(node) for key, node in {**models, **sources}.items()}
    tests = {key: node for key, node in nodes.items() if node["resource_type"] == "test"}
    tested = {key: _tested_model(node, models) for key, node in tests.items()}
    for unique_id in _upstream_first(models):
        node = models[unique_id]
        yield DbtModel(
            unique_id,
            _spec(node, names),
            {key: _check(tests[key], names[unique_id]) for key, model in tested.items() if model == unique_id},
        )


def _spec(node: Mapping[str, Any], names: Mapping[str, dg.AssetKey]) -> dg.AssetSpec:
    meta = _meta(node)
    columns = [
        dg.TableColumn(column["name"], type=column.get("data_type") or "?", description=column["description"])
        for column in node["columns"].values()
    ]
    return dg.AssetSpec(
        _asset_key(node),
        deps=[names[parent] for parent in node["depends_on"]["nodes"] if parent in names],
        group_name=meta.get("group", "gold"),
        owners=meta.get("owners"),
        kinds={"dbt", "iceberg"},
        description=node["description"],
        metadata={
            "dagster/table_name": node["config"].get("meta", {}).get("iceberg_table", node["name"]),
            **schema_of(columns),
        },
    )


def _check(test: Mapping[str, Any], model: dg.AssetKey) -> dg.AssetCheckSpec:
    severity = str(test["config"].get("severity", "error")).lower()
    return daily_check(model, test["name"], test.get("description") or None, blocking=severity == "error")


def _tested_model(test: Mapping[str, Any], models: Mapping[str, Any]) -> str | None:
    """The model that a test is about: the one it is declared at, else the last one of those that it reads."""
    if test.get("attached_node"):
        return str(test["attached_node"])
    read = [unique_id for unique_id in _upstream_first(models) if unique_id in test["depends_on"]["nodes"]]
    return read[-1] if read else None


def _upstream_first(models: Mapping[str, Any]) -> list[str]:
    ordered: list[str] = []

    def visit(unique_id: str) -> None:
        if unique_id in models and unique_id not in ordered:
            for parent in sorted(models[unique_id]["depends_on"]["nodes"]):
                visit(parent)
            ordered.append(unique_id)

    for unique_id in sorted(models):
        visit(unique_id)
    return ordered


def _asset_key(node: Mapping[str, Any]) -> dg.AssetKey:
    return dg.AssetKey(_meta(node).get("asset_key") or [node["name"]])


def _meta(node: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = node.get("config", {}).get("meta") or node.get("meta") or {}
    found: Mapping[str, Any] = meta.get("dagster", {})
    return found
