"""Settings fail closed, name every mistake at once, and keep the names that the tools behind them have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orders_platform.settings import SettingsError, load
from orders_platform_tests.isolation import INSTEAD

PRODUCTION = {
    "ORDERS_PLATFORM_ENV": "production",
    "ORDERS_PLATFORM_KAFKA__BOOTSTRAP_SERVERS": "broker.example.com:9092",
    "ORDERS_PLATFORM_POSTGRES_DSN": "postgresql://reader@db.example.com/shop",
    "ORDERS_PLATFORM_STAGING_URL": "s3://lake/staging/",
    "ORDERS_PLATFORM_CLICKHOUSE_URL": "https://loader:secret@clickhouse.example.com:8443/shop",
    "ORDERS_PLATFORM_PII_KEY": "a secret of our own",
    "PYICEBERG_CATALOG__ORDERS__URI": "https://catalog.example.com",
    "PYICEBERG_CATALOG__ORDERS__TYPE": "rest",
}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty folder, `.env` in sight, no setting; what a `.env` adds to the environment goes with the test."""
    before = dict(os.environ)
    for name in INSTEAD:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    yield
    os.environ.clear()
    os.environ.update(before)


def _set(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_local_needs_no_setting_at_all(tmp_path: Path) -> None:
    settings = load()
    assert settings.is_local
    assert settings.home == tmp_path / "var"
    assert settings.kafka_config == {"bootstrap.servers": f"127.0.0.1:{settings.ports.kafka}"}
    assert settings.catalog_properties["uri"] == f"sqlite:///{tmp_path}/var/catalog.db"


def test_an_unknown_environment_stops_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERS_PLATFORM_ENV", "prod")
    with pytest.raises(SettingsError, match="ORDERS_PLATFORM_ENV"):
        load()


def test_production_names_everything_that_is_missing_at_once() -> None:
    with pytest.raises(SettingsError) as error:
        load(env="production")
    missing = set(PRODUCTION) - {"ORDERS_PLATFORM_ENV"}
    assert [name for name in missing if f"{name} must be set in production" not in str(error.value)] == []


def test_a_complete_production_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, PRODUCTION)
    settings = load()
    assert settings.kafka_config == {"bootstrap.servers": "broker.example.com:9092"}
    assert settings.staging == "s3://lake/staging"
    assert settings.catalog_properties["uri"] == "https://catalog.example.com"
    assert settings.masking_key == b"a secret of our own"


@pytest.mark.parametrize("name", sorted(set(PRODUCTION) - {"ORDERS_PLATFORM_ENV"}))
def test_production_refuses_to_start_without(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    _set(monkeypatch, PRODUCTION)
    monkeypatch.delenv(name)
    with pytest.raises(SettingsError, match=name):
        load()


@pytest.mark.parametrize(
    "catalog",
    [
        {"TYPE": "sql"},
        {"TYPE": "in-memory"},
        {"TYPE": "rest", "URI": "sqlite:////var/lib/catalog.db"},
        {"TYPE": None, "URI": "sqlite:////var/lib/catalog.db"},
        {"TYPE": None, "URI": "postgresql+psycopg://db.example.com/catalog"},
    ],
)
def test_production_refuses_a_sql_catalog(monkeypatch: pytest.MonkeyPatch, catalog: dict[str, str | None]) -> None:
    _set(monkeypatch, PRODUCTION)
    for name, value in catalog.items():
        if value is None:
            monkeypatch.delenv(f"PYICEBERG_CATALOG__ORDERS__{name}")
        else:
            monkeypatch.setenv(f"PYICEBERG_CATALOG__ORDERS__{name}", value)
    with pytest.raises(SettingsError, match="a SQL catalog is for one machine"):
        load()


def test_production_refuses_the_development_key(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, PRODUCTION | {"ORDERS_PLATFORM_PII_KEY": "local-development-only"})
    with pytest.raises(SettingsError, match="choose a secret of your own"):
        load()


def test_a_port_given_twice_names_both_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, {"ORDERS_PLATFORM_PORT_KAFKA": "9999", "ORDERS_PLATFORM_PORT_CONNECT": "9999"})
    with pytest.raises(
        SettingsError, match="9999 is given twice: ORDERS_PLATFORM_PORT_KAFKA, ORDERS_PLATFORM_PORT_CONNECT"
    ):
        load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ORDERS_PLATFORM_BUSINESS_TIME_ZONE", "Mars/Olympus"),
        ("ORDERS_PLATFORM_STAGING_URL", "gs://bucket/x"),
        ("ORDERS_PLATFORM_MAX_RECORDS_PER_RUN", "0"),
        ("ORDERS_PLATFORM_LAG_THRESHOLD_SECONDS", "soon"),
        ("ORDERS_PLATFORM_PORT_KAFKA", "abc"),
        ("ORDERS_PLATFORM_MEMORY_LIMIT", "lots"),
        ("ORDERS_PLATFORM_MEMORY_LIMIT", "0GB"),
        ("ORDERS_PLATFORM_KAFKA", "broker:9092"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=rf"{name}\b"):
        load()


