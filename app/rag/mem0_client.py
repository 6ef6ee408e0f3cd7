"""Long-term memory for the app: the cached client of the Mem0 server and what the app asks of it.

Nothing here raises at its caller. A failure is logged with its cause, counted, and gives ``None``,
``False`` or an empty list or dict; what users say is never logged. Everything is synchronous and
thread-safe; on an event loop reads go through :func:`app.rag.unblocked.unblocked`, writes through
a thread. No database is needed; with one, :func:`app.rag.mem0_upkeep.upkeep` keeps the caches of
all replicas coherent, and what Mem0 does not take now waits in the outbox.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from app.core.config import SETTINGS
from app.core.trust import trust
from app.rag import backlog, mem0_metrics
from app.rag.mem0_cached import CachedMem0Client
from app.rag.mem0_caches import MemoryCaches, limits_from, positive
from app.rag.mem0_guard import never_raises, nothing
from app.rag.mem0_keys import MountedKeys
from app.rag.notes import (
    INTERACTIONS,
    PREFERENCES,
    Note,
    Row,
    arguments,
    interaction_note,
    message_note,
)

if TYPE_CHECKING:
    from app.rag.outbox_sync import SyncOutbox

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

INTERACTIONS_SEEN = 200  # how many a filtered list looks through: the server filters by kind only

Json = dict[str, Any]


class EnhancedMem0Client(CachedMem0Client):
    """The cached client of one Mem0 server, as ``SETTINGS`` say."""

    def __init__(self, api_key: str | None = None, endpoint: str = "http://localhost:8050") -> None:
        """Make a client of the server at ``endpoint``; nothing is sent yet.

        Without ``api_key`` the key is ``SETTINGS.mem0_api_key`` or, where that is not set either,
        what the directory ``SETTINGS.mem0_api_key_dir`` holds, followed as it changes.
        """
        self.endpoint = endpoint
        key = api_key or SETTINGS.mem0_api_key
        timeout = positive(SETTINGS, "mem0_timeout", 5.0)
        trusted = trust(SETTINGS) if getattr(SETTINGS, "tls_ca_dir", None) else None
        if SETTINGS.mem0_api_key_dir and not key:
            keys = MountedKeys(Path(SETTINGS.mem0_api_key_dir))
            client = Mem0Client(endpoint=endpoint, keys=keys, timeout=timeout, trusted=trusted)
        else:
            client = Mem0Client(api_key=key, endpoint=endpoint, timeout=timeout, trusted=trusted)
        super().__init__(client, MemoryCaches(limits_from(SETTINGS)))


_mem0_client: EnhancedMem0Client | None = None
_singleton_lock = threading.Lock()
mem0_metrics.publish(lambda: {} if _mem0_client is None else _mem0_client.stats())


@never_raises(nothing)
def get_mem0_client() -> EnhancedMem0Client | None:
    """The process's client, or ``None`` when memory is switched off or cannot be had.

    The Metis agent is made where it is missing; while Mem0 is away, the next call tries again.
    """
    client = shared_client()
    if client is not None:
        _ensure_agent(client)
    return client


def shared_client() -> EnhancedMem0Client | None:
    """As :func:`get_mem0_client`, but sends nothing; raises when it cannot be made."""
    global _mem0_client
    if not SETTINGS.use_mem0 or not MEM0_AVAILABLE:
        return None
    with _singleton_lock:
        if _mem0_client is None:
            _mem0_client = EnhancedMem0Client(
                api_key=SETTINGS.mem0_api_key, endpoint=SETTINGS.mem0_endpoint
            )
        return _mem0_client


def memory_status() -> Literal["ok", "degraded", "off"]:
    """``off`` when switched off, ``degraded`` while Mem0 does not serve us, else ``ok``."""
    client = get_mem0_client()
    if client is None:
        return "off"
    return "degraded" if client.degraded else "ok"


@never_raises(bool)
def is_left_alone() -> bool:
    """Whether Mem0 is not asked at present, because it does not answer; sends nothing."""
    client = shared_client()
    return client is not None and client.client.breaker.is_open


@never_raises(nothing)
def leave_alone() -> None:
    """Do not ask Mem0 until it says that it serves: it was seen not to answer."""
    client = shared_client()
    if client is not None:
        client.client.breaker.unreachable()


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
    """Remember one message of the user's conversation; True when it is stored or queued."""
    return _store(human_id, message_note(role, content))


