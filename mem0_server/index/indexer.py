"""Keeps the index up with the records, and searches it.

One background task a server drains the queue. It is woken by each write here and looks every few
seconds for what other replicas wrote. While Ollama is away it only asks whether it is back.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from mem0_server.errors import (
    InvalidInputError,
    Mem0ServerError,
    ModelFailedError,
    OllamaError,
    OllamaUnreachableError,
    UnavailableError,
)
from mem0_server.index.library import Hit, Library
from mem0_server.index.text import collection_name, filters_of, payload_of, text_of
from mem0_server.metrics import Metrics
from mem0_server.models import EmbeddingStatus
from mem0_server.settings import Settings
from mem0_server.store.collections import Collection, Collections
from mem0_server.store.jobs import IndexRow, Job, Jobs, Scope

log = structlog.get_logger(__name__)

RETRY_SECONDS = 0.5
MAX_RETRY_SECONDS = 10.0
OWN_WRITES_SECONDS = 5.0
LOOK_AFTER_SECONDS = 60.0
# What may be the fault of one text alone.
REFUSALS = (InvalidInputError, ModelFailedError)


@dataclass(slots=True)
class _State:
    """What is known of Ollama: nothing yet, a collection, and the last trouble."""

    collection: Collection | None = None
    trouble: str | None = None
    looked_after_at: float = 0.0


class Indexer:
    """The queue's worker and the way to search."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        jobs: Jobs,
        collections: Collections,
        library: Library,
    ) -> None:
        """Do nothing yet; :meth:`run` is the background task."""
        self._settings = settings
        self._metrics = metrics
        self._jobs = jobs
        self._collections = collections
        self._library = library
        self._state = _State()
        self._opening = asyncio.Lock()
        self._awake = asyncio.Event()

    @property
    def status(self) -> EmbeddingStatus:
        """Whether records can be indexed now, and if not, why."""
        collection, trouble = self._state.collection, self._state.trouble
        state: str = "unavailable" if trouble else "ok" if collection else "starting"
        return EmbeddingStatus.model_validate(
            {
                "status": state,
                "model": self._settings.embedding_model,
                "dimensions": collection.dimensions if collection else None,
                "reason": trouble,
            }
        )

    def wake(self) -> None:
        """Something was written: look at the queue now."""
        self._awake.set()

    async def backlog(self) -> int:
        """How many records wait; also sets the gauge."""
        collection = self._state.collection
        waiting = await self._jobs.backlog(collection.name if collection else None)
        self._metrics.backlog.set(waiting)
        return waiting

    async def run(self) -> None:
        """Drain the queue until cancelled; no failure ends it."""
        wait = RETRY_SECONDS
        while True:
            try:
                collection = await self.open()
                await self._look_after(collection)
                if not await self.drain(collection):
                    await self._sleep(self._settings.index_poll)
                wait = RETRY_SECONDS
            except Mem0ServerError as error:
                log.warning("index_waits", code=error.code, reason=error.message, seconds=wait)
                await asyncio.sleep(wait)
                wait = min(wait * 2, MAX_RETRY_SECONDS)
            except Exception:
                log.exception("index_failed", seconds=MAX_RETRY_SECONDS)
                await asyncio.sleep(MAX_RETRY_SECONDS)

    async def open(self) -> Collection:
        """The collection of the embedding model; on the first call found or made.

        :raises OllamaError: Ollama is away or has no such model.
        :raises DatabaseUnavailableError: the database does not answer.
        """
        async with self._opening:
            if self._state.collection is not None:
                return self._state.collection
            try:
                dimensions = await self._library.dimensions()
            except OllamaError as error:
                self._state.trouble = error.message
                raise
            model = self._settings.embedding_model
            collection = Collection(collection_name(model, dimensions), model, dimensions)
            known = await self._collections.is_registered(collection.name)
            await self._library.open(collection, create=not known)
            queued = 0 if known else await self._collections.register(collection)
            self._state.collection, self._state.trouble = collection, None
            log.info("index_open", collection=collection.name, dimensions=dimensions, queued=queued)
            return collection

    async def search(
        self,
        query: str,
        scope: Scope,
        kind: str | None,
        limit: int,
        *,
        threshold: float = 0,
        filters: dict[str, Any] | None = None,
    ) -> list[Hit]:
        """The records of ``scope`` (and ``kind``) nearest to ``query``, nearest first.

        What was written before the call is found, unless indexing it takes too long. ``filters``
        are mem0ai's own, on the metadata of its memories.

        :raises InvalidInputError: mem0ai cannot use the filters.
        :raises OllamaError: no query can be embedded now.
        :raises DatabaseUnavailableError: the database does not answer.
        """
        try:
            async with asyncio.timeout(OWN_WRITES_SECONDS):
                await self._catch_up(await self.open(), scope)
        except TimeoutError:
            if self._state.collection is None:
                raise OllamaUnreachableError(
                    f"the model {self._settings.embedding_model!r} is being loaded; try again"
                ) from None
            log.warning("search_without_own_writes", seconds=OWN_WRITES_SECONDS)
        try:
            wanted = {**(filters or {}), **filters_of(scope, kind)}
            hits = await self._library.search(query, wanted, limit, threshold)
        except OllamaError as error:
            self._state.trouble = error.message
            raise
        self._state.trouble = None
        return hits

    async def drop(self) -> None:
        """Drop the model's collection; the next :meth:`open` makes it anew and queues all.

        :raises OllamaError: Ollama is away or has no such model.
        """
        dimensions = await self._library.dimensions()
        await self._collections.drop(collection_name(self._settings.embedding_model, dimensions))
        self._state.collection = None

    async def _look_after(self, collection: Collection) -> None:
        """Say that ours is in use; see that others which are not do not stay for ever."""
        keep = self._settings.index_keep
        now = time.monotonic()
        if now - self._state.looked_after_at < min(LOOK_AFTER_SECONDS, keep / 4):
            return
        if not await self._collections.use(collection.name):
            log.warning("index_gone", collection=collection.name)
            self._state.collection = None
            await self.open()
        for name in await self._collections.drop_unused(collection.name, keep):
            log.info("index_dropped", collection=name, unused_seconds=keep)
        self._state.looked_after_at = now

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._awake.wait(), seconds)
        except TimeoutError:
            return
        finally:
            self._awake.clear()

    async def _catch_up(self, collection: Collection, scope: Scope) -> None:
        """Index what waits in ``scope``, so that a search sees its caller's own writes."""
        while await self._jobs.is_waited_for(collection.name, scope):
            if await self.drain(collection, scope):
                continue
            await asyncio.sleep(0.02)  # another task or replica is at it

    async def drain(self, collection: Collection, scope: Scope | None = None) -> int:
        """Index one batch; returns how many jobs it took.

        :raises UnavailableError: Ollama or the database is away; the jobs are given back.
        """
        lease, jobs = await self._jobs.claim(collection.name, self._settings.index_batch, scope)
        if not jobs:
            return 0
        try:
            try:
                done = await self._index(collection, lease, jobs)
            except REFUSALS as refusal:
                done = await self._one_by_one(collection, lease, jobs, refusal)
        except BaseException as error:
            if isinstance(error, Exception):
                self._failed(error)
            # Given back at once, also when the server stops: another replica goes on with them.
            blame = isinstance(error, Exception) and not isinstance(error, UnavailableError)
            await self._jobs.release(lease, type(error).__name__, blame=blame)
            raise
        if done < len(jobs):
            # Being deleted just now; should that be rolled back, they are due again.
            await self._jobs.release(lease, "the record was being changed", blame=False)
        return len(jobs)

    async def _index(self, collection: Collection, lease: UUID, jobs: list[Job]) -> int:
        texts = [text_of(job.kind, job.data) for job in jobs]
        vectors = await self._library.embed(texts)
        lemmas = await self._library.lemmas(texts)
        rows = [
            IndexRow(job.record_id, vector, payload_of(job, text, words))
            for job, text, vector, words in zip(jobs, texts, vectors, lemmas, strict=True)
        ]
        done = await self._jobs.finish(collection.name, lease, rows)
        self._state.trouble = None
        self._metrics.indexed.inc(done)
        return done

    async def _one_by_one(
        self, collection: Collection, lease: UUID, jobs: list[Job], refusal: Mem0ServerError
    ) -> int:
        """A text that the model refuses must not hold up the others; it is tried again later."""
        refused: list[UUID] = []
        done = 0
        for job in jobs:
            try:
                if len(jobs) == 1:
                    raise refusal
                done += await self._index(collection, lease, [job])
            except REFUSALS as error:
                self._failed(error)
                log.warning("record_refused", record=str(job.record_id), reason=error.message)
                refused.append(job.record_id)
                refusal = error
        await self._jobs.release(lease, refusal.message, blame=True, only=refused)
        return done + len(refused)

    def _failed(self, error: Exception) -> None:
        code = error.code if isinstance(error, Mem0ServerError) else "internal_error"
        self._metrics.index_failures.labels(code).inc()
        if isinstance(error, OllamaError):
            self._state.trouble = error.message
