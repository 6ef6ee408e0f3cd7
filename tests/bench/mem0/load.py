"""Requests over many connections at once, for a while: rates and latencies.

The client is written on the event loop's own protocols because it runs on the machine of what it
measures: a comfortable one would take more of it than the server does.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import uvloop

WARM_UP = 0.3


@dataclass(frozen=True, slots=True)
class Request:
    """One request; ``label`` is what its latency is counted under."""

    label: str
    method: str
    path: str
    body: dict[str, Any] | None = None

    def encoded(self, host: str, key: str) -> bytes:
        """The bytes of HTTP/1.1."""
        content = b"" if self.body is None else json.dumps(self.body).encode()
        head = (
            f"{self.method} {self.path} HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        return head.encode() + content


@dataclass(slots=True)
class Load:
    """What came of it: requests a second, and latencies in milliseconds by label."""

    rate: float = 0.0
    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


Script = Callable[[int, int], Request]
"""The request number n of connection c: ``script(c, n)``."""


def drive(url: str, key: str, script: Script, *, connections: int = 32, seconds: float = 2) -> Load:
    """Send one request after the other on each connection; any answer but 2xx is an error."""
    return uvloop.run(_drive(url, key, script, connections, seconds))


async def _drive(url: str, key: str, script: Script, connections: int, seconds: float) -> Load:
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    loop = asyncio.get_running_loop()
    load = Load()
    counted = 0
    begin = time.perf_counter() + WARM_UP
    end = begin + seconds

    async def one(number: int) -> None:
        nonlocal counted
        transport, connection = await loop.create_connection(_Connection, host, port)
        turn = 0
        try:
            while (sent := time.perf_counter()) < end:
                request = script(number, turn)
                transport.write(request.encoded(f"{host}:{port}", key))
                status, content = await connection.answer()
                if not 200 <= status < 300:
                    raise RuntimeError(f"{request.method} {request.path}: {status} {content!r}")
                done = time.perf_counter()
                if sent >= begin:
                    counted += 1
                    load.latencies[request.label].append((done - sent) * 1000)
                turn += 1
        finally:
            transport.close()

    await asyncio.gather(*(one(number) for number in range(connections)))
    load.rate = counted / (time.perf_counter() - begin)
    return load


class _Connection(asyncio.Protocol):
    """One answer at a time, with a Content-Length, as our servers and uvicorn give it."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiter: asyncio.Future[tuple[int, bytes]] | None = None

    def answer(self) -> asyncio.Future[tuple[int, bytes]]:
        """The next answer's status and body."""
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = bytes(self._buffer[:head_end]).lower()
        _, _, rest = head.partition(b"\r\ncontent-length:")
        whole = head_end + 4 + int(rest.split(b"\r\n", 1)[0])
        if len(self._buffer) >= whole and self._waiter is not None:
            body = bytes(self._buffer[head_end + 4 : whole])
            del self._buffer[:whole]
            self._waiter.set_result((int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error or ConnectionError("the server hung up"))
