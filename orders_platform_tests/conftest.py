"""Real parts for all tests, each started once a session in a temporary home with free ports."""

from __future__ import annotations

import os
import random
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from orders_platform.settings import Ports, Settings
from orders_platform_tests.isolation import forget_the_callers_settings

forget_the_callers_settings()  # before a test is collected, and so before anything reads its settings

# The same examples on every machine, however long one of them takes there.
hypothesis.settings.register_profile(
    "tests", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def _free_ports(count: int) -> list[int]:
    """Ports below the range from which systems take those of outgoing connections: nobody takes them in between.

    Each of pytest's workers has its own; of two, one has the even numbers and the other the odd ones.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000 + WORKER, 32_000, WORKERS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def new_settings(home: Path, **values: object) -> Settings:
    """Settings of an installation of its own: no `.env`, no port that another one has."""
    postgres, kafka, controller, connect, clickhouse, dagster = _free_ports(6)
    ports = Ports(
        postgres=postgres,
        kafka=kafka,
        kafka_controller=controller,
        connect=connect,
        clickhouse=clickhouse,
        dagster=dagster,
    )
    return Settings(_env_file=None, home=home, ports=ports, **values)  # type: ignore[call-arg, arg-type]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that may take the longest, as their time-out says, come first: no worker is left with one at the end."""
    items.sort(key=lambda item: -max((mark.args[0] for mark in item.iter_markers("timeout")), default=0))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A fresh home, nothing running."""
    return new_settings(tmp_path / "home")


@pytest.fixture(scope="session")
def new_home() -> Iterator[Callable[[str], Path]]:
    """Makes homes with a space in their path, which any user may enter and which are removed at the end."""
    folders: list[Path] = []

    def make(name: str) -> Path:
        folder = Path(tempfile.mkdtemp(prefix=f"orders platform {name} "))
        folder.chmod(0o755)
        folders.append(folder)
        return folder

    yield make
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def broker(new_home: Callable[[str], Path]) -> Iterator[Settings]:
    """A running Kafka without topics, and nothing else."""
    from orders_platform.stack.kafka import kafka
    from orders_platform.stack.supervise import running

    settings = new_settings(new_home("broker"))
    with running(kafka(settings), print):
        yield settings


@pytest.fixture(scope="session")
def clickhouse(new_home: Callable[[str], Path]) -> Iterator[Settings]:
    """A running ClickHouse front with an empty `default` database, and nothing else."""
    from orders_platform.stack.clickhouse import clickhouse as part
    from orders_platform.stack.supervise import running

    settings = new_settings(new_home("clickhouse"))
    with running(part(settings), print):
        yield settings


@pytest.fixture(scope="session")
def postgres(new_home: Callable[[str], Path]) -> Iterator[Settings]:
    """A running PostgreSQL with an empty database `shop`, and nothing else."""
    from orders_platform.stack.postgres import postgres as part
    from orders_platform.stack.supervise import running

    settings = new_settings(new_home("postgres"))
    with running(part(settings), print):
        yield settings


@pytest.fixture
def shop_dsn(postgres: Settings) -> str:
    """An empty database of the test's own, without the shop's tables."""
    import psycopg

    name = f"shop_{random.randrange(10**12)}"
    with psycopg.connect(postgres.postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"postgresql://shop@127.0.0.1:{postgres.ports.postgres}/{name}"


@pytest.fixture(scope="session")
def live_stack(new_home: Callable[[str], Path]) -> Iterator[Settings]:
    """Everything: PostgreSQL with the shop's empty tables, Kafka with their topics, Debezium running, ClickHouse."""
    from orders_platform.stack import down, up

    settings = new_settings(new_home("stack"))
    try:
        up(settings, print)
        yield settings
    finally:
        down(settings, print)
