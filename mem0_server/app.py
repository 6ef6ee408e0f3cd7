"""The application: its parts opened and closed with the server, its routes, its errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI

from mem0_server import __version__
from mem0_server.api import conversation, errors, health, mem0, people
from mem0_server.api.errors import documented
from mem0_server.api.lean import Lean
from mem0_server.api.middleware import OPEN, Gate
from mem0_server.api.services import build
from mem0_server.keys import KeyRing
from mem0_server.settings import Settings

_KEY = {"type": "apiKey", "in": "header", "name": "X-API-Key"}


def create_app(settings: Settings) -> FastAPI:
    """An application for ``settings``; connects to nothing before it is started.

    :raises SettingsError: no usable API key is found.
    """
    services = build(settings, KeyRing(settings))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await services.database.open()
        tasks = [
            asyncio.create_task(services.indexer.run(), name="indexer"),
            asyncio.create_task(services.inference.run(), name="inference"),
            asyncio.create_task(services.keys.watch(), name="keys"),
            asyncio.create_task(services.watch_login(), name="login"),
        ]
        yield
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        await services.library.close()
        await services.database.close()

    app = FastAPI(
        title="Mem0 server",
        summary="Agents, humans, conversations, archived records, semantic search.",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    refusals = documented(401, 413, 422)
    # A route is found by trying one after the other: those that each chat needs come first.
    for router in (conversation.router, mem0.router, people.router, health.router):
        app.include_router(router, responses=refusals)
    app.include_router(health.open_router)
    errors.install(app)
    app.add_middleware(Lean, routes=conversation.LEAN)
    app.add_middleware(Gate, services=services)  # the outermost: added last
    _document_key(app)
    return app


def _document_key(app: FastAPI) -> None:
    """Tell OpenAPI about the key. The gate checks it; a dependency would cost every request."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        schema = made()
        schema["components"]["securitySchemes"] = {"APIKeyHeader": _KEY}
        for path, operations in schema["paths"].items():
            if path not in OPEN:
                for operation in operations.values():
                    operation["security"] = [{"APIKeyHeader": []}]
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # the documented way to extend it
