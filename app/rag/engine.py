"""RAGEngine: a question in, an answer with its sources out, step by step as they are known.

It knows no HTTP. Every step is one collaborator's: conversations and documents in metis-postgres,
memory in Mem0, models in Ollama; what is decided between them (ranking, prompt) is pure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from app.core.config import Settings
from app.core.logging import get_logger
from app.core.metrics import ANSWERS, BOOKKEEPING, MEMORY, STAGES
from app.errors import DatabaseUnavailableError, ModelServerError
from app.rag import conversations
from app.rag.conversations import Begun
from app.rag.embedding import embedded_question
from app.rag.embedding_models import EmbeddingModels
from app.rag.memory import UserMemory
from app.rag.model_server import ChatOptions
from app.rag.models import ModelServers
from app.rag.prompt import build_prompt, citations
from app.rag.retrieval import boosts, ranked, search_text
from app.rag.store import IndexChangedError, VectorStore
from app.rag.types import Hit, Recollection, Source

EARLIER_MESSAGES = 8
"""Messages of this conversation that the prompt may hold."""
CANDIDATES = 4
"""Hits looked at for each source wanted, so that the boost has something to choose from."""
CHANGES = 3
"""Times that another index may come to answer while one question is embedded."""
PLANNED = ("use_chunking_judge", "use_retrieval_judge", "use_langgraph_rag",
           "use_enhanced_langgraph_rag")  # fmt: skip

log = get_logger(__name__)


@dataclass(frozen=True)
class Started:
    """The question is stored; the answer will have this id."""

    conversation_id: UUID
    message_id: UUID


@dataclass(frozen=True)
class Found:
    """What the answer will be made from."""

    sources: Sequence[Source]
    memory: Recollection
    model: str


@dataclass(frozen=True)
class Token:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True)
class Done:
    """The whole answer, stored."""

    answer: str
    citations: Sequence[int]


Step = Started | Found | Token | Done


class Stopwatch:
    """Times the bookkeeping of one question: its reads and writes of conversation and memory."""

    def __init__(self) -> None:
        self._seconds = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        begun = time.perf_counter()
        yield
        took = time.perf_counter() - begun
        self._seconds += took
        BOOKKEEPING.labels(name).observe(took)

    def total(self) -> None:
        """All stages are over."""
        BOOKKEEPING.labels("total").observe(self._seconds)


@dataclass
class _Answer:
    """An answer in the making."""

    user_id: str
    started: Started
    watch: Stopwatch
    sources: Sequence[Source] = ()
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces).strip()


class RAGEngine:
    """Answers questions of users from the documents and from what it remembers of them."""

    def __init__(
        self,
        settings: Settings,
        models: ModelServers,
        embedding: EmbeddingModels,
        store: VectorStore,
        memory: UserMemory,
    ) -> None:
        self._settings = settings
        self._models = models
        self._embedding = embedding
        self._store = store
        self._memory = memory
        self._loose: set[asyncio.Task[None]] = set()
        off = [name.upper() for name in PLANNED if getattr(settings, name)]
        if off:
            log.info("not_built_yet", off=off, note="answers come from plain retrieval until then")

    async def close(self) -> None:
        """Wait for what is still being stored."""
        if self._loose:
            await asyncio.gather(*self._loose, return_exceptions=True)

    async def query(
        self, user_id: str, question: str, conversation_id: UUID | None = None
    ) -> AsyncGenerator[Step, None]:
        """Answer a question: Started, Found, any number of Token, Done.

        Raises NotFoundError for a conversation that is not the user's, ModelServerError when models
        do not answer, SQLAlchemy's errors when the database does not. Memory that fails is told in
        ``Found.memory.status`` and stops nothing. Closed early (the reader left), it stops the
        model and keeps what was said so far.
        """
        answer, begun = await self._begin(user_id, question, conversation_id)
        yield answer.started
        try:
            (hits, recollection) = await self._look_up(question, answer, begun)
            model = await self._chosen_model(recollection)
            sources = ranked(
                hits, boosts(recollection.interactions), self._settings.retrieval_limit
            )
            earlier = {turn.content for turn in begun.earlier}
            prompt = build_prompt(
                question,
                sources,
                conversation=begun.earlier,
                recollection=[t for t in recollection.history if t.content not in earlier],
                preferences=recollection.preferences,
                budget_tokens=self._settings.chat_context_tokens
                - self._settings.chat_answer_tokens,
            )
            answer.sources = prompt.sources
            yield Found(prompt.sources, recollection, model)
            async with aclosing(self._generate(model, prompt.messages)) as pieces:
                async for piece in pieces:
                    answer.pieces.append(piece)
                    yield Token(piece)
        except (GeneratorExit, asyncio.CancelledError):
            ANSWERS.labels("interrupted").inc()
            self._later(self._keep(answer))
            raise
        except Exception:
            ANSWERS.labels("failed").inc()
            raise
        await self._keep(answer)
        ANSWERS.labels("complete").inc()
        yield Done(answer.text, citations(answer.text, answer.sources))

    async def _begin(
        self, user_id: str, question: str, conversation_id: UUID | None
    ) -> tuple[_Answer, Begun]:
        watch = Stopwatch()
        with watch.stage("ask"):
            begun = await conversations.ask(
                user_id, conversation_id, question, EARLIER_MESSAGES, remember=self._memory.is_on
            )
        return _Answer(user_id, Started(begun.id, uuid4()), watch), begun

    async def _look_up(
        self, question: str, answer: _Answer, begun: Begun
    ) -> tuple[list[Hit], Recollection]:
        """Documents and memory at the same time."""
        return await asyncio.gather(
            self._retrieve(search_text(question, begun.earlier)), self._recollect(answer, begun)
        )

    async def _recollect(self, answer: _Answer, begun: Begun) -> Recollection:
        with answer.watch.stage("recollect"):
            recollection = await self._memory.recollect(
                answer.user_id, begun.waiting, begun.question_id
            )
        MEMORY.labels(recollection.status).inc()
        return recollection

    async def _retrieve(self, question: str) -> list[Hit]:
        """What one index finds: question and documents are embedded with the same model."""
        for _ in range(CHANGES):
            index = (await self._store.live()).active
            if index is None:
                return []
            with _timed("embed"):
                words = embedded_question(index.model.name, question)
                (vector,) = await self._embedding.embed(index, [words])
            with _timed("retrieve"), suppress(IndexChangedError):
                return await self._store.search(
                    index, vector, self._settings.retrieval_limit * CANDIDATES
                )
        raise DatabaseUnavailableError(
            "the table of the index that answers is not there; look at the database"
        )

    async def _chosen_model(self, recollection: Recollection) -> str:
        """The user's preferred model where the server has it, else the default."""
        preferred = str(recollection.preferences.get("model") or "").strip()
        default = self._settings.default_model
        server = self._models.chat
        if not preferred or server.full_name(preferred) == server.full_name(default):
            return default
        if server.lists(preferred, await server.models()):
            return preferred
        log.info("preferred_model_missing", model=preferred, using=default)
        return default

    async def _generate(
        self, model: str, messages: list[dict[str, str]]
    ) -> AsyncGenerator[str, None]:
        settings = self._settings
        options = ChatOptions(
            settings.chat_context_tokens, settings.chat_answer_tokens, settings.chat_temperature
        )
        begun = time.perf_counter()
        first = True
        async with aclosing(self._models.chat.chat(model, messages, options)) as pieces:
            async for piece in pieces:
                if first:
                    STAGES.labels("first_token").observe(time.perf_counter() - begun)
                    first = False
                yield piece
        if first:
            raise ModelServerError(f"{model} gave an empty answer; ask again or in other words")
        STAGES.labels("generate").observe(time.perf_counter() - begun)

    async def _keep(self, answer: _Answer) -> None:
        """Store an answer, whole or broken off, in the conversation and in memory."""
        if not answer.text:
            return
        cited = set(citations(answer.text, answer.sources))
        used = [s for s in answer.sources if s.number in cited] or list(answer.sources[:1])
        started = answer.started
        with answer.watch.stage("answer"):
            await conversations.answer(
                answer.user_id,
                started.conversation_id,
                started.message_id,
                answer.text,
                answer.sources,
                self._memory.notes_of(started.message_id, answer.text, used),
            )
        answer.watch.total()

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """Finish ``work`` though its request is over."""
        task = asyncio.ensure_future(work)
        self._loose.add(task)
        task.add_done_callback(self._loose.discard)


@contextmanager
def _timed(stage: str) -> Iterator[None]:
    begun = time.perf_counter()
    try:
        yield
    finally:
        STAGES.labels(stage).observe(time.perf_counter() - begun)
