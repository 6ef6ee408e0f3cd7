"""A line between operator and API server that does to requests what a test asks for.

It speaks plain HTTP on 127.0.0.1 and passes everything on, streams included.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp import web

from tests.component.operator.harness import Api

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}
_REASONS = {410: "Expired", 429: "TooManyRequests", 503: "ServiceUnavailable"}


class Proxy:
    """Start it by making it; ``close`` ends it.

    ``refuse``: the status that all requests are answered with, 0 for none.
    ``gone``: how the watches of kinds not in ``told`` are told that their version is too old:
    by a ``status``, or by an ``event`` in the stream.
    ``held``: watches whose path has this at its end get no answer; empty for none.
    ``on_write``: called before and after each write but the Lease's with its number, from 1, and
    with ``before`` or ``after`` (the API server has answered, the operator does not know yet).
    """

    def __init__(self, api: Api) -> None:
        self.refuse = 0
        self.gone = ""
        self.held = ""
        self.told: set[str] = set()
        self.refused = 0
        self.writes = 0
        self.on_write: Callable[[int, str], None] = lambda _number, _when: None
        self.url = ""
        self._api = api
        self._streams: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._ask(self._open())

    def drop_streams(self) -> None:
        """End all watches, as a load balancer does."""

        async def drop() -> None:
            for stream in list(self._streams):
                stream.cancel()

        self._ask(drop())

    def close(self) -> None:
        self._ask(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _ask(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _open(self) -> None:
        trust = ssl.create_default_context(cafile=str(self._api.ca))
        connector = aiohttp.TCPConnector(ssl=trust, limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, timeout=aiohttp.ClientTimeout()
        )
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _shut(self) -> None:
        assert self._runner is not None and self._session is not None  # noqa: PT018
        for stream in list(self._streams):
            stream.cancel()
        await self._session.close()
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self.refuse:
            self.refused += 1
            return _status(self.refuse)
        if request.query.get("watch") in ("1", "true"):
            return await self._watch(request)
        if request.method == "GET" or "/leases" in request.path:
            return await self._pass(request)
        self.writes += 1
        number = self.writes
        self.on_write(number, "before")
        return await self._pass(request, lambda: self.on_write(number, "after"))

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        if self.gone and request.path not in self.told:
            self.told.add(request.path)
            if self.gone == "status":
                return _status(410)
            error = {"type": "ERROR", "object": _failure(410)}
            return web.Response(text=json.dumps(error) + "\n", content_type="application/json")
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            if self.held and request.path.endswith(self.held):
                await asyncio.Event().wait()
            return await self._pass(request)
        finally:
            self._streams.discard(task)

    async def _pass(
        self, request: web.Request, answered: Callable[[], None] = lambda: None
    ) -> web.StreamResponse:
        assert self._session is not None
        async with self._session.request(
            request.method,
            f"{self._api.url}{request.raw_path}",
            headers={k: v for k, v in request.headers.items() if k.lower() not in _HOP},
            data=await request.read() or None,
        ) as answer:
            answered()
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response


def _status(code: int) -> web.Response:
    headers = {"Retry-After": "1"} if code in (429, 503) else {}
    return web.json_response(_failure(code), status=code, headers=headers)


def _failure(code: int) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": _REASONS[code],
        "message": "the test asked for this",
    }
