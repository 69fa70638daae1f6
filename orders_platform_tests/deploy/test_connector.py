"""The connector for production is the one that the local stack runs, but for where the database is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orders_platform.contracts import load_contracts
from orders_platform.settings import Settings
from orders_platform.stack.connect import worker_config
from orders_platform.stack.debezium import connector_config

FILE = Path(__file__).parents[2] / "deploy" / "connect" / "orders-platform.json"

OF_PRODUCTION = {
    "database.hostname": "${env:SHOP_DB_HOST}",
    "database.port": "${env:SHOP_DB_PORT}",
    "database.user": "${env:SHOP_DB_USER}",
    "database.password": "${env:SHOP_DB_PASSWORD}",
    "database.dbname": "${env:SHOP_DB_NAME}",
    "database.sslmode": "verify-full",
    "publication.autocreate.mode": "disabled",  # an owner of the tables has made it: our role may not alter it
    "topic.creation.default.replication.factor": "-1",  # the cluster's own default
}
"""What differs; the worker reads it from its environment."""


def expected(settings: Settings) -> dict[str, Any]:
    config = connector_config(settings, load_contracts(), "initial")
    name = config.pop("name")
    # A worker of one's own may have other converters: here they belong to the connector.
    converters = {key: value for key, value in worker_config(settings).items() if "converter" in key}
    return {"name": name, "config": {**config, **converters, **OF_PRODUCTION}}


def test_production_runs_the_connector_of_the_local_stack(settings: Settings) -> None:
    written, wanted = json.loads(FILE.read_text(encoding="utf-8")), expected(settings)
    assert written["name"] == wanted["name"]
    names = {*written["config"], *wanted["config"]}
    pairs = {name: (written["config"].get(name), wanted["config"].get(name)) for name in names}
    assert {name: pair for name, pair in pairs.items() if pair[0] != pair[1]} == {}


def test_the_settings_that_correctness_hangs_on_are_there() -> None:
    config = json.loads(FILE.read_text(encoding="utf-8"))["config"]
    wanted = {
        "skipped.operations": "none",  # or TRUNCATE never arrives
        "decimal.handling.mode": "string",
        "exactly.once.support": "required",
        "tombstones.on.delete": "true",
        "value.converter.replace.null.with.default": "false",  # or a NULL becomes the column's default
        "header.converter": "org.apache.kafka.connect.json.JsonConverter",  # or the old key cannot be read back
    }
    assert {key: config.get(key) for key in wanted} == wanted


def test_no_secret_is_written_down() -> None:
    config = json.loads(FILE.read_text(encoding="utf-8"))["config"]
    secrets = [value for key, value in config.items() if "password" in key or "secret" in key]
    assert all(value.startswith("${env:") for value in secrets)
