"""Nothing that names the caller's systems reaches a test, a benchmark or a history."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orders_platform_tests.isolation import INSTEAD, PREFIXES

ROOT = Path(__file__).parents[1]
EXPORTED = {
    "ORDERS_PLATFORM_POSTGRES_DSN": "postgresql://me@db.example.com/shop",
    "ORDERS_PLATFORM_KAFKA__BOOTSTRAP_SERVERS": "kafka.example.com:9092",
    "ORDERS_PLATFORM_THREADS": "7",
    "PYICEBERG_CATALOG__ORDERS__URI": "https://catalog.example.com",
    "AWS_ENDPOINT_URL_S3": "https://s3.example.com",
    "AWS_PROFILE": "example.com",
    "DBT_TARGET": "example.com",
    "DAGSTER_HOME": "/srv/example.com",
}
IN_THE_FILE = {
    "ORDERS_PLATFORM_CLICKHOUSE_URL": "https://clickhouse.example.com",
    "ORDERS_PLATFORM_STAGING_URL": "s3://example.com/staging",
    "PYICEBERG_CATALOG__ORDERS__WAREHOUSE": "s3://example.com/warehouse",
    "AWS_ACCESS_KEY_ID": "example.com",
}
AT_HOME = "catalog:\n  orders:\n    uri: https://catalog.example.com\n    token: example.com\n"
SHOW = """
import json, os
from pathlib import Path
from orders_platform.settings import load
{begin}
from orders_platform_tests.conftest import new_settings
seen = [dict(os.environ)]
for settings in (new_settings(Path("home")), load()):
    seen += [settings.model_dump(mode="json"), dict(settings.catalog_properties), dict(settings.s3)]
    seen += [settings.postgres, settings.kafka_config, settings.clickhouse, settings.staging]
print(json.dumps([seen, dict(os.environ)]))
"""
BEGIN = {"tests": "", "histories": "from orders_platform_tests.faults.matrix import main; main(['--seeds', '0'])"}
"""The benchmark's own test runs it with `EXPORTED`."""


def without_isolation() -> dict[str, str]:
    """The environment as the caller of a test run might have it, but for what names a system."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}


@pytest.mark.parametrize("begin", BEGIN.values(), ids=BEGIN)
def test_nothing_exported_or_in_an_env_file_is_used(begin: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in IN_THE_FILE.items()), "utf-8")
    (tmp_path / ".pyiceberg.yaml").write_text(AT_HOME, "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", SHOW.format(begin=begin)],
        env={**without_isolation(), **EXPORTED, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    _, environment = json.loads(done.stdout.splitlines()[-1])
    assert "example.com" not in done.stdout
    assert {name: value for name, value in environment.items() if name.startswith(PREFIXES)} == INSTEAD


def test_a_process_that_a_test_starts_keeps_what_the_test_gave_it() -> None:
    show = "import os; import orders_platform_tests.conftest; print(os.environ['AWS_REGION'])"
    given = {**os.environ, "AWS_REGION": "of-the-test"}
    done = subprocess.run([sys.executable, "-c", show], env=given, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "of-the-test\n"


def test_a_test_run_forgets_them_before_it_collects(tmp_path: Path) -> None:
    """As `make test` runs: pytest itself, with the caller's environment, in a folder that has a `.env`."""
    (tmp_path / ".env").write_text("ORDERS_PLATFORM_POSTGRES_DSN=postgresql://db.example.com/shop\n", "utf-8")
    wanted = f"{ROOT}/orders_platform_tests/test_cli.py::test_a_stack_that_is_down_is_said_to_programs_too"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT), wanted],
        env={**without_isolation(), **EXPORTED, "ORDERS_PLATFORM_ENV": "staging"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