def test_wrong_values_hide_neither_each_other_nor_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"THREADS": "0", "PORT_KAFKA": "abc", "MEMORY_LIMIT": "lots", "TREADS": "4"}
    _set(monkeypatch, {"ORDERS_PLATFORM_ENV": "staging"} | {f"ORDERS_PLATFORM_{n}": v for n, v in wrong.items()})
    with pytest.raises(SettingsError) as error:
        load()
    said = str(error.value)
    assert [name for name in wrong if f"ORDERS_PLATFORM_{name}" not in said] == []
    assert "ORDERS_PLATFORM_POSTGRES_DSN must be set in staging" in said


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ORDERS_PLATFORM_TREADS", "ORDERS_PLATFORM_THREADS"),
        ("ORDERS_PLATFORM_PORT_KAFFKA", "ORDERS_PLATFORM_PORT_KAFKA"),
        ("ORDERS_PLATFORM_KAFKA_BOOTSTRAP_SERVERS", None),
        ("ORDERS_PLATFORM_KAFKA__", None),
        ("ORDERS_PLATFORM_X", None),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str | None
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError, match=f"{name} is no setting" + (f"; did you mean {meant}" if meant else "")):
        load()


@pytest.mark.parametrize(
    "name",
    [
        "ORDERS_PLATFORM_FAULT",
        "ORDERS_PLATFORM_GOLD_BRANCH",
        "ORDERS_PLATFORM_HOME",
        "ORDERS_PLATFORM_KAFKA__SSL_CA_LOCATION",
        "ORDERS_PLATFORM_SERVICE_HOST",
        "ORDERS_PLATFORM_PORT",
        "ORDERS_PLATFORM_PORT_3000_TCP_ADDR",
        "ORDERS_PLATFORM_WEBSERVER_SERVICE_PORT_HTTP",
    ],
)
def test_names_of_tests_of_librdkafka_and_of_kubernetes_are_no_mistakes(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "x")
    load()


def test_lines_of_an_env_file_reach_ports_catalog_and_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        "ORDERS_PLATFORM_THREADS=3",
        "ORDERS_PLATFORM_PORT_KAFKA=29092",
        "ORDERS_PLATFORM_KAFKA__CLIENT_ID=ours",
        "PYICEBERG_CATALOG__ORDERS__URI=https://catalog.example.com",
        "PYICEBERG_CATALOG__ORDERS__TYPE=rest",
        "export AWS_REGION='eu-central-1'",
        "ORDERS_PLATFORM_TOPIC_PREFIX=of_the_file",
    )
    (tmp_path / ".env").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setenv("ORDERS_PLATFORM_TOPIC_PREFIX", "of_the_environment")
    settings = load()
    assert (settings.threads, settings.ports.kafka) == (3, 29092)
    assert settings.kafka_config == {"bootstrap.servers": "127.0.0.1:29092", "client.id": "ours"}
    assert settings.s3 == {"s3.region": "eu-central-1"}
    assert settings.catalog_properties == {"type": "rest", "uri": "https://catalog.example.com", **settings.s3}
    assert settings.topic_prefix == "of_the_environment"


def test_a_mistake_in_an_env_file_is_found(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ORDERS_PLATFORM_TREADS=3\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="did you mean ORDERS_PLATFORM_THREADS"):
        load()


def test_kafka_settings_carry_librdkafkas_names(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, {"ORDERS_PLATFORM_KAFKA__SASL_USERNAME": "me", "ORDERS_PLATFORM_KAFKA__BOOTSTRAP_SERVERS": "h:1"})
    assert load().kafka_config == {"bootstrap.servers": "h:1", "sasl.username": "me"}


def test_s3_access_comes_from_the_aws_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(
        monkeypatch,
        {
            "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_REGION": "r",
        },
    )
    assert load().s3 == {
        "s3.endpoint": "http://127.0.0.1:1",
        "s3.access-key-id": "a",
        "s3.secret-access-key": "s",
        "s3.region": "r",
    }


def test_secrets_do_not_show_in_the_settings_text(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, PRODUCTION)
    assert "a secret of our own" not in repr(load())
    assert "loader:secret" not in repr(load())
