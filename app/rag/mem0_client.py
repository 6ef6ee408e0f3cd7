"""Long-term memory for the app: the cached client of the Mem0 server and what the app asks of it.

Nothing here raises at its caller. A failure is logged with its cause, counted, and gives ``None``,
``False`` or an empty list or dict; what users say is never logged. Everything is synchronous and
thread-safe; async code calls it through ``asyncio.to_thread``. No database is needed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from app.core.config import SETTINGS
from app.rag.cache import CacheStats, Group, ReadThrough, Rest
from app.rag.mem0_errors import Mem0NotFoundError
from app.rag.mem0_guard import never_raises, nothing
from app.rag.mem0_keys import MountedKeys

try:
    from app.rag.mem0_http import Mem0Client

    MEM0_AVAILABLE = True
except ImportError:  # httpx is not installed: the app runs without memory
    MEM0_AVAILABLE = False

METIS_AGENT_ID = "metis_rag_agent"
AGENT_NAME = "Metis"
METIS_PERSONA = (
    "You are Metis, a helpful assistant that answers from the provided documents. "
    "You are accurate and concise, and you say so when you do not know."
)

PREFERENCES = "user_preferences"
INTERACTIONS = "document_interaction"
INTERACTIONS_SEEN = 200  # how many a filtered list looks through: the server filters by kind only

Json = dict[str, Any]
CacheType = Literal["human", "recall", "archival", "search"]


class EnhancedMem0Client:
    """The Mem0 client with caches in front of its reads.

    A write drops what it makes untrue, and a read that began before it is not kept. What a read
    returns is the caller's own copy. ``client`` is the plain HTTP client beneath; the ``*_cache``
    attributes are the ``TTLCache`` s, for a look inside (:meth:`clear_cache` empties them).
    """

    def __init__(self, api_key: str | None = None, endpoint: str = "http://localhost:8050") -> None:
        """Make a client of the server at ``endpoint``; nothing is sent yet.

        Without ``api_key`` the key is ``SETTINGS.mem0_api_key`` or, where that is not set either,
        what the directory ``SETTINGS.mem0_api_key_dir`` holds, followed as it changes.
        """
        self.endpoint = endpoint
        key = api_key or SETTINGS.mem0_api_key
        timeout = _positive("mem0_timeout", 5.0)
        if SETTINGS.mem0_api_key_dir and not key:
            keys = MountedKeys(Path(SETTINGS.mem0_api_key_dir))
            self.client = Mem0Client(endpoint=endpoint, keys=keys, timeout=timeout)
        else:
            self.client = Mem0Client(api_key=key, endpoint=endpoint, timeout=timeout)
        self._caches: dict[CacheType, ReadThrough] = {
            "human": _cache("human", 1000, 300.0),
            "recall": _cache("recall", 1000, 60.0),
            "archival": _cache("archival", 2000, 300.0),
            "search": _cache("search", 2000, 120.0),
        }
        self.human_cache = self._caches["human"].store  # agents too
        self.recall_cache = self._caches["recall"].store
        self.archival_cache = self._caches["archival"].store
        self.search_cache = self._caches["search"].store

    @property
    def degraded(self) -> bool:
        """True from a call that Mem0 did not serve until the next one that it serves."""
        return self.client.failing

    def stats(self) -> dict[CacheType, CacheStats]:
        """The counters of each cache."""
        return {name: cache.stats() for name, cache in self._caches.items()}

    @never_raises(nothing)
    def clear_cache(self, cache_type: CacheType | None = None) -> None:
        """Empty one cache, or all of them."""
        for name in self._caches if cache_type is None else (cache_type,):
            self._caches[name].clear()

    @never_raises(nothing)
    def get_agent(self, agent_id: str) -> Json | None:
        """The agent, or ``None`` when there is none or Mem0 does not answer."""
        return self._caches["human"].read(
            ("agent", agent_id), (), lambda: self.client.get_agent(agent_id=agent_id)
        )

    @never_raises(bool)
    def create_agent(self, agent_id: str, name: str, persona: str) -> bool:
        """Make or change the agent; True when it is done."""
        try:
            self.client.create_agent(agent_id=agent_id, name=name, persona=persona)
        finally:
            self._caches["human"].drop(("agent", agent_id))
        return True

    @never_raises(nothing)
    def get_human(self, human_id: str) -> Json | None:
        """The human, or ``None`` when there is none or Mem0 does not answer."""
        return self._caches["human"].read(
            ("human", human_id), (), lambda: self.client.get_human(human_id=human_id)
        )

    @never_raises(bool)
    def create_human(self, human_id: str, name: str) -> bool:
        """Make the human or change the name; True when it is done."""
        try:
            self.client.create_human(human_id=human_id, name=name)
        finally:
            self._caches["human"].drop(("human", human_id))
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

    @never_raises(list)
    def get_recall_memory(self, agent_id: str, human_id: str, limit: int = 10) -> list[Json]:
        """The newest ``limit`` messages, oldest first."""
        return self._list(
            "recall",
            (agent_id, human_id),
            (limit,),
            lambda: self.client.get_recall_memory(
                agent_id=agent_id, human_id=human_id, limit=limit
            ),
        )

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

    @never_raises(list)
    def get_archival_memory(
        self, agent_id: str, human_id: str, kind: str, limit: int = 10
    ) -> list[Json]:
        """The newest ``limit`` records of ``kind``, newest first (id, kind, data, created_at)."""
        return self._list(
            "archival",
            (agent_id, human_id, kind),
            (limit,),
            lambda: self.client.get_archival_memory(
                agent_id=agent_id, human_id=human_id, kind=kind, limit=limit
            ),
        )

    @never_raises(list)
    def search_archival_memory(
        self, agent_id: str, human_id: str, query: str | None, kind: str, limit: int = 10
    ) -> list[Json]:
        """The records of ``kind`` nearest to ``query``, with a score; None gives the newest."""
        return self._list(
            "search",
            (agent_id, human_id, kind),
            (query or None, limit),
            lambda: self.client.search_archival_memory(
                agent_id=agent_id, human_id=human_id, query=query, kind=kind, limit=limit
            ),
        )

    def _list(
        self, cache: CacheType, group: Group, rest: Rest, load: Callable[[], list[Json]]
    ) -> list[Json]:
        def found() -> list[Json] | None:
            try:
                return load()
            except Mem0NotFoundError:
                return None  # nobody of that id yet, so nothing said or stored

        return self._caches[cache].read(group, rest, found) or []

    @contextmanager
    def _writing(
        self, agent_id: str, human_id: str, group: Group, *caches: CacheType
    ) -> Iterator[None]:
        """Drop what a write makes untrue, also when it failed: its answer may have been lost."""
        try:
            yield
        except Mem0NotFoundError:  # the server knows one of the two no longer, so forget both
            self._caches["human"].drop(("agent", agent_id))
            self._caches["human"].drop(("human", human_id))
            raise
        finally:
            for cache in caches:
                self._caches[cache].drop(group)


def _cache(name: str, size: int, ttl: float) -> ReadThrough:
    """A cache of the size (entries) and TTL (seconds) set for it, these defaults where unset."""
    return ReadThrough(
        int(_positive(f"mem0_{name}_cache_size", size)), _positive(f"mem0_{name}_cache_ttl", ttl)
    )


def _positive(name: str, default: float) -> float:
    value = getattr(SETTINGS, name, None)
    return float(value) if isinstance(value, int | float) and value > 0 else default


_mem0_client: EnhancedMem0Client | None = None
_singleton_lock = threading.Lock()


@never_raises(nothing)
def get_mem0_client() -> EnhancedMem0Client | None:
    """The process's client, or ``None`` when memory is switched off or cannot be had.

    The Metis agent is made where it is missing; while Mem0 is away, the next call tries again.
    """
    global _mem0_client
    if not SETTINGS.use_mem0 or not MEM0_AVAILABLE:
        return None
    with _singleton_lock:
        if _mem0_client is None:
            _mem0_client = EnhancedMem0Client(
                api_key=SETTINGS.mem0_api_key, endpoint=SETTINGS.mem0_endpoint
            )
        client = _mem0_client
    _ensure_agent(client)
    return client


def memory_status() -> Literal["ok", "degraded", "off"]:
    """``off`` when switched off, ``degraded`` while Mem0 does not serve us, else ``ok``."""
    client = get_mem0_client()
    if client is None:
        return "off"
    return "degraded" if client.degraded else "ok"


@never_raises(bool)
def get_or_create_human(human_id: str, name: str | None = None) -> bool:
    """Make sure that the human exists; True when it does."""
    client = get_mem0_client()
    if client is None:
        return False
    if client.get_human(human_id) is not None:
        return True
    return client.create_human(human_id=human_id, name=name or human_id)


@never_raises(bool)
def store_message(human_id: str, role: str, content: str) -> bool:
    """Remember one message of the user's conversation; True when it is stored."""
    return _store(
        human_id,
        lambda client: client.append_message(
            agent_id=METIS_AGENT_ID,
            human_id=human_id,
            message={"role": role, "content": content},
        ),
    )


