"""mem0ai behind a small face: the only module that touches it, and always in a thread.

It embeds through a model server and searches its pgvector collection, whose rows our own
transactions write (see ``mem0_server.store.jobs``). A server imports it before it serves
(:func:`bring_in`); its telemetry is off, its history is kept in memory and stays empty, and it
never pulls a model.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from uuid import UUID
from weakref import WeakSet

from mem0_server.errors import (
    DatabaseUnavailableError,
    InvalidInputError,
    Mem0ServerError,
    OllamaError,
    OllamaUnreachableError,
    OverloadedError,
)
from mem0_server.index.servers import chat_server, embedding_server, translated
from mem0_server.metrics import Metrics
from mem0_server.settings import Settings, login_fingerprint
from mem0_server.store.collections import Collection

T = TypeVar("T")

# pgvector can index no more dimensions than this with HNSW.
HNSW_DIMENSIONS = 2000
WAITING_PER_THREAD = 16


@dataclass(frozen=True, slots=True)
class Hit:
    """A row of the index and its score: 1 is nearest, 0 farthest."""

    record_id: UUID
    score: float


def bring_in(settings: Settings) -> None:
    """Import mem0ai: a second of one processor and 70 MB, in which others hardly get a turn."""
    settings.mem0_dir.mkdir(parents=True, exist_ok=True)
    os.environ["MEM0_TELEMETRY"] = "false"
    os.environ["MEM0_DIR"] = str(settings.mem0_dir)
    import mem0.memory.main  # noqa: F401


class Library:
    """mem0ai's Memory, its embedder and its connections."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Import nothing and connect to nothing yet."""
        self._settings = settings
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(settings.index_threads, thread_name_prefix="mem0ai")
        self._waiting = 0
        self._memory: Any = None
        self._memories: dict[str, Any] = {}
        self._pool: Any = None
        self._connections: WeakSet[Any] = WeakSet()
        self._closed = False

    @property
    def memory(self) -> Any:
        """mem0ai's ``Memory``; :meth:`open` has made it."""
        if self._memory is None:
            raise OllamaError("the search index is not open yet; try again")
        return self._memory

    async def dimensions(self, model: str) -> int:
        """The length of the vectors of ``model``, asked of Ollama.

        :raises OllamaError: Ollama is away or has no such model.
        """
        timeout = self._settings.embedding_timeout  # the first call may load the model
        return await self.call(self._dimensions, model, within=timeout)

    async def open(self, collection: Collection, *, create: bool) -> None:
        """Make mem0ai's ``Memory`` over the collection; with ``create`` also its table."""
        await self.call(self._open, collection, create, within=60)

    def answer_from(self, collection: Collection) -> None:
        """Search in this opened collection from now on."""
        self._memory = self._memories.get(collection.name)

    async def embed(self, texts: list[str], collection: Collection) -> list[list[float]]:
        """Embed ``texts`` in one call, with the model of an opened collection.

        :raises OllamaError: Ollama is away or has no such model.
        """
        embedder = self._memories[collection.name].embedding_model
        return await self.call(
            embedder.embed_batch, texts, "add", within=self._settings.embedding_timeout
        )

    async def lemmas(self, texts: list[str]) -> list[str]:
        """The words by which mem0ai ranks ``texts`` beside their vectors."""
        return await self.call(_lemmas, texts, within=self._settings.embedding_timeout)

    async def search(
        self, query: str, filters: dict[str, Any], limit: int, threshold: float = 0
    ) -> list[Hit]:
        """The rows nearest to ``query`` among those that match, nearest first.

        ``query`` is not blank; ``filters`` name at least one of user, agent and run. Rows less
        near than ``threshold`` (0 to 1) are left out.

        :raises InvalidInputError: mem0ai cannot use the filters.
        :raises OllamaError: Ollama is away or has no such model.
        :raises DatabaseUnavailableError: the database does not answer.
        """
        search = partial(
            self.memory.search,
            query,
            filters=filters,
            top_k=limit,
            threshold=threshold,
            show_expired=True,
        )
        found = await self.call(search, within=self._settings.search_timeout)
        return [Hit(UUID(item["id"]), float(item["score"])) for item in found["results"]]

    async def call(self, function: Callable[..., T], *arguments: Any, within: float) -> T:
        """Run ``function`` in a thread of ours and translate what it raises.

        :raises OverloadedError: too many calls wait for a thread already.
        :raises OllamaUnreachableError: no answer ``within`` so many seconds.
        """
        if self._waiting >= self._settings.index_threads * WAITING_PER_THREAD:
            raise OverloadedError("too many searches wait already; try again")
        self._count(1)
        work = asyncio.get_running_loop().run_in_executor(
            self._threads, partial(_translated, self._settings, partial(function, *arguments))
        )
        # A caller that gives up does not free the thread.
        work.add_done_callback(self._done)
        try:
            return await asyncio.wait_for(asyncio.shield(work), within)
        except TimeoutError:
            raise OllamaUnreachableError(
                f"{embedding_server(self._settings)} did not answer within {within:g} s; "
                "it may be loading a model; try again"
            ) from None

    def follow(self, login: str | None) -> None:
        """Close idle connections of a login other than that of this fingerprint.

        Those in use are closed when their work is done.
        """
        if self._pool is not None and login is not None and self.former_connections(login):
            self._pool.drain()

    def former_connections(self, login: str | None) -> int:
        """Connections still open with another login than that of this fingerprint."""
        return sum(
            login_fingerprint({"user": c.info.user, "password": c.info.password}) != login
            for c in list(self._connections)
            if not c.closed
        )

    def measure(self) -> None:
        """Bring the gauges of mem0ai's pool up to date."""
        stats = {} if self._pool is None else self._pool.get_stats()
        size, idle = stats.get("pool_size", 0), stats.get("pool_available", 0)
        self._metrics.set_pool("index", size, idle, self._settings.index_threads)

    async def close(self) -> None:
        """Give up waiting calls and close the connections."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._pool is not None:
            await asyncio.to_thread(self._pool.close, 2)

    def _done(self, work: asyncio.Future[Any]) -> None:
        self._count(-1)
        if not work.cancelled():
            work.exception()  # nobody may be left to see it

    def _count(self, change: int) -> None:
        self._waiting += change
        running = min(self._waiting, self._settings.index_threads)
        self._metrics.threads.labels("running").set(running)
        self._metrics.threads.labels("waiting").set(self._waiting - running)

    def _dimensions(self, model: str) -> int:
        vector = embedding_server(self._settings).embed(self._settings, model, "dimensions")
        if not vector:
            raise OllamaError(f"{model!r} made no vector; it is no embedding model")
        return len(vector)

    def _open(self, collection: Collection, create: bool) -> None:
        settings = self._settings
        bring_in(settings)
        from mem0.utils.factory import EmbedderFactory

        # The library's own embedder pulls a missing model from its constructor.
        EmbedderFactory.provider_to_class["ollama"] = "mem0_server.index.embedder.LocalEmbedder"
        if self._closed:  # while the import took its time
            return
        if self._pool is None:
            self._pool = _connections(settings, self._connections.add)
        if collection.name not in self._memories:
            # Kept for good: one that is collected closes the pool that all of them share.
            self._memories[collection.name] = self._made(collection)
        if create:
            self._memories[collection.name].vector_store.create_col()

    def _made(self, collection: Collection) -> Any:
        """mem0ai's ``Memory`` over the collection."""
        from mem0.memory.main import Memory

        settings = self._settings
        embedding, chat = embedding_server(settings), chat_server(settings)
        memory = Memory.from_config(
            {
                "embedder": embedding.config(collection.model),
                "llm": chat.config(settings.llm_model),
                "vector_store": {
                    "provider": "pgvector",
                    "config": {
                        "connection_pool": self._pool,
                        "collection_name": collection.name,
                        "embedding_model_dims": collection.dimensions,
                        "hnsw": collection.dimensions <= HNSW_DIMENSIONS,
                    },
                },
                "history_db_path": ":memory:",
            }
        )
        # The library's own clients wait for ever.
        memory.embedding_model.client = embedding.client(settings, settings.embedding_timeout)
        memory.llm.client = chat.client(settings, settings.extraction_timeout)
        return memory


