"""From what was said to memories: for ``/memories`` while the caller waits, for recall behind it.

One background task a server reads the messages that wait. It never touches the write itself: a
message is stored whether or not its facts are ever found.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from mem0_server.errors import Mem0ServerError, UnavailableError
from mem0_server.index.extraction import Fact, extract
from mem0_server.index.indexer import Indexer
from mem0_server.index.library import Library
from mem0_server.index.text import memory_data, payload_of
from mem0_server.metrics import Metrics
from mem0_server.models import MEM0_KIND
from mem0_server.settings import Settings
from mem0_server.store.collections import Collection
from mem0_server.store.infer import InferJobs, Talk
from mem0_server.store.jobs import Job, Scope
from mem0_server.store.mem0 import CONTEXT_MESSAGES, Memories, NewMemory
from mem0_server.store.recall import Recall

log = structlog.get_logger(__name__)

BATCH = 10
MAX_ATTEMPTS = 5
RETRY_SECONDS = 1.0
MAX_RETRY_SECONDS = 30.0
LEASE_SPARE_SECONDS = 60


class Inference:
    """Finds facts and makes memories of them."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        library: Library,
        indexer: Indexer,
        memories: Memories,
        recall: Recall,
        jobs: InferJobs,
    ) -> None:
        """Do nothing yet; :meth:`run` is the background task."""
        self._settings = settings
        self._metrics = metrics
        self._library = library
        self._indexer = indexer
        self._memories = memories
        self._recall = recall
        self._jobs = jobs
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """A message waits: look at the queue now."""
        self._awake.set()

    async def backlog(self) -> int:
        """How many messages wait; also sets the gauge."""
        waiting = await self._jobs.backlog()
        self._metrics.infer_backlog.set(waiting)
        return waiting

    async def infer(
        self,
        scope: Scope,
        said: list[dict[str, Any]],
        metadata: dict[str, Any] | None,
        prompt: str | None,
    ) -> list[NewMemory]:
        """Find the facts in what was ``said`` and store them with their vectors.

        :raises OllamaError: Ollama is away or has no such model; nothing is stored.
        :raises DatabaseUnavailableError: the database does not answer.
        """
        collection = await self._indexer.open()
        last = await self._memories.last_said(scope)
        memories = await self._found(collection, scope, said, last, metadata, prompt)
        await self._memories.add(scope, memories, said, collection)
        return memories

    async def run(self) -> None:
        """Work on the queue until cancelled; no failure ends it."""
        wait = RETRY_SECONDS
        while True:
            try:
                if not await self._step():
                    await self._sleep()
                wait = RETRY_SECONDS
            except Mem0ServerError as error:
                log.warning("inference_waits", code=error.code, seconds=wait)
                await asyncio.sleep(wait)
                wait = min(wait * 2, MAX_RETRY_SECONDS)
            except Exception:
                log.exception("inference_failed", seconds=MAX_RETRY_SECONDS)
                await asyncio.sleep(MAX_RETRY_SECONDS)

    async def _sleep(self) -> None:
        try:
            await asyncio.wait_for(self._awake.wait(), self._settings.infer_poll)
        except TimeoutError:
            return
        finally:
            self._awake.clear()

    async def _step(self) -> bool:
        """Work on one conversation; false when none waits.

        :raises UnavailableError: Ollama or the database is away; the messages are given back.
        """
        lease_seconds = self._settings.extraction_timeout + LEASE_SPARE_SECONDS
        talk = await self._jobs.claim(BATCH, lease_seconds)
        if talk is None:
            return False
        try:
            await self._read(talk)
        except BaseException as error:
            await self._failed(talk, error)
            if not isinstance(error, Exception) or isinstance(error, UnavailableError):
                raise
        return True

    async def _read(self, talk: Talk) -> None:
        collection = await self._indexer.open()
        scope = Scope(human_id=talk.human_id, agent_id=talk.agent_id)
        before = await self._recall.before(
            talk.agent_id, talk.human_id, talk.first_id, CONTEXT_MESSAGES
        )
        memories = await self._found(collection, scope, talk.messages, before, None, None)
        if await self._memories.add(scope, memories, [], collection, talk):
            self._metrics.inferred.inc(len(talk.messages))

    async def _failed(self, talk: Talk, error: BaseException) -> None:
        """Give the messages back; those that break the model again and again are given up."""
        if not isinstance(error, Exception):  # the server stops: another one goes on at once
            await self._jobs.release(talk.lease, "the server stopped", blame=False)
            return
        code = error.code if isinstance(error, Mem0ServerError) else "internal_error"
        self._metrics.infer_failures.labels(code).inc()
        blame = not isinstance(error, UnavailableError) or code == "model_failed"
        if blame and talk.attempts + 1 >= MAX_ATTEMPTS:
            log.error("inference_given_up", messages=len(talk.messages), code=code)
            await self._jobs.give_up(talk.lease)
            return
        if code == "internal_error":
            log.error("inference_broke", exc_info=error)
        await self._jobs.release(talk.lease, f"{code}: {type(error).__name__}", blame=blame)

    async def _found(
        self,
        collection: Collection,
        scope: Scope,
        said: list[dict[str, Any]],
        last: list[dict[str, Any]],
        metadata: dict[str, Any] | None,
        prompt: str | None,
    ) -> list[NewMemory]:
        facts = await extract(self._library, self._settings, said, last, scope, prompt)
        lemmas = await self._library.lemmas([fact.text for fact in facts]) if facts else []
        return [
            _memory(scope, fact, words, metadata) for fact, words in zip(facts, lemmas, strict=True)
        ]


def _memory(scope: Scope, fact: Fact, lemmas: str, metadata: dict[str, Any] | None) -> NewMemory:
    data = memory_data(fact.text, metadata, attributed_to=fact.attributed_to)
    job = Job(fact.record_id, scope, MEM0_KIND, data, "")
    return NewMemory(data, fact.record_id, fact.vector, payload_of(job, fact.text, lemmas))
