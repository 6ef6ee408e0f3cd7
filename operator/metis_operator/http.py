"""Liveness, readiness and metrics over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiohttp import web

from . import metrics
from .errors import SettingsError

_METRICS_TYPE = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


class Health(NamedTuple):
    """What the probes ask: each gives a reason, or None when all is well.

    ``not_ready`` says what the operator still waits for, ``not_alive`` what only a fresh process
    can mend.
    """

    not_ready: Callable[[], str | None]
    not_alive: Callable[[], str | None]


@asynccontextmanager
async def serve(host: str, port: int, health: Health) -> AsyncIterator[int]:
    """Serve while the context lasts; gives the port, which the system chooses when it is 0.

    Raises:
        SettingsError: the port is taken.
    """

    async def healthz(_: web.Request) -> web.Response:
        return _answer(health.not_alive())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(health.not_ready())

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), headers=_METRICS_TYPE)

    app = web.Application()
    app.add_routes(
        [
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
            web.get("/metrics", exposition),
        ]
    )
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise SettingsError(
                f"Cannot listen on {host}:{port} ({error.strerror}): set METIS_HTTP_PORT."
            ) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _answer(reason: str | None) -> web.Response:
    return web.Response(text=f"{reason or 'ok'}\n", status=503 if reason else 200)
