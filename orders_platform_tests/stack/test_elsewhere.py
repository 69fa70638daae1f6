"""Parts that somebody else runs: the doctor asks each, within a limit, and knows what to do."""

from __future__ import annotations

import threading
from pathlib import Path

import psycopg
import pytest

from orders_platform.contracts import load_contracts
from orders_platform.ingest.topics import create_topics
from orders_platform.settings import Ports, Settings
from orders_platform.stack import doctor
from orders_platform.stack.diagnosis import Finding
from orders_platform.stack.elsewhere import LackingError, Probe, ask, probes
from orders_platform_tests.conftest import _free_ports, new_settings
from orders_platform_tests.object_store import object_store

PRODUCTION = {
    "env": "production",
    "pii_key": "a secret of our own",
    "topic_prefix": "asked",
}


def production(home: Path, monkeypatch: pytest.MonkeyPatch, **places: object) -> Settings:
    """Settings of production whose parts are at these places; what is not given, at a port where nobody listens."""
    (port,) = _free_ports(1)
    monkeypatch.setenv("PYICEBERG_CATALOG__ORDERS__TYPE", "rest")
    monkeypatch.setenv("PYICEBERG_CATALOG__ORDERS__URI", f"http://127.0.0.1:{port}")
    nowhere = {
        "kafka": {"bootstrap_servers": f"127.0.0.1:{port}"},
        "postgres_dsn": f"postgresql://shop@127.0.0.1:{port}/shop",
        "staging_url": "s3://lake/staging",
        "clickhouse_url": f"http://127.0.0.1:{port}/default",
    }
    return Settings(home=home, ports=Ports(), **{**PRODUCTION, **nowhere, **places})  # type: ignore[arg-type]


def _about(findings: list[Finding], title: str) -> Finding:
    (found,) = (finding for finding in findings if finding.what.startswith(title))
    return found


def test_parts_that_do_not_answer_are_named_each_with_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = _free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    findings = doctor(production(tmp_path, monkeypatch))
    for title, setting in {
        "PostgreSQL": "ORDERS_PLATFORM_POSTGRES_DSN",
        "Kafka": "ORDERS_PLATFORM_KAFKA__*",
        "S3": "ORDERS_PLATFORM_STAGING_URL",
        "the catalog": "PYICEBERG_CATALOG__ORDERS__*",
        "ClickHouse": "ORDERS_PLATFORM_CLICKHOUSE_URL",
    }.items():
        assert not _about(findings, title).ok
        assert setting in _about(findings, title).remedy


def test_parts_that_answer_are_well(
    postgres: Settings, broker: Settings, clickhouse: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with object_store(_free_ports(8), "lake") as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        settings = production(
            tmp_path,
            monkeypatch,
            kafka={"bootstrap_servers": f"127.0.0.1:{broker.ports.kafka}"},
            postgres_dsn=postgres.postgres,
            clickhouse_url=clickhouse.clickhouse,
        )
        before = doctor(settings)
        create_topics(settings, load_contracts())
        after = doctor(settings)
    missing = _about(before, "Kafka")
    assert not missing.ok
    assert "asked.public.orders" in missing.what
    assert "ORDERS_PLATFORM_TOPIC_PREFIX" in missing.remedy
    wrong = {finding.what for finding in after if not finding.ok}
    assert [what for what in wrong if what.startswith(("PostgreSQL", "Kafka", "S3", "ClickHouse"))] == []


def test_a_server_without_logical_decoding_is_found(
    shop_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a role sees it whose sessions report another level: the setting itself needs a restart of the server."""
    settings = production(tmp_path, monkeypatch, postgres_dsn=shop_dsn)
    probe = next(probe for probe in probes(settings) if probe.title == "PostgreSQL")
    with psycopg.connect(shop_dsn) as connection:
        connection.execute(
            "CREATE FUNCTION public.current_setting(text) RETURNS text LANGUAGE sql AS $$SELECT 'replica'$$"
        )
        connection.execute(f"ALTER DATABASE {shop_dsn.rpartition('/')[2]} SET search_path = public, pg_catalog")
    with pytest.raises(LackingError, match="wal_level=replica") as error:
        ask(probe, settings)
    assert "wal_level = logical" in error.value.remedy


def test_a_part_that_never_answers_holds_nobody(settings: Settings) -> None:
    forever = Probe("A part", lambda _: str(threading.Event().wait()), "wait no longer")
    with pytest.raises(LackingError, match=r"no answer within 0\.1 s"):
        ask(forever, settings, seconds=0.1)


def test_nothing_is_asked_of_a_stack_of_our_own(settings: Settings) -> None:
    assert probes(settings) == []
    assert [p.title for p in probes(new_settings(settings.home, postgres_dsn="postgresql://db/shop"))] == ["PostgreSQL"]
