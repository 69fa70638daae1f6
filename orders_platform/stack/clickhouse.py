"""The ClickHouse front as a part of the stack."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from pathlib import Path

from orders_platform.settings import Settings
from orders_platform.stack.part import Part, Places, UnhealthyError, installed_version, places
from orders_platform.stack.processes import Command

NAME = "clickhouse"
ANSWER_SECONDS = 5


def clickhouse(settings: Settings) -> Part:
    """The server of the dashboard tables."""
    place = places(settings, NAME)
    return Part(
        name=NAME,
        title="ClickHouse (chdb)",
        endpoint=f"http://127.0.0.1:{settings.ports.clickhouse}",
        version=installed_version("chdb-core"),
        ports={"ORDERS_PLATFORM_PORT_CLICKHOUSE": settings.ports.clickhouse},
        folder=place.folder,
        mark=str(place.folder / "data"),
        log_file=place.log_file,
        pid_file=place.pid_file,
        prepare=lambda _: _prepare(settings, place),
        answer=lambda: _answer(settings, place.folder),
    )


def _prepare(settings: Settings, place: Places) -> Command:
    data = place.folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    return Command(
        arguments=(
            sys.executable,
            "-m",
            "orders_platform.stack.clickhouse_front",
            "--port",
            str(settings.ports.clickhouse),
            "--path",
            str(data),
        ),
        mark=str(data),
        log_file=place.log_file,
        pid_file=place.pid_file,
        environment={"TZ": "UTC"},
        cwd=place.folder,
    )


def _answer(settings: Settings, folder: Path) -> str:
    url = f"http://127.0.0.1:{settings.ports.clickhouse}/?query=SELECT%20path%20FROM%20system.disks"
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as response:
            path = response.read().decode().strip()
    except (urllib.error.URLError, OSError) as error:
        raise UnhealthyError(f"ClickHouse does not answer at {settings.ports.clickhouse}: {error}") from error
    if Path(path) != folder / "data":
        raise UnhealthyError(f"another ClickHouse answers at port {settings.ports.clickhouse}, with its data in {path}")
    return f"data in {path}"