@never_raises(list)
def get_conversation_history(human_id: str, limit: int = 10) -> list[Json]:
    """The user's newest ``limit`` messages over all conversations, oldest first."""
    client = get_mem0_client()
    if client is None:
        return []
    return client.get_recall_memory(agent_id=METIS_AGENT_ID, human_id=human_id, limit=limit)


@never_raises(bool)
def store_user_preferences(human_id: str, preferences: Json) -> bool:
    """Remember the user's preferences in place of the earlier ones; True when they are stored."""
    return _store(
        human_id,
        lambda client: client.create_archival_memory(
            agent_id=METIS_AGENT_ID,
            human_id=human_id,
            data=preferences,
            kind=PREFERENCES,
            replace=True,
        ),
    )


@never_raises(dict)
def get_user_preferences(human_id: str) -> Json:
    """The user's preferences; empty when none are known."""
    client = get_mem0_client()
    if client is None:
        return {}
    records = client.get_archival_memory(
        agent_id=METIS_AGENT_ID, human_id=human_id, kind=PREFERENCES, limit=1
    )
    return dict(records[0]["data"]) if records else {}


@never_raises(bool)
def store_document_interaction(
    human_id: str, document_id: str, interaction_type: str, data: Json
) -> bool:
    """Remember what the user did with a document (``view``, ``cite``, ...); True when stored."""
    record = {"document_id": document_id, "interaction_type": interaction_type, "data": data}
    return _store(
        human_id,
        lambda client: client.create_archival_memory(
            agent_id=METIS_AGENT_ID, human_id=human_id, data=record, kind=INTERACTIONS
        ),
    )


