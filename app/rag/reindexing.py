"""Keeps the index of the documents with the model that the settings want, where that is allowed.

One background task a replica. It looks every few seconds at what :mod:`app.rag.index_change` says
of the indexes and the settings. Building is one replica's at a time: it holds an advisory lock, so
when it is killed another one goes on, with what has no vector yet. It works in turns, because the
lock's connection must not outlive a rotation of the login, and rests between batches, because
questions are embedded on the same model server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.config import Settings
from app.core.logging import get_logger
from app.core.metrics import REEMBEDDED
from app.errors import AppError, ModelServerError
from app.rag.embedding import embedded_text
from app.rag.embedding_models import EmbeddingModels
from app.rag.index_change import (
    Abandon,
    Begin,
    GoOn,
    Index,
    Live,
    Model,
    Refused,
    Settled,
    Step,
    decide,
)
from app.rag.store import Gap, IndexChangedError, VectorStore

LOOK_SECONDS = 2.0
LONGEST_PAUSE = 60.0
"""Seconds between looks after failures in a row."""
TURN_SECONDS = 30.0
"""For so long one replica works before it lets go of the lock for a moment."""
GAPS_SECONDS = 60.0
"""Between looks for chunks that a replica of an older version stored without a vector."""
GRACE_SECONDS = 3.0
"""For so long an index that answers no more is kept for questions under way."""
NOTE_SECONDS = 1.0
"""Between two writes of how far it is."""

log = get_logger(__name__)


@dataclass
class _Pace:
    """How fast a turn has been."""

    begun: float
    done: int
    noted_at: float = float("-inf")
    embedded: int = 0

    def rate(self, now: float) -> float:
        """Chunks a second, pauses included."""
        return self.embedded / (now - self.begun) if now > self.begun else 0.0


class Reindexing:
    """The keeper of one replica."""

    def __init__(
        self,
        settings: Settings,
        models: EmbeddingModels,
        store: VectorStore,
        look: float = LOOK_SECONDS,
        grace: float = GRACE_SECONDS,
    ) -> None:
        """Do nothing yet; :meth:`run` is the task. ``look``, ``grace``: see the constants."""
        self._settings = settings
        self._models = models
        self._store = store
        self._look_seconds = look
        self._grace = grace
        self._started: datetime | None = None
        self._seen = Live()
        self._trouble = ""
        self._gaps_at = float("-inf")

    async def run(self) -> None:
        """Look and work until cancelled; no failure ends it."""
        pause = self._look_seconds
        while True:
            try:
                await self._look()
                self._trouble, pause = "", self._look_seconds
            except IndexChangedError:
                pass  # somebody else was faster: look anew
            except (AppError, SQLAlchemyError, OSError) as error:
                self._tell(error)
                pause = min(pause * 2, LONGEST_PAUSE)
            except Exception:
                log.exception("reindexing_failed")
                pause = LONGEST_PAUSE
            await asyncio.sleep(pause)

    async def status(self) -> dict[str, Any]:
        """Where the index stands, for people and for the operator.

        ``state`` is ``empty``, ``ready``, ``refused`` or ``reindexing``; ``message`` is for a
        person. Raises SQLAlchemy's errors when the database does not answer.
        """
        live = await self._live()
        return told(live, self._step(live, self._models.known), self._trouble)

    @property
    def indexed_with(self) -> str | None:
        """The model of the index that answers, as it was seen last; None without documents."""
        return self._seen.active.model.name if self._seen.active else None

    def _step(self, live: Live, wanted: Model) -> Step:
        started = self._started or datetime.now(UTC)
        return decide(live, wanted, reindex=self._settings.reindex, started=started)

    async def _live(self) -> Live:
        self._seen = await self._store.live()
        return self._seen

    async def _look(self) -> None:
        if self._started is None:
            self._started = await self._store.now()  # by the clock that indexes are dated with
        live = await self._live()
        if live.active is not None:
            await self._carry_out(self._step(live, await self._wanted(live.active)))
            await self._close_gaps(live.active)
        await self._clean_up()

    async def _wanted(self, active: Index) -> Model:
        """The wanted model; where it is refused by its name it need not be on the server."""
        name = self._models.wanted_name
        if name != active.model.name and not self._settings.reindex:
            return Model(name)
        wanted = await self._models.wanted()
        if wanted.digest and not active.model.digest and wanted.name == active.model.name:
            await self._store.note(active, digest=wanted.digest)
        return wanted

    async def _carry_out(self, step: Step) -> None:
        if isinstance(step, Begin):
            await self._store.create(self._models.known, "building")
            step = self._step(await self._live(), self._models.known)
        if isinstance(step, GoOn):
            await self._build(step.index)
        elif isinstance(step, Abandon):
            await self._store.retire(step.index)
            log.info("reindexing_abandoned", model=step.index.model.name)

    async def _build(self, index: Index) -> None:
        """A turn of building; at its end the index answers, if no chunk is left."""
        async with self._store.turn() as held:
            if held is None:
                return
            try:
                complete = await self._fill(index, held)
            except ModelServerError as error:
                await self._store.note(index, trouble=error.message)
                raise
            if complete and await self._store.switch(index):
                log.info("index_switched", model=index.model.name, dimensions=index.dimensions)

    async def _close_gaps(self, active: Index) -> None:
        """Embed what the active index has no vector of: left by an older version."""
        if time.monotonic() - self._gaps_at < GAPS_SECONDS:
            return
        if await self._store.gaps(active, None, 1):
            async with self._store.turn() as held:
                if held is None or not await self._fill(active, held):
                    return
        self._gaps_at = time.monotonic()

    async def _clean_up(self) -> None:
        if not await self._store.has_retired(self._grace):
            return
        async with self._store.turn() as held:
            if held is not None:
                for model in await self._store.drop_retired(self._grace):
                    log.info("index_dropped", model=model)

    async def _fill(self, index: Index, held: AsyncConnection) -> bool:
        """Embed what has no vector yet, for a turn; true when nothing is left."""
        done, total = await self._store.counts(index)
        pace = _Pace(time.monotonic(), done)
        size, after = self._settings.embedding_batch_size, None
        while gaps := await self._store.gaps(index, after, size):
            begun = time.monotonic()
            try:
                vectors = await self._models.embed(index, _texts(index, gaps))
            except ModelServerError as error:
                if len(gaps) == 1:
                    raise ModelServerError(f"{gaps[0].document}: {error.message}") from error
                size = 1  # perhaps one text is at fault: find it
                continue
            await self._store.fill(index, gaps, vectors)
            REEMBEDDED.inc(len(gaps))
            after = gaps[-1].chunk_id
            pace.embedded += len(gaps)
            now = time.monotonic()
            await self._note(index, held, pace, total, now)
            if now - pace.begun > TURN_SECONDS:
                return False
            await asyncio.sleep((now - begun) * (1 / self._settings.reindex_share - 1))
        await self._note(index, held, pace, total, float("inf"))
        return after is None or not await self._store.gaps(index, None, 1)

    async def _note(
        self, index: Index, held: AsyncConnection, pace: _Pace, total: int, now: float
    ) -> None:
        if index.state != "building" or now - pace.noted_at < NOTE_SECONDS:
            return
        pace.noted_at = now
        done = pace.done + pace.embedded
        # Over the lock's connection: who has lost the lock notices it here and stops.
        await held.execute(
            text(
                "UPDATE embedding_indexes SET done = :done, total = :total, rate = :rate,"
                " trouble = NULL WHERE id = :id"
            ),
            {
                "id": index.id,
                "done": done,
                "total": max(total, done),
                "rate": pace.rate(time.monotonic()),
            },
        )

    def _tell(self, error: Exception) -> None:
        message = error.message if isinstance(error, AppError) else str(error).splitlines()[0]
        if message != self._trouble:
            log.warning("reindexing_waits", reason=message)
        self._trouble = message


def _texts(index: Index, gaps: Sequence[Gap]) -> list[str]:
    return [embedded_text(index.model.name, gap.document, gap.chunk) for gap in gaps]


def told(live: Live, step: Step, trouble: str) -> dict[str, Any]:
    """What the API tells of the indexes. Pure."""
    active, building = live.active, live.building
    if active is None:
        return {"state": "empty", "model": None, "dimensions": None, "reindex": None, "message": ""}
    state, message = "ready", trouble
    if isinstance(step, Refused):
        state, message = "refused", step.message
    elif building is not None:
        state = "reindexing"
    elif isinstance(step, Settled) and step.note:
        message = step.note
    return {
        "state": state,
        "model": active.model.name,
        "dimensions": active.dimensions,
        "reindex": None if building is None else _progress(building, trouble),
        "message": message,
    }


def _progress(index: Index, trouble: str) -> Mapping[str, Any]:
    eta = index.eta
    return {
        "model": index.model.name,
        "dimensions": index.dimensions,
        "done": index.done,
        "total": index.total,
        "percent": min(99, 100 * index.done // index.total) if index.total else 0,
        "rate": round(index.rate, 2),
        "eta_seconds": None if eta is None else round(eta),
        "message": index.trouble or trouble,
    }
