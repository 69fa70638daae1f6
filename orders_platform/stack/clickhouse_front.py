"""ClickHouse's HTTP interface over the embedded engine, so that readers and the loader can work at the same time.

`python -m orders_platform.stack.clickhouse_front --path FOLDER --port PORT`. The engine lets one process in; this is
that process, and any client of ClickHouse's HTTP interface can talk to it (https://clickhouse.com/docs/interfaces/http).
It listens on 127.0.0.1 alone, and refuses pages in a browser, which could otherwise reach it from anywhere.
"""

from __future__ import annotations

import argparse
import gzip
import json
import signal
import sys
import threading
import zlib
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from orders_platform.errors import PlatformError
from orders_platform.stack.clickhouse_engine import Answer, Engine, EngineError, Statement

HOST = "127.0.0.1"
MAX_BODY_BYTES = 1024 * 1024 * 1024
BAD_REQUEST_CODE = 36  # ClickHouse's BAD_ARGUMENTS
# Parameters of the interface itself: everything else that is no `param_…` is a setting of the engine.
TRANSPORT_PARAMETERS = frozenset(
    {
        "query", "database", "session_id", "session_timeout", "session_check", "query_id", "quota_key", "user",
        "password", "default_format", "compress", "decompress", "wait_end_of_query", "buffer_size", "role",
        "client_protocol_version", "send_progress_in_http_headers", "http_headers_progress_interval_ms",
        "enable_http_compression",
    }
)  # fmt: skip


class Front(ThreadingHTTPServer):
    """The server: a thread for each connection, all on one engine."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, engine: Engine) -> None:
        self.engine = engine
        super().__init__((HOST, port), Handler)


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server_version = "orders-platform-clickhouse"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Front

    def do_GET(self) -> None:
        """`/ping`, or a statement in the address."""
        if urlsplit(self.path).path == "/ping":
            self._send(200, b"Ok.\n", {})
        else:
            self._serve()

    def do_POST(self) -> None:
        """A statement in the address, the body, or both: the body of an INSERT is its data."""
        self._serve()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing of requests that went well: `_serve` reports the others."""

    def _serve(self) -> None:
        try:
            body = self._body()
            if self.headers.get("Origin"):
                raise RequestError("requests of web pages are refused")
            statement = self._statement(body)
            answer = self.server.engine.run(statement)
        except EngineError as error:
            self._fail(404 if error.code in (60, 81) else 500, error.code, error.message)
        except RequestError as error:
            self._fail(400, BAD_REQUEST_CODE, f"Code: {BAD_REQUEST_CODE}. DB::Exception: {error}. (BAD_ARGUMENTS)")
        else:
            self._send(200, answer.body, _headers(answer))

    def _statement(self, body: bytes) -> Statement:
        parameters = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        if "multipart/form-data" in self.headers.get("Content-Type", ""):
            parameters |= _form(self.headers["Content-Type"], body)
            body = b""
        sql, data = parameters.get("query", ""), body
        if not sql:
            head, newline, rest = body.partition(b"\n")
            # An INSERT with binary data: its first line is the statement.
            if newline and head.lstrip()[:6].upper() == b"INSERT" and b" FORMAT " in head.upper():
                sql, data = head.decode(), rest
            else:
                sql, data = body.decode(), b""
        return Statement(
            sql=sql,
            data=data,
            database=parameters.get("database", ""),
            session=parameters.get("session_id", ""),
            default_format=self.headers.get("X-ClickHouse-Format")
            or parameters.get("default_format")
            or "TabSeparated",
            settings={
                name: value
                for name, value in parameters.items()
                if name not in TRANSPORT_PARAMETERS and not name.startswith("param_")
            },
            parameters={n.removeprefix("param_"): v for n, v in parameters.items() if n.startswith("param_")},
        )

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            raw = b"".join(self._chunks())
        else:
            length = int(self.headers.get("Content-Length") or 0)
            _require_size(length)
            raw = self.rfile.read(length)
        return _decompress(raw, self.headers.get("Content-Encoding", ""))

    def _chunks(self) -> list[bytes]:
        found, total = [], 0
        while size := int(self.rfile.readline().split(b";")[0], 16):
            total += size
            _require_size(total)
            found.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _fail(self, status: int, code: int, message: str) -> None:
        print(f"{self.command} {status}: {message[:500]}", flush=True)
        self._send(status, message.encode() + b"\n", {"X-ClickHouse-Exception-Code": str(code)})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body)), "X-ClickHouse-Timezone": "UTC"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class RequestError(PlatformError):
    """A request that is none of ClickHouse's interface."""


def _headers(answer: Answer) -> dict[str, str]:
    summary = {"read_rows": str(answer.read_rows), "written_rows": str(answer.written_rows)}
    return {
        "X-ClickHouse-Format": answer.format,
        "X-ClickHouse-Summary": json.dumps(summary),
        "Content-Type": "application/octet-stream",
    }


def _form(content_type: str, body: bytes) -> dict[str, str]:
    """The fields of a form: a long statement and its parameters come this way."""
    message = BytesParser().parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    fields = {}
    for part in message.get_payload():
        if isinstance(part, str) or part.get_filename():
            raise RequestError("external data are not supported by the embedded engine")
        payload = part.get_payload(decode=True)
        name = part.get_param("name", header="content-disposition")
        fields[str(name)] = payload.decode() if isinstance(payload, bytes) else ""
    return fields


def _decompress(raw: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity"):
        return raw
    if encoding == "gzip":
        return gzip.decompress(raw)
    if encoding == "deflate":
        return zlib.decompress(raw)
    if encoding == "zstd":
        return _zstd_decompress(raw)
    if encoding == "lz4":
        return _lz4_decompress(raw)
    raise RequestError(f"content encoding {encoding!r} is not supported by the embedded engine")


def _zstd_decompress(raw: bytes) -> bytes:
    """zstd is in Python from 3.14 on; before, clickhouse-connect brings it."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return bytes(zstd.decompress(raw))


def _lz4_decompress(raw: bytes) -> bytes:
    """A client only sends it if it has the package, and on one machine both have the same."""
    import lz4.frame  # type: ignore[import-untyped]

    return bytes(lz4.frame.decompress(raw))


def _require_size(length: int) -> None:
    if length > MAX_BODY_BYTES:
        raise RequestError(f"a body of more than {MAX_BODY_BYTES} bytes")


def main() -> None:
    """Serves until SIGTERM or SIGINT, then closes the engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--path", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    engine = Engine(options.path)
    front = Front(options.port, engine)
    for number in (signal.SIGTERM, signal.SIGINT):
        # From another thread: shutdown waits for the loop that this handler interrupts.
        signal.signal(number, lambda *_: threading.Thread(target=front.shutdown).start())
    print(f"ClickHouse's HTTP interface at {HOST}:{options.port}, data in {options.path}", flush=True)
    front.serve_forever(poll_interval=0.2)
    front.server_close()
    engine.close()


if __name__ == "__main__":
    main()
