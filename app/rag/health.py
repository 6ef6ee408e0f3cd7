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
from app.errors import AppError
from app.rag.memory import UserMemory
from app.rag.ollama import Ollama, full_name

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
    """Looks after database, Ollama, models and Mem0; never raises."""

    def __init__(self, settings: Settings, ollama: Ollama, memory: UserMemory) -> None:
        self._settings = settings
        self._ollama = ollama
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
                    "ollama": self._ollama_answers(),
                    "models": self._models(),
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

    async def _ollama_answers(self) -> Component:
        return Component("ok", f"version {await self._ollama.version()}")

    async def _models(self) -> Component:
        have = await self._ollama.models()
        wanted = [self._settings.default_model, self._settings.default_embedding_model]
        lacking = [model for model in wanted if full_name(model) not in have]
        if lacking:
            return Component(
                "error",
                f"{' and '.join(lacking)} not on the Ollama server yet; it may still be pulled, "
                f"else run `ollama pull` there",
            )
        return Component("ok", ", ".join(wanted))

    async def _mem0(self) -> Component:
        status, detail = await self._memory.state()
        return Component("error" if status == "degraded" else status, detail)


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