def _connections(settings: Settings, made: Callable[[Any], None]) -> Any:
    """mem0ai's own small pool, with the credentials of the moment for each new connection.

    ``made`` is told of each connection.
    """
    from psycopg_pool import ConnectionPool

    milliseconds = int(settings.database_timeout * 1000)
    options = (
        f"-c statement_timeout={milliseconds} "
        # With a filter, HNSW alone may find too few: let it go on until there are enough.
        "-c hnsw.iterative_scan=strict_order"
    )
    return ConnectionPool(
        settings.database_url,
        kwargs=lambda: {
            "application_name": "mem0-index",
            "options": options,
            "connect_timeout": 5,
            # Else each of a search's two statements were a transaction, in three round trips.
            "autocommit": True,
            **settings.database_tls(),
            **settings.database_credentials(),
        },
        min_size=0,
        max_size=settings.index_threads,
        timeout=settings.database_acquire_timeout,
        configure=made,
        check=_checked,
        open=True,
    )


def _checked(connection: Any) -> None:
    """Ask PostgreSQL only where it said something unasked, such as that it ends; that is rare.

    Raises psycopg's error for a connection that cannot be used.
    """
    from psycopg_pool import ConnectionPool

    ear = select.poll()
    ear.register(connection, select.POLLIN)
    if ear.poll(0):
        ConnectionPool.check_connection(connection)


def _lemmas(texts: list[str]) -> list[str]:
    from mem0.utils.lemmatization import lemmatize_for_bm25

    return [lemmatize_for_bm25(text) for text in texts]


def _translated(settings: Settings, function: Callable[[], T]) -> T:
    """Run ``function``; what model servers and psycopg raise becomes ours."""
    import psycopg

    try:
        return function()
    except Mem0ServerError:
        raise
    except Exception as error:
        ours = translated(settings, error)
        if ours is not None:
            raise ours from error
        if isinstance(error, (psycopg.DataError, ValueError)):
            raise InvalidInputError(f"mem0ai cannot use this request: {error}") from error
        if isinstance(error, psycopg.Error):
            raise DatabaseUnavailableError(
                f"the search index in {settings.database_name} does not answer: {error}; try again"
            ) from error
        raise
