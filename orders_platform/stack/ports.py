"""Who uses a port."""

from __future__ import annotations

import socket

import psutil

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
        f"port {port} of {part.title} is used by {user_of(port)}; stop that process, or set {setting} to a free port"
        for part in parts
        for setting, port in part.ports.items()
        if not is_free(port)
    ]


def require_free(parts: tuple[Part, ...]) -> None:
    """Raises `StackError` naming every port that is taken, by whom, and the setting that changes it."""
    if problems := taken_ports(parts):
        raise StackError("; ".join(problems))