@never_raises(list)
def get_document_interactions(
    human_id: str,
    document_id: str | None = None,
    interaction_type: str | None = None,
    limit: int = 10,
) -> list[Json]:
    """The newest interactions: ``{document_id, interaction_type, data, created_at}``.

    A filter looks through the newest ``INTERACTIONS_SEEN`` of the user's interactions.
    """
    client = get_mem0_client()
    if client is None:
        return []
    filtered = document_id is not None or interaction_type is not None
    records = client.get_archival_memory(
        agent_id=METIS_AGENT_ID,
        human_id=human_id,
        kind=INTERACTIONS,
        limit=max(limit, INTERACTIONS_SEEN) if filtered else limit,
    )
    found = [{**record["data"], "created_at": record.get("created_at")} for record in records]
    return [
        interaction
        for interaction in found
        if document_id in (None, interaction.get("document_id"))
        and interaction_type in (None, interaction.get("interaction_type"))
    ][:limit]


def _store(human_id: str, write: Callable[[EnhancedMem0Client], bool]) -> bool:
    """Do ``write`` for a human who exists."""
    client = get_mem0_client()
    if client is None or not get_or_create_human(human_id):
        return False
    if write(client):
        return True
    # Agent or human may have been deleted elsewhere while our cache still knew them. The refused
    # write has dropped them from it, so this tells; then they are made anew and it is done again.
    gone = client.get_agent(METIS_AGENT_ID) is None or client.get_human(human_id) is None
    return gone and _ensure_agent(client) and get_or_create_human(human_id) and write(client)


def _ensure_agent(client: EnhancedMem0Client) -> bool:
    if client.get_agent(METIS_AGENT_ID) is not None:
        return True
    return client.create_agent(agent_id=METIS_AGENT_ID, name=AGENT_NAME, persona=METIS_PERSONA)
