"""Long-term memory as the engine uses it: never in the way of an answer.

The client is synchronous and may wait for a dead server. Here it runs in threads of its own under
a hard time limit; whoever runs into the limit is followed by some seconds in which memory is not
asked at all, so that a dead Mem0 costs one wait and not one for each question.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import httpx

from app.core.config import Settings
from app.core.logging import get_logger
from app.rag import mem0_client
from app.rag.types import MemoryStatus, Recollection, Source, Turn

T = TypeVar("T")

HISTORY_LIMIT = 10
"""Earlier messages of the user, over all conversations, that a question looks back on."""
INTERACTION_LIMIT = 20
QUOTED = 200
"""Characters of a cited passage's place that an interaction keeps."""
THREADS = 16
PAUSE = 5.0
"""Seconds without memory after it ran into the time limit."""

log = get_logger(__name__)


class UserMemory:
    """What Mem0 holds of the users, with a time limit on every look and every note."""

    def __init__(self, settings: Settings) -> None:
        self._on = settings.use_mem0 and mem0_client.MEM0_AVAILABLE
        self._limit = settings.memory_time_limit
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="memory")
        self._resume_at = 0.0
        self._probe = httpx.AsyncClient(
            base_url=settings.mem0_endpoint, timeout=settings.memory_time_limit, trust_env=False
        )

    async def close(self) -> None:
        """Let go of the threads; calls under way are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._probe.aclose()

    async def state(self) -> tuple[MemoryStatus, str]:
        """How memory is, asked of Mem0 itself, with the reason."""
        if not self._on:
            return "off", "switched off by USE_MEM0"
        try:
            response = await self._probe.get("/ready")
        except httpx.HTTPError as error:
            return "degraded", f"Mem0 does not answer ({type(error).__name__})"
        if not response.is_success:
            return "degraded", f"Mem0 is not ready (it answers {response.status_code})"
        if await self._within_limit(mem0_client.memory_status) != "ok":
            return "degraded", "Mem0 is ready but did not serve this app's last call: see the log"
        return "ok", "ready"

    async def recollect(self, user_id: str, question: str) -> Recollection:
        """Store the user's question and read what is known of them: before the answer."""
        if not self._on:
            return Recollection("off")
        found = await self._within_limit(partial(_recollect, user_id, question))
        return found or Recollection("degraded")

    async def keep_answer(self, user_id: str, answer: str, used: Sequence[Source]) -> bool:
        """Store an answer and which documents it used; True when all of it is stored."""
        return bool(
            self._on and await self._within_limit(partial(_keep_answer, user_id, answer, used))
        )

    async def overview(self, user_id: str) -> Recollection:
        """What is known of the user, for the user to look at; stores nothing."""
        if not self._on:
            return Recollection("off")
        return await self._within_limit(partial(_read, user_id)) or Recollection("degraded")

    async def keep_preferences(self, user_id: str, preferences: dict[str, Any]) -> bool:
        """Replace the user's preferences; False when memory is off or did not take them."""
        save = partial(mem0_client.store_user_preferences, user_id, preferences)
        return bool(self._on and await self._within_limit(save))

    @property
    def is_on(self) -> bool:
        """Whether memory is switched on."""
        return self._on

    async def _within_limit(self, call: Callable[[], T]) -> T | None:
        """What ``call`` gives; None when memory paused, failed or took too long."""
        if time.monotonic() < self._resume_at:
            return None
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.wait_for(loop.run_in_executor(self._threads, call), self._limit)
        except TimeoutError:
            self._resume_at = time.monotonic() + PAUSE
            log.warning("memory_too_slow", limit_seconds=self._limit, pause_seconds=PAUSE)
        except Exception:  # the client promises not to raise; an answer must not hang on that
            log.exception("memory_failed")
        return None


def _recollect(user_id: str, question: str) -> Recollection:
    known = mem0_client.get_or_create_human(user_id)
    stored = known and mem0_client.store_message(user_id, "user", question)
    found = _read(user_id)
    history = list(found.history)
    if history and history[-1] == Turn("user", question):
        history.pop()  # the question itself
    status: MemoryStatus = found.status if stored else "degraded"
    return Recollection(status, history, found.preferences, found.interactions)


def _read(user_id: str) -> Recollection:
    history = [
        Turn(str(message["role"]), str(message["content"]))
        for message in mem0_client.get_conversation_history(user_id, limit=HISTORY_LIMIT + 1)
    ]
    preferences = mem0_client.get_user_preferences(user_id)
    interactions = mem0_client.get_document_interactions(user_id, limit=INTERACTION_LIMIT)
    return Recollection(mem0_client.memory_status(), history, preferences, interactions)


def _keep_answer(user_id: str, answer: str, used: Sequence[Source]) -> bool:
    kept = [mem0_client.store_message(user_id, "assistant", answer)]
    for document_id, data in _uses(used).items():
        kept.append(
            mem0_client.store_document_interaction(user_id, document_id, "cited", dict(data))
        )
    return all(kept)


def _uses(used: Sequence[Source]) -> dict[str, Mapping[str, Any]]:
    """One interaction a document: its name and the place that was used."""
    uses: dict[str, Mapping[str, Any]] = {}
    for source in used:
        uses.setdefault(
            source.document_id,
            {
                "document_name": source.document_name,
                "page": source.page,
                "section": (source.section or "")[:QUOTED] or None,
            },
        )
    return uses
