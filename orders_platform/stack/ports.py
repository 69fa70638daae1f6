"""Who uses a port."""

from __future__ import annotations

import os
import socket

import psutil

from orders_platform.settings import PREFIX, Settings
from orders_platform.stack.errors import StackError
from orders_platform.stack.part import Part

HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether a server could listen on it now."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen(1)
        except OSError:
            return False
    return True


def answers(port: int) -> bool:
    """Whether somebody accepts connections on it."""
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def user_of(port: int) -> str:
    """Who listens there, such as `pid 4711 (java -cp …)`; what the system does not tell us is said so."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return "a process that this user may not see"
    pids = {c.pid for c in connections if c.laddr and c.laddr.port == port and c.status == psutil.CONN_LISTEN and c.pid}
    for pid in sorted(pids):
        try:
            return f"pid {pid} ({' '.join(psutil.Process(pid).cmdline())[:120] or psutil.Process(pid).name()})"
        except psutil.Error:
            continue
    return "a process that this user may not see"


def taken_ports(parts: tuple[Part, ...]) -> list[str]:
    """Every port of these parts that someone else has, with the setting that changes it."""
    return [
        _taken(port, part.title, setting) for part in parts for setting, port in part.ports.items() if not is_free(port)
    ]


def taken_ui_port(settings: Settings) -> str | None:
    """As `taken_ports`, of the Dagster UI, which `make dev` starts; None too where that of this home has its port."""
    port = settings.ports.dagster
    if is_free(port) or _is_ui_of(settings):
        return None
    return _taken(port, "the Dagster UI", f"{PREFIX}PORT_DAGSTER")


def _is_ui_of(settings: Settings) -> bool:
    """Whether a Dagster web server runs here at that port with this home's storage, as `make dev` starts it."""
    home, port = os.path.realpath(settings.home / "dagster"), str(settings.ports.dagster)
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if port not in command or not any("dagster" in word for word in command):
                continue
            if os.path.realpath(process.environ().get("DAGSTER_HOME", "")) == home:
                return True
        except (psutil.Error, OSError):
            continue
    return False


def _taken(port: int, title: str, setting: str) -> str:
    return f"port {port} of {title} is used by {user_of(port)}; stop that process, or set {setting} to a free port"


def require_free(parts: tuple[Part, ...]) -> None:
    """Raises `StackError` naming every port that is taken, by whom, and the setting that changes it."""
    if problems := taken_ports(parts):
        raise StackError("; ".join(problems))


def require_free_ui_port(settings: Settings) -> None:
    """Raises `StackError` when the Dagster UI could not listen: somebody has its port, be it a UI of this home."""
    port = settings.ports.dagster
    if not is_free(port):
        raise StackError(f"nothing was started: {_taken(port, 'the Dagster UI', f'{PREFIX}PORT_DAGSTER')}")
