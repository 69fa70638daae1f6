"""ClickHouse's engine in this process (chdb), as its HTTP interface uses it: statements, settings, sessions."""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chdb
from chdb import ChdbError

from orders_platform.errors import PlatformError

SESSION_SECONDS = 60.0
_CODE = re.compile(r"Code: (\d+)")
_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
_INSERT_OF_DATA = re.compile(r"\s*INSERT\s+INTO\b.*\bFORMAT\s+(\w+)\s*$", re.IGNORECASE | re.DOTALL)
_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class EngineError(PlatformError):
    """The engine refused a statement; `code` is ClickHouse's number of the error."""

    def __init__(self, message: str) -> None:
        self.message = message[message.find("Code: ") :] if "Code: " in message else message
        match = _CODE.search(message)
        self.code = int(match[1]) if match else 1002  # UNKNOWN_EXCEPTION
        super().__init__(self.message)


@dataclass(frozen=True)
class Statement:
    """One request: `data` follows an INSERT … FORMAT; `settings` hold for this statement alone."""

    sql: str
    data: bytes = b""
    database: str = ""
    session: str = ""
    default_format: str = "TabSeparated"
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def format(self) -> str:
        """The format of its answer."""
        match = _FORMAT.search(self.sql)
        return match[1] if match else self.default_format


@dataclass(frozen=True)
class Answer:
    """What a statement gave."""

    body: bytes
    format: str
    written_rows: int
    read_rows: int


@dataclass
class _Session:
    """A connection whose state (SET, temporary tables) lasts; one statement at a time."""

    connection: Any
    lock: threading.Lock = field(default_factory=threading.Lock)
    used: float = field(default_factory=time.monotonic)


class Engine:
    """The engine on one folder. Any number of threads may use it; only one process can."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._url = str(folder)
        self._temporary = folder
        self._keeper = chdb.connect(self._url)  # the engine lives as long as one connection is open
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()

    def run(self, statement: Statement) -> Answer:
        """Runs one statement. Raises `EngineError`."""
        with self._connection(statement.session) as connection, _as_engine_error():
            if statement.database:
                connection.query(f"USE {_identifier(statement.database)}")
            with _settings(connection, statement.settings):
                return self._run(connection, statement)

    def close(self) -> None:
        """Closes everything, so that what was written is on the disk."""
        with self._lock:
            for session in self._sessions.values():
                session.connection.close()
            self._sessions.clear()
            self._keeper.close()

    def _run(self, connection: Any, statement: Statement) -> Answer:
        insert = _INSERT_OF_DATA.fullmatch(statement.sql) if statement.data else None
        if insert is None:
            sql = "\n".join(part for part in (statement.sql, statement.data.decode()) if part)
            result = connection.query(sql, statement.default_format, params=dict(statement.parameters))
        else:
            # The engine takes data from a file only, not from its caller's memory.
            with tempfile.NamedTemporaryFile(dir=self._temporary, prefix=".insert-") as file:
                file.write(statement.data)
                file.flush()
                head = statement.sql[: insert.start(1)].rstrip()[: -len("FORMAT")]
                result = connection.query(f"{head} FROM INFILE {_text(file.name)} FORMAT {insert[1]}")
        return Answer(result.bytes() or b"", statement.format, result.rows_written(), result.rows_read())

    @contextmanager
    def _connection(self, name: str) -> Iterator[Any]:
        if not name:
            connection = chdb.connect(self._url)
            try:
                yield connection
            finally:
                connection.close()
            return
        with self._lock:
            self._forget_old_sessions()
            if name not in self._sessions:
                self._sessions[name] = _Session(chdb.connect(self._url))
            session = self._sessions[name]
            session.used = time.monotonic()
        with session.lock:
            yield session.connection
            session.used = time.monotonic()

    def _forget_old_sessions(self) -> None:
        limit = time.monotonic() - SESSION_SECONDS
        for name, session in list(self._sessions.items()):
            if session.used < limit and session.lock.acquire(blocking=False):
                del self._sessions[name]
                session.connection.close()


@contextmanager
def _settings(connection: Any, settings: Mapping[str, str]) -> Iterator[None]:
    """Sets them for one statement, and puts the session's own values back."""
    if not settings:
        yield
        return
    names = [name for name in settings if _SETTING_NAME.fullmatch(name)]
    listed = ", ".join(_text(name) for name in names)
    rows = connection.query(f"SELECT name, value FROM system.settings WHERE name IN ({listed})", "JSONCompactEachRow")
    before = [_json(line) for line in rows.bytes().decode().splitlines()]
    for name in names:
        connection.query(f"SET {name} = {_text(settings[name])}")
    try:
        yield
    finally:
        for name, value in before:
            connection.query(f"SET {name} = {_text(value)}")


@contextmanager
def _as_engine_error() -> Iterator[None]:
    try:
        yield
    except (ChdbError, RuntimeError) as error:
        raise EngineError(str(error)) from error


def _json(line: str) -> tuple[str, str]:
    import json

    name, value = json.loads(line)
    return str(name), str(value)


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _identifier(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
