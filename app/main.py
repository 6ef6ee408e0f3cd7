"""The app: puts the parts together; they live as long as its lifespan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from app import __version__
from app.api import chat, documents, errors, health, memory, status
from app.api.deps import Parts
from app.api.middleware import BodyLimit, Surroundings
from app.core import config
from app.core.auth import Authenticator, KeyRing, SingleUser
from app.core.config import Settings
from app.core.logging import get_logger
from app.db import session
from app.db.login import Login
from app.rag.delivery import Deliverer
from app.rag.embedding_models import EmbeddingModels
from app.rag.engine import RAGEngine
from app.rag.health import Health
from app.rag.library import Library
from app.rag.mem0_keys import key_source
from app.rag.mem0_upkeep import upkeep
from app.rag.memory import UserMemory
from app.rag.models import model_servers
from app.rag.reindexing import Reindexing
from app.rag.store import VectorStore

WEB = Path(__file__).with_name("web")

log = get_logger(__name__)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The app for some settings (``SETTINGS`` by default); connects to nothing yet.

    Raises ConfigurationError for settings that it must not start with.
    """
    settings = settings or config.SETTINGS
    config.refuse_to_start(settings)
    authenticator = _authenticator(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app.state.parts = await _parts(settings, authenticator, stack)
            log.info("started", version=__version__, auth_mode=settings.auth_mode)
            yield
            log.info("stopping")

    prefix = settings.api_v1_str
    app = FastAPI(
        title=settings.project_name,
        version=__version__,
        lifespan=lifespan,
        openapi_url=f"{prefix}/openapi.json",
        docs_url=None,  # the viewers load scripts from elsewhere
        redoc_url=None,
    )
    for module in (health, status, chat, documents, memory):
        app.include_router(module.router, prefix=prefix)
    app.include_router(health.metrics_router)
    app.mount("/", StaticFiles(directory=WEB, html=True), name="web")
    errors.install(app)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(
        BodyLimit,
        upload_path=f"{prefix}/documents",
        upload_limit=settings.upload_max_bytes + 2**20,
    )
    app.add_middleware(Surroundings)
    return app


def _authenticator(settings: Settings) -> Authenticator:
    if settings.auth_mode == "none" or settings.auth_keys_file is None:
        return SingleUser()
    return KeyRing(settings.auth_keys_file)


async def _parts(settings: Settings, authenticator: Authenticator, stack: AsyncExitStack) -> Parts:
    """Make every client; ``stack`` takes them down again, the last one made first."""
    login = Login(settings)
    database = session.bind(settings, login)
    stack.push_async_callback(database.dispose)
    stack.push_async_callback(_end, asyncio.create_task(login.watch(database), name="login"))
    models = model_servers(settings)
    stack.push_async_callback(models.close)
    await stack.enter_async_context(upkeep(settings))
    user_memory = UserMemory(settings)
    stack.push_async_callback(user_memory.close)
    if user_memory.is_on:
        deliverer = Deliverer()
        deliverer.start()
        stack.push_async_callback(deliverer.stop)
    store, embedding = VectorStore(), EmbeddingModels(settings, models)
    reindexing = Reindexing(settings, embedding, store)
    stack.push_async_callback(_end, asyncio.create_task(reindexing.run(), name="reindexing"))
    engine = RAGEngine(settings, models, embedding, store, user_memory)
    stack.push_async_callback(engine.close)
    return Parts(
        settings=settings,
        authenticator=authenticator,
        database=database,
        login=login,
        memory_keys=key_source(settings.mem0_api_key, settings.mem0_api_key_dir),
        models=models,
        memory=user_memory,
        library=Library(settings, embedding, store),
        engine=engine,
        reindexing=reindexing,
        health=Health(settings, models, user_memory, reindexing),
    )


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
