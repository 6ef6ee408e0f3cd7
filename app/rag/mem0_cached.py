"""The Mem0 client with caches in front of its reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from app.rag.cache import CacheStats, Group, GroupedTTLCache, Key, ReadThrough
from app.rag.frozen import Frozen
from app.rag.mem0_caches import CacheType, MemoryCaches
from app.rag.mem0_errors import Mem0NotFoundError
from app.rag.mem0_guard import never_raises, nothing, report

if TYPE_CHECKING:  # httpx may be missing where memory is not used
    from app.rag.mem0_http import Mem0Client

Json = dict[str, Any]

NOTHING = Frozen(None)


class CachedMem0Client:
    """The operations of a Mem0 client, read through caches; nothing raises but ``send_*``.

    A write drops what it makes untrue, and a read that began before it is not kept. What a read
    returns is the caller's own copy, what a ``view_*`` returns cannot be changed. ``client`` is
    the plain HTTP client beneath; the ``*_cache`` attributes are the ``TTLCache`` s, for a look
    inside (:meth:`clear_cache` empties them).
    """

    def __init__(self, client: Mem0Client, caches: MemoryCaches) -> None:
        self.client = client
        self.caches = caches
        self._human, self._recall = caches["human"], caches["recall"]
        self._archival, self._search = caches["archival"], caches["search"]
        breaker = getattr(client, "breaker", None)
        if breaker is not None:
            caches.load_only_if(breaker.check)

    @property
    def human_cache(self) -> GroupedTTLCache:
        """Humans, and agents too."""
        return self._human.store

    @property
    def recall_cache(self) -> GroupedTTLCache:
        """Conversations."""
        return self._recall.store

    @property
    def archival_cache(self) -> GroupedTTLCache:
        """Records by kind."""
        return self._archival.store

    @property
    def search_cache(self) -> GroupedTTLCache:
        """Searches of records."""
        return self._search.store

    @property
    def degraded(self) -> bool:
        """True from a call that Mem0 did not serve until the next one that it serves."""
        return self.client.failing

    def stats(self) -> dict[CacheType, CacheStats]:
        """The counters of each cache."""
        return self.caches.stats()

    @never_raises(nothing)
    def clear_cache(self, cache_type: CacheType | None = None) -> None:
        """Empty one cache, or all of them; of all replicas, where caches are coherent."""
        self.caches.clear(cache_type)

    def get_agent(self, agent_id: str) -> Json | None:
        """The agent, or ``None`` when there is none or Mem0 does not answer."""
        agent: Json | None = self._read(
            "get_agent",
            self._human,
            (("agent", agent_id), ()),
            lambda: self.client.get_agent(agent_id=agent_id),
        ).copy()
        return agent

    @never_raises(bool)
    def create_agent(self, agent_id: str, name: str, persona: str) -> bool:
        """Make or change the agent; True when it is done."""
        try:
            self.client.create_agent(agent_id=agent_id, name=name, persona=persona)
        finally:
            self.caches.drop("human", ("agent", agent_id))
        return True

    def get_human(self, human_id: str) -> Json | None:
        """The human, or ``None`` when there is none or Mem0 does not answer."""
        human: Json | None = self._read(
            "get_human",
            self._human,
            (("human", human_id), ()),
            lambda: self.client.get_human(human_id=human_id),
        ).copy()
        return human

    @never_raises(bool)
    def create_human(self, human_id: str, name: str) -> bool:
        """Make the human or change the name; True when it is done."""
        try:
            self.client.create_human(human_id=human_id, name=name)
        finally:
            self.caches.drop("human", ("human", human_id))
        return True

    @never_raises(bool)
    def append_message(
        self,
        agent_id: str,
        human_id: str,
        message: Mapping[str, str],
        idempotency_key: str | None = None,
    ) -> bool:
        """Append ``{role, content}`` to the conversation; True when it is stored.

        The same ``idempotency_key`` again stores nothing more. Agent and human must exist.
        """
        self.send_message(agent_id, human_id, message, idempotency_key)
        return True

    def send_message(
        self,
        agent_id: str,
        human_id: str,
        message: Mapping[str, str],
        idempotency_key: str | None = None,
    ) -> None:
        """As :meth:`append_message`, but raises Mem0Error: for who must know why it failed."""
        with self._writing(agent_id, human_id, (agent_id, human_id), "recall"):
            self.client.append_message(
                agent_id=agent_id,
                human_id=human_id,
                message=message,
                idempotency_key=idempotency_key,
            )

    def get_recall_memory(self, agent_id: str, human_id: str, limit: int = 10) -> list[Json]:
        """The newest ``limit`` messages, oldest first."""
        return self._messages(agent_id, human_id, limit).copy() or []

    def view_recall_memory(
        self, agent_id: str, human_id: str, limit: int = 10
    ) -> Sequence[Mapping[str, Any]]:
        """As :meth:`get_recall_memory`, but shared and unchangeable, so nothing is copied."""
        return self._messages(agent_id, human_id, limit).view or ()

    @never_raises(bool)
    def create_archival_memory(
        self,
        agent_id: str,
        human_id: str,
        data: Json,
        kind: str,
        replace: bool = False,
        idempotency_key: str | None = None,
    ) -> bool:
        """Store ``data`` as a record of ``kind``, alone of its kind when ``replace``.

        The same ``idempotency_key`` again stores nothing more. Agent and human must exist.
        """
        self.send_record(agent_id, human_id, data, kind, replace, idempotency_key)
        return True

    def send_record(
        self,
        agent_id: str,
        human_id: str,
        data: Json,
        kind: str,
        replace: bool = False,
        idempotency_key: str | None = None,
    ) -> None:
        """As :meth:`create_archival_memory`, but raises Mem0Error."""
        with self._writing(agent_id, human_id, (agent_id, human_id, kind), "archival", "search"):
            self.client.create_archival_memory(
                agent_id=agent_id,
                human_id=human_id,
                data=data,
                kind=kind,
                replace=replace,
                idempotency_key=idempotency_key,
            )

    def send_deletion(self, human_id: str) -> None:
        """Delete all that Mem0 holds about the human, who need not exist; raises Mem0Error."""
        try:
            self.client.delete_human(human_id=human_id)
        except Mem0NotFoundError:
            pass
        finally:
            self.clear_cache()  # whose entries are his is not worth an index: this is rare

    def get_archival_memory(
        self, agent_id: str, human_id: str, kind: str, limit: int = 10
    ) -> list[Json]:
        """The newest ``limit`` records of ``kind``, newest first (id, kind, data, created_at)."""
        found = self._read(
            "get_archival_memory",
            self._archival,
            ((agent_id, human_id, kind), (limit,)),
            lambda: self.client.get_archival_memory(
                agent_id=agent_id, human_id=human_id, kind=kind, limit=limit
            ),
        )
        return found.copy() or []

    def search_archival_memory(
        self, agent_id: str, human_id: str, query: str | None, kind: str, limit: int = 10
    ) -> list[Json]:
        """The records of ``kind`` nearest to ``query``, with a score; None gives the newest."""
        found = self._read(
            "search_archival_memory",
            self._search,
            ((agent_id, human_id, kind), (query or None, limit)),
            lambda: self.client.search_archival_memory(
                agent_id=agent_id, human_id=human_id, query=query, kind=kind, limit=limit
            ),
        )
        return found.copy() or []

    def _messages(self, agent_id: str, human_id: str, limit: int) -> Frozen:
        return self._read(
            "get_recall_memory",
            self._recall,
            ((agent_id, human_id), (limit,)),
            lambda: self.client.get_recall_memory(
                agent_id=agent_id, human_id=human_id, limit=limit
            ),
        )

    @staticmethod
    def _read(operation: str, cache: ReadThrough, key: Key, load: Callable[[], Any]) -> Frozen:
        """What is cached under ``key``, else what ``load`` gives, else nothing."""
        try:
            return cache.frozen(key, lambda: _found(load))
        except Exception as error:  # noqa: BLE001 - a chat goes on without its memory
            report(operation, error)
            return NOTHING

    @contextmanager
    def _writing(
        self, agent_id: str, human_id: str, group: Group, *caches: CacheType
    ) -> Iterator[None]:
        """Drop what a write makes untrue, also when it failed: its answer may have been lost."""
        try:
            yield
        except Mem0NotFoundError:  # the server knows one of the two no longer, so forget both
            self.caches.drop("human", ("agent", agent_id))
            self.caches.drop("human", ("human", human_id))
            raise
        finally:
            for cache in caches:
                self.caches.drop(cache, group)


def _found(load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Mem0NotFoundError:
        return None  # nobody of that id yet, so nothing said or stored