@never_raises(list)
def get_conversation_history(
    human_id: str, limit: int = 10, *, queued: Sequence[Row] | None = None
) -> list[Json]:
    """The user's newest ``limit`` messages over all conversations, oldest first.

    ``queued`` are the human's rows of the outbox where the caller has read them already, here and
    below.
    """
    client = get_mem0_client()
    if client is None:
        return []
    rows = _rows(human_id) if queued is None else queued  # first: what leaves there arrives here
    known = client.get_recall_memory(agent_id=METIS_AGENT_ID, human_id=human_id, limit=limit)
    return backlog.history(known, rows, limit) if rows else known


@never_raises(bool)
def store_user_preferences(human_id: str, preferences: Json) -> bool:
    """Remember the user's preferences in place of the earlier ones; True when stored or queued."""
    return _store(human_id, Note("preferences", preferences))


@never_raises(dict)
def get_user_preferences(human_id: str, *, queued: Sequence[Row] | None = None) -> Json:
    """The user's preferences; empty when none are known."""
    client = get_mem0_client()
    if client is None:
        return {}
    rows = _rows(human_id) if queued is None else queued
    records = client.get_archival_memory(
        agent_id=METIS_AGENT_ID, human_id=human_id, kind=PREFERENCES, limit=1
    )
    return backlog.preferences(records[0]["data"] if records else {}, rows)


@never_raises(bool)
def store_document_interaction(
    human_id: str, document_id: str, interaction_type: str, data: Json
) -> bool:
    """Remember what the user did with a document (``view``, ``cite``, ...).

    True when it is stored or queued.
    """
    return _store(human_id, interaction_note(document_id, interaction_type, data))


@never_raises(list)
def get_document_interactions(
    human_id: str,
    document_id: str | None = None,
    interaction_type: str | None = None,
    limit: int = 10,
    *,
    queued: Sequence[Row] | None = None,
) -> list[Json]:
    """The newest interactions: ``{document_id, interaction_type, data, created_at}``.

    A filter looks through the newest ``INTERACTIONS_SEEN`` of the user's interactions.
    """
    client = get_mem0_client()
    if client is None:
        return []
    rows = _rows(human_id) if queued is None else queued
    filtered = document_id is not None or interaction_type is not None
    wide = max(limit, INTERACTIONS_SEEN) if filtered else limit
    records = client.get_archival_memory(
        agent_id=METIS_AGENT_ID, human_id=human_id, kind=INTERACTIONS, limit=wide
    )
    if rows:
        records = backlog.interactions(records, rows, wide)
    found = [{**record["data"], "created_at": record.get("created_at")} for record in records]
    return [
        interaction
        for interaction in found
        if document_id in (None, interaction.get("document_id"))
        and interaction_type in (None, interaction.get("interaction_type"))
    ][:limit]


def _store(human_id: str, note: Note) -> bool:
    """Tell Mem0 directly; the outbox where that fails, or while earlier notes are still there."""
    client = get_mem0_client()
    if client is None:
        return False
    queue = _outbox()
    if queue is None:
        return _tell(client, human_id, note)
    if not queue.read(human_id) and _tell(client, human_id, note, idempotency_key=str(note.key)):
        return True
    return queue.write(human_id, [note])


def _tell(client: EnhancedMem0Client, human_id: str, note: Note, **key: str) -> bool:
    """Tell Mem0 of a human who exists."""
    write = client.append_message if note.kind == "message" else client.create_archival_memory
    told = arguments(METIS_AGENT_ID, human_id, note.kind, note.body) | key
    if not get_or_create_human(human_id):
        return False
    if write(**told):
        return True
    # Agent or human may have been deleted elsewhere while our cache still knew them. The refused
    # write has dropped them from it, so this tells; then they are made anew and it is done again.
    gone = client.get_agent(METIS_AGENT_ID) is None or client.get_human(human_id) is None
    return gone and _ensure_agent(client) and get_or_create_human(human_id) and write(**told)


def _rows(human_id: str) -> list[Row]:
    """The human's rows in the outbox, where a database is configured."""
    queue = _outbox()
    return [] if queue is None else queue.read(human_id)


def _outbox() -> SyncOutbox | None:
    """The outbox of the configured database, or ``None`` where nobody configured one."""
    if getattr(SETTINGS, "database_configured", False) is not True:
        return None
    from app.rag import outbox_sync  # who has no database needs no driver

    return outbox_sync.outbox_of(SETTINGS)


def _ensure_agent(client: EnhancedMem0Client) -> bool:
    return client.get_agent(METIS_AGENT_ID) is not None or make_agent(client)


def make_agent(client: EnhancedMem0Client) -> bool:
    """Make the Metis agent, or put its persona right; True when it is done."""
    return client.create_agent(agent_id=METIS_AGENT_ID, name=AGENT_NAME, persona=METIS_PERSONA)
