"""Settings fail closed, name every mistake at once, and keep the names that the tools behind them have."""

from __future__ import annotations

from pathlib import Path

import pytest

from orders_platform.settings import SettingsError, load

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
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(("ORDERS_PLATFORM_", "PYICEBERG_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


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
    missing = {name for name in PRODUCTION if not name.endswith(("_ENV", "TYPE"))}
    assert [name for name in missing if f"{name} must be set in production" not in str(error.value)] == []


def test_a_complete_production_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, PRODUCTION)
    settings = load()
    assert settings.kafka_config == {"bootstrap.servers": "broker.example.com:9092"}
    assert settings.staging == "s3://lake/staging"
    assert settings.catalog_properties["uri"] == "https://catalog.example.com"
    assert settings.masking_key == b"a secret of our own"


@pytest.mark.parametrize("name", sorted(set(PRODUCTION) - {"ORDERS_PLATFORM_ENV", "PYICEBERG_CATALOG__ORDERS__TYPE"}))
def test_production_refuses_to_start_without(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    _set(monkeypatch, PRODUCTION)
    monkeypatch.delenv(name)
    with pytest.raises(SettingsError, match=name):
        load()


def test_production_refuses_a_sql_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, PRODUCTION | {"PYICEBERG_CATALOG__ORDERS__TYPE": "sql"})
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
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
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
