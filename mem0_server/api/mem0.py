"""mem0's own interface, in the request and answer shapes of its open-source server."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query

from mem0_server.api.errors import documented
from mem0_server.api.mem0_models import (
    AddBody,
    ChangeBody,
    FindBody,
    Mem0Change,
    Mem0Done,
    Mem0Event,
    Mem0Events,
    Mem0Memories,
    Mem0Memory,
)
from mem0_server.api.services import Parts
from mem0_server.errors import InvalidInputError, MemoryNotFoundError
from mem0_server.index.text import memory_data
from mem0_server.models import MEM0_KIND, Identifier
from mem0_server.store.jobs import Scope
from mem0_server.store.mem0 import Memory, new_memory

router = APIRouter(tags=["mem0"])

MAX_MEMORIES = 1000

Id = Annotated[Identifier | None, Query()]


@router.post("/memories", response_model_exclude_unset=True, responses=documented(503))
async def add(body: AddBody, parts: Parts) -> Mem0Events:
    """Store what the messages say: with ``infer`` the facts in them, else each message as it is."""
    scope = _scope(body.user_id, body.agent_id, body.run_id)
    for name in ("memory_type", "expiration_date"):
        if getattr(body, name) is not None:  # better refused than not kept
            raise InvalidInputError(f"{name} is not supported here; leave it out", field=name)
    said = _messages(body)
    if body.infer:
        found = await parts.inference.infer(scope, said, body.metadata, body.prompt)
        return Mem0Events(
            results=[
                Mem0Event(id=str(one.id), memory=one.data["memory"], event="ADD") for one in found
            ]
        )
    data = [
        memory_data(one["content"], body.metadata, role=one["role"], actor_id=one.get("name"))
        for one in said
        if one["role"] != "system"
    ]
    memories = [new_memory(one) for one in data]
    await parts.memories.add(scope, memories, [], None)
    parts.indexer.wake()
    events = [
        Mem0Event(
            id=str(memory.id),
            memory=memory.data["memory"],
            event="ADD",
            actor_id=memory.data.get("actor_id"),
            role=memory.data["role"],
        )
        for memory in memories
    ]
    return Mem0Events(results=events)


@router.get("/memories", response_model_exclude_unset=True, responses=documented(503))
async def list_memories(
    parts: Parts,
    user_id: Id = None,
    agent_id: Id = None,
    run_id: Id = None,
    top_k: Annotated[int, Query(ge=1, le=MAX_MEMORIES)] = 20,
) -> Mem0Memories:
    """The newest memories, newest first."""
    found = await parts.memories.newest(_scope(user_id, agent_id, run_id), top_k)
    return Mem0Memories(results=[_shown(memory) for memory in found])


@router.get(
    "/memories/{memory_id}", response_model_exclude_unset=True, responses=documented(404, 503)
)
async def get_memory(memory_id: UUID, parts: Parts) -> Mem0Memory:
    """One memory."""
    found = await parts.memories.by_ids([memory_id])
    if memory_id not in found:
        raise MemoryNotFoundError(f"memory {memory_id} does not exist", field="memory_id")
    return _shown(found[memory_id])


@router.put("/memories/{memory_id}", responses=documented(404, 503))
async def update_memory(memory_id: UUID, body: ChangeBody, parts: Parts) -> Mem0Done:
    """Change one memory's text, add to its metadata."""
    text = body.text if body.text is not None else body.data
    await parts.memories.update(memory_id, text, body.metadata)
    parts.indexer.wake()
    return Mem0Done(message="Memory updated successfully!")


@router.get("/memories/{memory_id}/history", responses=documented(503))
async def memory_history(memory_id: UUID, parts: Parts) -> list[Mem0Change]:
    """What became of one memory, oldest first; after a deletion without its words."""
    return [
        Mem0Change(**event, is_deleted=event["event"] == "DELETE")
        for event in await parts.history.of_memory(memory_id)
    ]


@router.delete("/memories/{memory_id}", responses=documented(404, 503))
async def delete_memory(memory_id: UUID, parts: Parts) -> Mem0Done:
    """Delete one memory."""
    await parts.memories.delete(memory_id)
    return Mem0Done(message="Memory deleted successfully")


@router.delete("/memories", responses=documented(503))
async def delete_memories(
    parts: Parts, user_id: Id = None, agent_id: Id = None, run_id: Id = None
) -> Mem0Done:
    """Delete the memories of a user, an agent or a run, and what was said there lately."""
    await parts.memories.delete_all(_scope(user_id, agent_id, run_id))
    return Mem0Done(message="All relevant memories deleted")


@router.post("/reset", responses=documented(503))
async def reset(parts: Parts) -> Mem0Done:
    """Delete every memory of this interface; recall and archival records stay."""
    await parts.memories.reset()
    return Mem0Done(message="All memories reset")


@router.post("/search", response_model_exclude_unset=True, responses=documented(503))
async def search(body: FindBody, parts: Parts) -> Mem0Memories:
    """The memories nearest in meaning to the query, nearest first; without one, the newest."""
    filters = dict(body.filters or {})
    ids = {
        name: given if given is not None else filters.get(name)
        for name, given in (
            ("user_id", body.user_id),
            ("agent_id", body.agent_id),
            ("run_id", body.run_id),
        )
    }
    for name, value in ids.items():
        filters.pop(name, None)
        if value is not None and not (isinstance(value, str) and value):
            raise InvalidInputError(f"{name} must be one id", field=f"filters.{name}")
    scope = _scope(ids["user_id"], ids["agent_id"], ids["run_id"])
    query = body.query.strip()
    if not query:
        newest = await parts.memories.newest(scope, body.limit)
        return Mem0Memories(results=[_shown(memory) for memory in newest])
    hits = await parts.indexer.search(
        query, scope, MEM0_KIND, body.limit, threshold=body.threshold, filters=filters
    )
    found = await parts.memories.by_ids([hit.record_id for hit in hits])
    return Mem0Memories(
        results=[_shown(found[hit.record_id], hit.score) for hit in hits if hit.record_id in found]
    )


def _messages(body: AddBody) -> list[dict[str, Any]]:
    given = body.messages
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    listed = given if isinstance(given, list) else [given]
    return [one.model_dump(exclude_none=True) for one in listed]


def _scope(user_id: str | None, agent_id: str | None, run_id: str | None) -> Scope:
    """Whose memories.

    :raises InvalidInputError: nobody is named.
    """
    if user_id is None and agent_id is None and run_id is None:
        raise InvalidInputError(
            "at least one of user_id, agent_id and run_id is needed", field="user_id"
        )
    return Scope(human_id=user_id, agent_id=agent_id, run_id=run_id)


def _shown(memory: Memory, score: float | None = None) -> Mem0Memory:
    text = memory.data.get("memory", "")
    optional = {
        "user_id": memory.scope.human_id,
        "agent_id": memory.scope.agent_id,
        "run_id": memory.scope.run_id,
        "actor_id": memory.data.get("actor_id"),
        "role": memory.data.get("role"),
        "attributed_to": memory.data.get("attributed_to"),
    }
    return Mem0Memory(
        id=str(memory.id),
        memory=text,
        hash=hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(),
        metadata=memory.data.get("metadata"),
        score=score,
        created_at=memory.created_at.isoformat(),
        updated_at=memory.updated_at.isoformat(),
        **{name: value for name, value in optional.items() if value is not None},
    )
