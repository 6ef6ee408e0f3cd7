"""Long-term memory as the engine uses it: never in the way of an answer.

What memory is to learn goes through the outbox: into metis-postgres at once, to Mem0 when it can
be. What it knows is read from Mem0 and from the outbox together.

The client is synchronous; what it has cached it answers here and now, and what it must ask for runs
in threads under a hard time limit. Whoever waits longer than usual has Mem0 asked whether it serves
at all; one that does not say so soon is left alone from then on (the client's breaker), and while
it is, nobody waits for it. Whoever runs into the limit although it does is followed by some seconds
in which memory is not asked at all. So a dead or frozen Mem0 costs those few who ask first a wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import httpx

from app.core.config import Settings
from app.core.logging import get_logger
from app.core.trust import trust
from app.rag import backlog, mem0_client, outbox
from app.rag.mem0_caches import CacheType
from app.rag.notes import Note, Row, interaction_note, message_note
from app.rag.types import MemoryStatus, Recollection, Source, Turn
from app.rag.unblocked import unblocked

T = TypeVar("T")

HISTORY_LIMIT = 10
"""Earlier messages of the user, over all conversations, that a question looks back on."""
INTERACTION_LIMIT = 20
QUOTED = 200
"""Characters of a cited passage's place that an interaction keeps."""
THREADS = 16
PAUSE = 5.0
"""Seconds without memory after it ran into the time limit."""
PATIENCE = 0.25
"""Seconds after which Mem0, which answers in milliseconds, is asked whether it serves at all."""
FROZEN = 1.0
"""Seconds for that answer."""
HURRY = 0.005
"""Seconds to learn what is known without a Mem0 that is left alone: its cost to a chat request."""

log = get_logger(__name__)


class UserMemory:
    """What Mem0 holds of the users, with a time limit on every look and every note."""

    def __init__(self, settings: Settings) -> None:
        self._on = settings.use_mem0 and mem0_client.MEM0_AVAILABLE
        self._limit = settings.memory_time_limit
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="memory")
        self._resume_at = 0.0
        self._asking: asyncio.Task[bool] | None = None
        self._probe = httpx.AsyncClient(
            base_url=settings.mem0_endpoint,
            timeout=settings.memory_time_limit,
            verify=trust(settings),
            trust_env=False,
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

    async def recollect(
        self, user_id: str, rows: Sequence[Row], question_id: UUID | None = None
    ) -> Recollection:
        """What is known of the user, but for the question being asked: before the answer.

        ``rows`` are the user's in the outbox.
        """
        if not self._on:
            return Recollection("off")
        found = await self._within_limit(partial(_read, user_id, rows, question_id))
        return found or _known_here(rows)

    async def overview(self, user_id: str) -> Recollection:
        """What is known of the user, for the user to look at."""
        return await self.recollect(user_id, await outbox.read(user_id) if self._on else ())

    async def keep_preferences(self, user_id: str, preferences: dict[str, Any]) -> None:
        """Replace the user's preferences; they hold from now on."""
        await outbox.write(user_id, [Note("preferences", preferences)])

    async def forget(self, user_id: str) -> None:
        """Delete all that memory holds of the user, what is on its way there included."""
        await outbox.forget(user_id)

    async def status(self) -> MemoryStatus:
        """How memory is, by what its last calls told."""
        if not self._on:
            return "off"
        return await self._within_limit(mem0_client.memory_status) or "degraded"

    async def caches(self) -> dict[str, dict[str, Any]]:
        """The figures of this replica's caches; nothing when memory is off."""
        return await self._within_limit(_cache_figures) or {} if self._on else {}

    async def clear_cache(self, cache_type: CacheType | None) -> None:
        """Empty one cache or all of them, on every replica."""
        await self._within_limit(partial(_clear_cache, cache_type))

    @property
    def is_on(self) -> bool:
        """Whether memory is switched on."""
        return self._on

    def notes_of(self, answer_id: UUID, answer: str, used: Sequence[Source]) -> list[Note]:
        """What memory is to learn of an answer: itself, and which documents it used."""
        if not self._on:
            return []
        uses = _uses(used).items()
        return [
            message_note("assistant", answer, answer_id),
            *(interaction_note(document_id, "cited", data) for document_id, data in uses),
        ]

    async def _within_limit(self, call: Callable[[], T]) -> T | None:
        """What ``call`` gives; None when memory is left alone, failed or took too long.

        ``call`` may be made twice, which must do no harm.
        """
        if time.monotonic() < self._resume_at:
            return None
        ends = asyncio.get_running_loop().time() + self._limit
        left_alone = mem0_client.is_left_alone()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(HURRY if left_alone else min(PATIENCE, self._limit)):
                    return await unblocked(call, self._threads)
            if left_alone:
                return None
            async with asyncio.timeout_at(ends):
                # Who gave up waiting for a load joins it again: it goes on by itself.
                return await unblocked(call, self._threads) if await self._serves() else None
        except TimeoutError:
            self._resume_at = time.monotonic() + PAUSE
            log.warning("memory_too_slow", limit_seconds=self._limit, pause_seconds=PAUSE)
        except Exception:  # the client promises not to raise; an answer must not hang on that
            log.exception("memory_failed")
        return None

    async def _serves(self) -> bool:
        """Whether Mem0 answers at all; asked once for all who want to know."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> bool:
        try:
            answer = await self._probe.get("/ready", timeout=FROZEN)
            serves = answer.is_success
        except httpx.HTTPError:
            serves = False
        finally:
            self._asking = None
        if not serves:
            log.warning("memory_left_alone", waited_seconds=PATIENCE, asked_seconds=FROZEN)
            mem0_client.leave_alone()
        return serves


def _read(user_id: str, rows: Sequence[Row], question_id: UUID | None) -> Recollection:
    asked = str(question_id)
    history = [
        Turn(str(message["role"]), str(message["content"]))
        for message in mem0_client.get_conversation_history(
            user_id, limit=HISTORY_LIMIT + 1, queued=rows
        )
        if message.get("idempotency_key") != asked
    ]
    preferences = mem0_client.get_user_preferences(user_id, queued=rows)
    interactions = mem0_client.get_document_interactions(
        user_id, limit=INTERACTION_LIMIT, queued=rows
    )
    return Recollection(
        mem0_client.memory_status(), history[-HISTORY_LIMIT:], preferences, interactions
    )


def warm(user_id: str) -> None:
    """Read what the user's next question will ask for, which a delivery has just made untrue."""
    _read(user_id, (), None)


def _cache_figures() -> dict[str, dict[str, Any]]:
    client = mem0_client.get_mem0_client()
    return {name: asdict(figures) for name, figures in client.stats().items()} if client else {}


def _clear_cache(cache_type: CacheType | None) -> None:
    if client := mem0_client.get_mem0_client():
        client.clear_cache(cache_type)


def _known_here(rows: Sequence[Row]) -> Recollection:
    """What the outbox alone knows, while Mem0 does not answer in time."""
    history = [Turn(m["role"], m["content"]) for m in backlog.history([], rows, HISTORY_LIMIT)]
    used = backlog.interactions([], rows, INTERACTION_LIMIT)
    return Recollection(
        "degraded", history, backlog.preferences({}, rows), [one["data"] for one in used]
    )


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
