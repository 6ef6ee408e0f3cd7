"""The application: its parts opened and closed with the server, its routes, its errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI, Security
from fastapi.security import APIKeyHeader

from mem0_server import __version__
from mem0_server.api import conversation, errors, health, mem0, people
from mem0_server.api.errors import documented
from mem0_server.api.middleware import Gate
from mem0_server.api.services import build
from mem0_server.keys import KeyRing
from mem0_server.settings import Settings

# The gate checks the key; this only tells OpenAPI about it.
_KEY = APIKeyHeader(name="X-API-Key", auto_error=False)


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
    app.include_router(health.open_router)
    refusals = documented(401, 413, 422)
    for router in (health.router, people.router, conversation.router, mem0.router):
        app.include_router(router, dependencies=[Security(_KEY)], responses=refusals)
    errors.install(app)
    app.add_middleware(Gate, services=services)
    return app
