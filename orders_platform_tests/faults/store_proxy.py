"""A way to a real S3 server on which something can go wrong: answers 503, answers that are late, uploads that are cut.

It passes everything byte for byte, the `Host` header included, so that signatures hold; what was not told to go wrong
goes right.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

PIECE_BYTES = 1 << 16
TURNS_UNTIL_CLOSED = 3
"""Of the loop, after a transport has been told to close: it tells its protocol, which tells its stream."""

SLOW_DOWN = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Reduce</Message></Error>'


class StoreFault(StrEnum):
    """What goes wrong with a request."""

    ANSWER_503 = "answer-503"
    LATE_ANSWER = "late-answer"
    UPLOAD_CUT = "upload-cut"


@dataclass(frozen=True)
class Disturbance:
    """Which requests it happens to: `count` of them from the number `first` on, 1 being the next one.

    Of an upload that is cut only those requests count that bring something.
    """

    fault: StoreFault
    first: int = 1
    count: int = 1
    seconds: float = 0.0
    """How late an answer is."""


class StoreProxy:
    """Listens on a port of 127.0.0.1 of its own, in a thread of its own, until it is closed."""

    def __init__(self, server: str) -> None:
        address = urlsplit(server)
        self._target = address.hostname, address.port
        self._disturbance: Disturbance | None = None
        self._seen = self._disturbed = 0
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._thread = threading.Thread(target=self._loop.run_forever, name="store proxy", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends every connection and the thread."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stop_listening(self) -> None:
        """The server is gone: connections are refused, and those that are open are cut."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)

    def disturb(self, disturbance: Disturbance) -> None:
        """From now on requests are counted, and some go wrong."""
        self._seen = self._disturbed = 0
        self._disturbance = disturbance

    def heal(self) -> int:
        """All goes right again; returns how many requests did not."""
        self._disturbance = None
        return self._disturbed

    async def _stop(self) -> None:
        self._server.close()
        await asyncio.sleep(0)  # what was accepted just now becomes a connection
        while connections := [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]:
            for task in connections:
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)
            await asyncio.sleep(0)
        for _ in range(TURNS_UNTIL_CLOSED):
            await asyncio.sleep(0)

    def _next(self, head: _Head) -> Disturbance | None:
        """What happens to this request."""
        disturbance = self._disturbance
        if disturbance is None or (disturbance.fault is StoreFault.UPLOAD_CUT and not head.brings):
            return None
        self._seen += 1
        if not disturbance.first <= self._seen < disturbance.first + disturbance.count:
            return None
        self._disturbed += 1
        return disturbance

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client, request by request: none is sent before the one before it is answered."""
        async with _closed(writer):
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            async with _closed(server_writer):
                late: list[float] = []
                answers = asyncio.create_task(_pass_answers(server_reader, writer, late))
                try:
                    with suppress(asyncio.IncompleteReadError, ConnectionError):
                        while await self._pass_request(reader, writer, server_writer, late):
                            pass
                finally:
                    answers.cancel()
                    await asyncio.gather(answers, return_exceptions=True)

    async def _pass_request(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server: asyncio.StreamWriter,
        late: list[float],
    ) -> bool:
        """Whether the connection goes on after it."""
        head = _Head(await reader.readuntil(b"\r\n\r\n"))
        disturbance = self._next(head)
        fault = disturbance.fault if disturbance else None
        if fault is StoreFault.ANSWER_503:
            if not head.waits:
                async for _ in head.body(reader):
                    pass
            writer.write(_answer_503(head))
            await writer.drain()
            return False
        if fault is StoreFault.LATE_ANSWER and disturbance:
            late.append(disturbance.seconds)
        server.write(head.raw)
        async for piece in head.body(reader):
            if fault is StoreFault.UPLOAD_CUT:
                server.write(piece[: len(piece) // 2])
                await server.drain()
                return False
            server.write(piece)
            await server.drain()
        return True


@asynccontextmanager
async def _closed(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Closes it at the end. Who is cancelled waits for nothing to be sent: nobody may be left to read it."""
    try:
        yield
    except asyncio.CancelledError:
        writer.transport.abort()
        raise
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@dataclass(frozen=True)
class _Head:
    """The lines of a request before its body."""

    raw: bytes

    def _value(self, name: str) -> str | None:
        lines = self.raw.decode("latin-1").split("\r\n")[1:]
        return next(
            (v.strip().lower() for n, _, v in (line.partition(":") for line in lines) if n.lower() == name), None
        )

    @property
    def method(self) -> bytes:
        return self.raw.partition(b" ")[0]

    @property
    def waits(self) -> bool:
        """Whether the client sends no body before it is told to."""
        return self._value("expect") is not None

    @property
    def _chunked(self) -> bool:
        return self._value("transfer-encoding") == "chunked"

    @property
    def _size(self) -> int:
        return int(self._value("content-length") or 0)

    @property
    def brings(self) -> bool:
        """Whether it uploads something."""
        return self.method == b"PUT" and (self._chunked or self._size > 0)

    async def body(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        """The body as it comes, whatever the client has called its length."""
        if not self._chunked:
            left = self._size
            while left:
                piece = await reader.read(min(left, PIECE_BYTES))
                if not piece:
                    raise asyncio.IncompleteReadError(b"", left)
                left -= len(piece)
                yield piece
            return
        while True:
            line = await reader.readuntil(b"\n")
            size = int(line.partition(b";")[0], 16)
            if size == 0:
                break
            yield line + await reader.readexactly(size + 2)
        while line.strip():  # what follows the last chunk ends with an empty line
            yield line
            line = await reader.readuntil(b"\n")
        yield line


def _answer_503(head: _Head) -> bytes:
    body = b"" if head.method == b"HEAD" else SLOW_DOWN
    lines = ["HTTP/1.1 503 Slow Down", "Content-Type: application/xml", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


async def _pass_answers(server: asyncio.StreamReader, client: asyncio.StreamWriter, late: list[float]) -> None:
    """What the server says, as late as was told."""
    with suppress(ConnectionError):
        while piece := await server.read(PIECE_BYTES):
            if late:
                await asyncio.sleep(late.pop())
            client.write(piece)
            await client.drain()
    client.close()
