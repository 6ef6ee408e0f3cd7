"""The state of each thing the app needs, asked for in parallel under a short limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.core.config import Settings
from app.db.session import AsyncSessionLocal
from app.errors import AppError, ModelServerError
from app.rag import ollama_pods
from app.rag.memory import UserMemory
from app.rag.model_server import ModelServer
from app.rag.models import ModelServers
from app.rag.ollama import Ollama
from app.rag.reindexing import Reindexing

LIMIT = 3.0
"""Seconds that one check may take."""
FRESH = 1.0
"""Seconds for which a result is shared between askers."""
NEEDED = ("database", "models")
"""Without these no question can be answered; without Mem0 it can."""


@dataclass(frozen=True)
class Component:
    """One thing the app needs, and how it is."""

    status: Literal["ok", "error", "off"]
    detail: str

    def as_dict(self) -> dict[str, str]:
        """The component as JSON."""
        return {"status": self.status, "detail": self.detail}


class Health:
    """Looks after database, model servers, models and Mem0; never raises."""

    def __init__(
        self,
        settings: Settings,
        models: ModelServers,
        memory: UserMemory,
        reindexing: Reindexing,
    ) -> None:
        self._settings = settings
        self._reindexing = reindexing
        self._servers = models
        self._memory = memory
        self._lock = asyncio.Lock()
        self._found: dict[str, Component] = {}
        self._found_at = float("-inf")

    async def components(self) -> Mapping[str, Component]:
        """All components by name, at most FRESH seconds old."""
        async with self._lock:
            if time.monotonic() - self._found_at > FRESH:
                checks: dict[str, Awaitable[Component]] = {
                    "database": self._database(),
                    "model-server": self._servers_answer(),
                    "models": self._models(),
                    "embedding": self._embedding(),
                    "mem0": self._mem0(),
                }
                results = await asyncio.gather(*(_limited(check) for check in checks.values()))
                self._found = dict(zip(checks, results, strict=True))
                self._found_at = time.monotonic()
            return self._found

    async def missing(self) -> dict[str, str]:
        """What keeps the app from being ready, with the reason; empty when nothing does."""
        found = await self.components()
        return {name: found[name].detail for name in NEEDED if found[name].status != "ok"}

    async def _database(self) -> Component:
        try:
            async with AsyncSessionLocal() as session:
                version = await session.scalar(text("SELECT version_num FROM alembic_version"))
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == "42P01":
                return Component("error", "not migrated yet: run `python -m app.prepare`")
            raise
        return Component("ok", f"schema {version}")

    async def _servers_answer(self) -> Component:
        servers = {id(s): s for s in (self._servers.chat, self._servers.embedding)}.values()
        told = [f"{server.label}: {await server.version()}" for server in servers]
        return Component("ok", "; ".join(told))

    async def _models(self) -> Component:
        wanted = self._needed()
        try:
            lacking = [await _lack(server, model) for model, server in wanted]
        except ModelServerError:
            # None gets requests before it has its models: those that run say which one is missing.
            told = await self._lacking_on(self._settings.ollama_pods)
            if not told:
                raise
            return Component("error", told)
        if not any(lacking):
            lacking = [await self._lacking_on(self._settings.ollama_ready_pods)]
        if any(lacking):
            return Component("error", "; ".join(one for one in lacking if one))
        return Component("ok", ", ".join(model for model, _ in wanted))

    def _needed(self) -> list[tuple[str, ModelServer]]:
        """The model that answers, and that of the index: which another may be about to follow."""
        indexed = self._reindexing.indexed_with
        return [
            (self._settings.default_model, self._servers.chat),
            (indexed or self._settings.default_embedding_model, self._servers.embedding),
        ]

    async def _lacking_on(self, place: str) -> str:
        """The models that one of the Ollamas at ``place`` lacks; empty without a place."""
        wanted = [model for model, server in self._needed() if isinstance(server, Ollama)]
        return await ollama_pods.lacking(place, wanted) if place and wanted else ""

    async def _embedding(self) -> Component:
        found = await self._reindexing.status()
        if found["state"] == "empty":
            return Component("ok", "no documents yet")
        if found["state"] == "refused":
            return Component("error", found["message"])
        progress = found["reindex"]
        told = f"indexed with {found['model']}"
        if progress is not None:
            told += f"; {progress['percent']} % embedded anew with {progress['model']}"
        return Component("ok", ": ".join(part for part in (told, found["message"]) if part))

    async def _mem0(self) -> Component:
        status, detail = await self._memory.state()
        return Component("error" if status == "degraded" else status, detail)


async def _lack(server: ModelServer, model: str) -> str:
    """What is to be done for ``model`` to be on ``server``; empty when it is there."""
    if server.lists(model, await server.models()):
        return ""
    return f"{model}: {server.cure_of_missing(model)}"


async def _limited(check: Awaitable[Any]) -> Component:
    try:
        found: Component = await asyncio.wait_for(check, LIMIT)
    except TimeoutError:
        return Component("error", f"no answer within {LIMIT:.0f} s")
    except AppError as error:
        return Component("error", error.message)
    except Exception as error:  # noqa: BLE001 - the state of a thing is told, whatever it is
        reason = str(getattr(error, "orig", None) or error).splitlines()[:1]
        return Component("error", f"{type(error).__name__}: {''.join(reason)[:200]}")
    return found
