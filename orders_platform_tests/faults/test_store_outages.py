"""An S3 server that does not answer, or not now, as each of its clients tells it: that may pass, and is tried again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import dagster as dg
import duckdb
import pyarrow as pa
import pytest
from pyiceberg.io import load_file_io
from typer.testing import CliRunner

from orders_platform.cli.app import WRONG, app
from orders_platform.contracts import load_contracts
from orders_platform.defs.automation.kafka_lag import kafka_lag
from orders_platform.defs.automation.stale_dates import stale_order_dates
from orders_platform.defs.resources.dbt import _failure
from orders_platform.defs.resources.passing_errors import may_pass
from orders_platform.defs.resources.platform import Platform
from orders_platform.ingest.bronze import bronze_table
from orders_platform.ingest.staging_files import storage
from orders_platform.lake.duckdb_engine import connect
from orders_platform.lake.silver import ensure_silver
from orders_platform.settings import Settings
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.faults.remote_store import BUCKET
from orders_platform_tests.faults.store_proxy import Disturbance, StoreFault, StoreProxy

ALWAYS = 10**9
CONTENT = b"content" * 50_000


@pytest.fixture
def on_s3(s3_server: Mapping[str, str], proxy: StoreProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An installation of its own whose staging and warehouse are on the server, behind the proxy."""
    for name, value in {**s3_server, "AWS_ENDPOINT_URL_S3": proxy.url}.items():
        monkeypatch.setenv(name, value)
    place = f"s3://{BUCKET}/{tmp_path.name}"
    monkeypatch.setenv("PYICEBERG_CATALOG__ORDERS__WAREHOUSE", f"{place}/warehouse")
    return new_settings(tmp_path / "home", staging_url=f"{place}/staging")


def put(settings: Settings) -> None:
    storage(settings).put("some/file", pa.py_buffer(CONTENT))


def get(settings: Settings) -> None:
    storage(settings).read("some/file")


def names(settings: Settings) -> None:
    storage(settings).names("some")


def scan(settings: Settings) -> None:
    with connect(settings) as con:
        con.execute("SET http_retry_wait_ms = 1")
        con.execute(f"SELECT count(*) FROM read_parquet('{settings.staging}/some/rows.parquet')").fetchall()


def copy(settings: Settings) -> None:
    with connect(settings) as con:
        con.execute("SET http_retry_wait_ms = 1")
        con.execute(f"COPY (SELECT range AS n FROM range(100_000)) TO '{settings.staging}/some/rows.parquet'")


def write_metadata(settings: Settings) -> None:
    io = load_file_io({**settings.s3})
    with io.new_output(f"{settings.staging}/some/metadata").create(overwrite=True) as stream:
        stream.write(CONTENT)


def read_metadata(settings: Settings) -> None:
    io = load_file_io({**settings.s3})
    with io.new_input(f"{settings.staging}/some/metadata").open() as stream:
        stream.read()


OF_DUCKDB = (scan, copy)
READS, WRITES = (get, names, scan, read_metadata), (put, copy, write_metadata)


@pytest.mark.parametrize("act", [*READS, *WRITES])
@pytest.mark.parametrize("outage", ["503", "gone"])
def test_a_store_that_is_away_may_come_back(
    on_s3: Settings,
    proxy: StoreProxy,
    outage: str,
    act: Callable[[Settings], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for write in WRITES:
        write(on_s3)
    act(on_s3)  # the request itself is a good one
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    if outage == "503":
        proxy.disturb(Disturbance(StoreFault.ANSWER_503, count=ALWAYS))
    else:
        proxy.stop_listening()
    with pytest.raises(Exception) as raised:  # noqa: PT011 whatever the client makes of it
        act(on_s3)
    assert may_pass(raised.value), repr(raised.value)
    if act in OF_DUCKDB:  # dbt's reads and writes are DuckDB's, and its log quotes them
        assert may_pass(_failure(f"model.orders_platform.gold_fact_orders: error: {raised.value}"))


@pytest.mark.parametrize("write", WRITES)
def test_an_upload_that_is_cut_each_time_may_pass(
    on_s3: Settings, proxy: StoreProxy, write: Callable[[Settings], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    proxy.disturb(Disturbance(StoreFault.UPLOAD_CUT, count=ALWAYS))
    with pytest.raises(Exception) as raised:  # noqa: PT011 whatever the client makes of it
        write(on_s3)
    assert may_pass(raised.value), repr(raised.value)


@pytest.mark.parametrize("act", [*READS, *WRITES])
def test_a_wrong_key_does_not_pass(
    on_s3: Settings, act: Callable[[Settings], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for write in WRITES:
        write(on_s3)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it has read the right one
    with pytest.raises(Exception) as raised:  # noqa: PT011 whatever the client makes of it
        act(new_settings(on_s3.home, staging_url=on_s3.staging))
    assert not may_pass(raised.value), repr(raised.value)


def test_what_a_local_disk_says_does_not_pass(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as missing:
        (tmp_path / "nothing").read_bytes()
    with pytest.raises(duckdb.IOException) as absent:
        duckdb.connect().execute(f"SELECT * FROM '{tmp_path}/nothing.parquet'")
    assert not may_pass(missing.value)
    assert not may_pass(absent.value)
    assert not may_pass(_failure(f"model.orders_platform.gold_fact_orders: error: {absent.value}"))


def test_sensors_skip_and_commands_say_a_sentence_while_the_store_is_away(
    on_s3: Settings, proxy: StoreProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Platform(on_s3).catalog
    for contract in load_contracts():
        bronze_table(catalog, contract)
        ensure_silver(catalog, contract)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    proxy.stop_listening()
    with dg.DagsterInstance.ephemeral() as instance:
        for sensor in (kafka_lag, stale_order_dates):
            skipped = sensor(dg.build_sensor_context(instance, resources={"platform": Platform(on_s3)}))
            assert isinstance(skipped, dg.SkipReason)
            assert "AWS Error NETWORK_CONNECTION" in (skipped.skip_message or "")
    monkeypatch.setenv("ORDERS_PLATFORM_HOME", str(on_s3.home))
    monkeypatch.setenv("ORDERS_PLATFORM_STAGING_URL", on_s3.staging)
    said = CliRunner().invoke(app, ["sync"])
    assert said.exit_code == WRONG
    assert "Traceback" not in said.output
    assert "nothing is lost, give the same command again" in " ".join(said.output.split())
