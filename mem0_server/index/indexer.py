"""Keeps the index up with the records, and searches it.

One background task a server drains the queue. It is woken by each write here and looks every few
seconds for what other replicas wrote. While Ollama is away it only asks whether it is back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
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
from mem0_server.index.change import Building, misfit, refusal, same_model
from mem0_server.index.library import Hit, Library
from mem0_server.index.text import collection_name, filters_of, payload_of, text_of
from mem0_server.metrics import Metrics
from mem0_server.models import EmbeddingStatus
from mem0_server.settings import Settings
from mem0_server.store.collections import Collection, Collections
from mem0_server.store.jobs import LEASE_SECONDS, IndexRow, Job, Jobs, Scope

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
    started: datetime | None = None
    message: str | None = None
    length: int = 0
    building: Building | None = None


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
        building = self._state.building
        state: str = "unavailable" if trouble else "ok" if collection else "starting"
        return EmbeddingStatus.model_validate(
            {
                "status": state,
                "model": collection.model if collection else self._settings.embedding_model,
                "dimensions": collection.dimensions if collection else None,
                "reason": trouble,
                "message": self._state.message,
                "reindex": building.told() if building else None,
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
                await self._follow()
                collection = await self.open()
                await self._look_after(collection)
                taken = await self.drain(collection) if self._fits(collection) else 0
                if not taken and not await self._build(collection):
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
        """The collection that answers; the first one is made for the model of the settings.

        :raises OllamaError: Ollama is away or has no such model.
        :raises DatabaseUnavailableError: the database does not answer.
        """
        async with self._opening:
            if self._state.collection is not None:
                return self._state.collection
            if self._state.started is None:
                self._state.started = await self._collections.now()
            active = await self._collections.active()
            try:
                if active is None:
                    first = await self._made(self._settings.embedding_model)
                    await self._collections.activate_first(first.name)
                    active = await self._collections.active() or first
                self._state.length = await self._library.dimensions(active.model)
                await self._opened(active)
            except OllamaError as error:
                self._state.trouble = error.message
                raise
            self._library.answer_from(active)
            self._state.collection, self._state.trouble = active, None
            log.info("index_open", collection=active.name, dimensions=active.dimensions)
            return active

    async def _made(self, model: str) -> Collection:
        """The collection of ``model``, found or made, and opened."""
        dimensions = await self._library.dimensions(model)
        collection = Collection(collection_name(model, dimensions), model, dimensions)
        await self._opened(collection)
        return collection

    async def _opened(self, collection: Collection) -> None:
        known = await self._collections.is_registered(collection.name)
        await self._library.open(collection, create=not known)
        if not known:
            queued = await self._collections.register(collection)
            log.info("index_made", collection=collection.name, queued=queued)

    async def _follow(self) -> None:
        """Go over to the collection that answers now, whoever let it."""
        active = await self._collections.active()
        mine = self._state.collection
        if active is not None and mine is not None and active.name != mine.name:
            async with self._opening:
                self._state.collection = None
            await self.open()
            log.info("index_switched", collection=active.name, model=active.model)

    async def _build(self, active: Collection) -> bool:
        """A batch for the collection of another model, where that is wanted; whether it was one.

        Rests as long as it worked, because searches use the same models.
        """
        model, state = self._settings.embedding_model, self._state
        same = same_model(active.model, model)
        if same and self._fits(active):
            state.message = state.building = None
            return False
        if not self._settings.reindex:
            state.message = self._misfit(active) if same else refusal(active.model, model)
            return False
        if active.activated_at and state.started and active.activated_at > state.started:
            return False  # this replica's settings are older than what answers
        try:
            return await self._build_on(model)
        except OllamaError as error:  # searches may go on all the same
            state.message, state.trouble = f"embedding anew waits: {error.message}", None
            return False

    def _fits(self, active: Collection) -> bool:
        """Whether its model still makes vectors of the length that it has."""
        return self._state.length == active.dimensions

    def _misfit(self, active: Collection) -> str:
        return misfit(active.model, self._state.length, active.dimensions)

    async def _count(self, building: Building) -> bool:
        """See how far it is, now and then, as counting takes a while; whether it still is there."""
        if not building.is_to_be_counted():
            return True
        name = building.collection.name
        if not await self._collections.use(name):
            return False
        total = await self._collections.records()
        building.count(total, await self._jobs.backlog(name))
        return True

    async def _build_on(self, model: str) -> bool:
        state = self._state
        building = state.building = state.building or Building(await self._made(model))
        if not await self._count(building):
            state.building = None  # it is made again
            return True
        begun = time.monotonic()
        taken = await self.drain(building.collection)
        state.message = None
        if not taken and await self._collections.switch(building.collection.name):
            state.building = None
            await self._follow()
            return True
        await asyncio.sleep(time.monotonic() - begun)
        return taken > 0

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
                active = await self.open()
                if not self._fits(active):
                    raise OllamaError(self._misfit(active))
                await self._catch_up(active, scope)
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
        active = await self._collections.active()
        if active is not None:
            await self._collections.drop(active.name)
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
            async with self._kept(lease):
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

    @asynccontextmanager
    async def _kept(self, lease: UUID) -> AsyncIterator[None]:
        """Renew a lease meanwhile; one that is lost all the same is another replica's work."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(LEASE_SECONDS / 3)
                with suppress(UnavailableError):
                    await self._jobs.renew(lease)

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()

    async def _index(self, collection: Collection, lease: UUID, jobs: list[Job]) -> int:
        texts = [text_of(job.kind, job.data) for job in jobs]
        vectors = await self._library.embed(texts, collection)
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
