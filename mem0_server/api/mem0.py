"""mem0's own interface, in the request and answer shapes of its open-source server."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from mem0_server.api.errors import documented
from mem0_server.api.services import Parts
from mem0_server.errors import InvalidInputError, MemoryNotFoundError
from mem0_server.index.extraction import Fact, extract
from mem0_server.index.text import payload_of
from mem0_server.models import MEM0_KIND, Identifier, Object, Text
from mem0_server.store.jobs import Job, Scope
from mem0_server.store.mem0 import Memory, NewMemory, new_memory

router = APIRouter(tags=["mem0"])

MAX_MEMORIES = 1000


class Mem0Message(BaseModel):
    """One message in mem0's form."""

    model_config = ConfigDict(extra="ignore")

    role: Annotated[Text, Field(min_length=1, max_length=50, examples=["user"])]
    content: Annotated[Text, Field(examples=["I am a vegetarian."])]
    name: Annotated[Text | None, Field(max_length=200)] = None


class AddBody(BaseModel):
    """What mem0's ``add`` takes; fields of mem0 that mean nothing here are ignored."""

    model_config = ConfigDict(extra="ignore")

    messages: Mem0Message | list[Mem0Message] | Text
    user_id: Identifier | None = None
    agent_id: Identifier | None = None
    run_id: Identifier | None = None
    metadata: Object | None = None
    infer: Annotated[bool, Field(description="Keep the facts found, not the messages")] = True
    prompt: Annotated[Text | None, Field(description="Instructions for finding facts")] = None
    memory_type: str | None = None


class FindBody(BaseModel):
    """What mem0's ``search`` takes."""

    model_config = ConfigDict(extra="ignore")

    query: Text
    user_id: Identifier | None = None
    agent_id: Identifier | None = None
    run_id: Identifier | None = None
    filters: Object | None = None
    limit: Annotated[int, Field(ge=1, le=100, validation_alias=AliasChoices("top_k", "limit"))] = 20
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.1


class Mem0Memory(BaseModel):
    """A memory in mem0's form; fields that mem0 leaves out when they are empty are left out."""

    id: str
    memory: str
    hash: str | None = None
    metadata: dict[str, Any] | None = None
    score: float | None = None
    created_at: str | None = None
    updated_at: str | None = None
    user_id: str | None = None
    agent_id: str | None = None
    run_id: str | None = None
    actor_id: str | None = None
    role: str | None = None
    attributed_to: str | None = None


class Mem0Event(BaseModel):
    """What happened to one memory."""

    id: str
    memory: str
    event: str
    actor_id: str | None = None
    role: str | None = None


class Mem0Memories(BaseModel):
    """Memories under ``results``, as mem0 answers."""

    results: list[Mem0Memory]


class Mem0Events(BaseModel):
    """Events under ``results``, as mem0 answers."""

    results: list[Mem0Event]


class Mem0Done(BaseModel):
    """mem0's answer to a deletion."""

    message: str


@router.post("/memories", response_model_exclude_unset=True, responses=documented(503))
async def add(body: AddBody, parts: Parts) -> Mem0Events:
    """Store what the messages say: with ``infer`` the facts in them, else each message as it is."""
    scope = _scope(body.user_id, body.agent_id, body.run_id)
    if body.memory_type is not None:
        raise InvalidInputError(
            "memory_type is not supported here; leave it out", field="memory_type"
        )
    said = _messages(body)
    if body.infer:
        return await _infer(body, parts, scope, said)
    data = [
        _data(one["content"], body.metadata, role=one["role"], actor_id=one.get("name"))
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
    user_id: Annotated[Identifier | None, Query()] = None,
    agent_id: Annotated[Identifier | None, Query()] = None,
    run_id: Annotated[Identifier | None, Query()] = None,
    top_k: Annotated[int, Query(ge=1, le=MAX_MEMORIES)] = 20,
) -> Mem0Memories:
    """The newest memories, newest first."""
    found = await parts.memories.newest(_scope(user_id, agent_id, run_id), top_k)
    return Mem0Memories(results=[_shown(memory) for memory in found])


@router.get("/memories/{memory_id}", response_model_exclude_unset=True, responses=documented(404))
async def get_memory(memory_id: UUID, parts: Parts) -> Mem0Memory:
    """One memory."""
    found = await parts.memories.by_ids([memory_id])
    if memory_id not in found:
        raise MemoryNotFoundError(f"memory {memory_id} does not exist", field="memory_id")
    return _shown(found[memory_id])


@router.delete("/memories/{memory_id}", responses=documented(404, 503))
async def delete_memory(memory_id: UUID, parts: Parts) -> Mem0Done:
    """Delete one memory."""
    await parts.memories.delete(memory_id)
    return Mem0Done(message="Memory deleted successfully")


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


async def _infer(
    body: AddBody, parts: Parts, scope: Scope, said: list[dict[str, Any]]
) -> Mem0Events:
    """Find the facts, then store them, their vectors and what was said in one transaction."""
    collection = await parts.indexer.open()
    last = await parts.memories.last_said(scope)
    facts = await extract(parts.library, parts.settings, said, last, scope, body.prompt)
    memories = [await _embedded(parts, scope, fact, body.metadata) for fact in facts]
    await parts.memories.add(scope, memories, said, collection)
    events = [Mem0Event(id=str(fact.record_id), memory=fact.text, event="ADD") for fact in facts]
    return Mem0Events(results=events)


async def _embedded(
    parts: Parts, scope: Scope, fact: Fact, metadata: dict[str, Any] | None
) -> NewMemory:
    data = _data(fact.text, metadata, attributed_to=fact.attributed_to)
    job = Job(fact.record_id, scope, MEM0_KIND, data, "")
    lemmas = await parts.library.lemmas([fact.text])
    return NewMemory(data, fact.record_id, fact.vector, payload_of(job, fact.text, lemmas[0]))


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


def _data(memory: str, metadata: dict[str, Any] | None, **more: str | None) -> dict[str, Any]:
    """What is stored of a memory; empty fields are left out."""
    data: dict[str, Any] = {"memory": memory}
    if metadata:
        data["metadata"] = metadata
    return {**data, **{name: value for name, value in more.items() if value}}


def _shown(memory: Memory, score: float | None = None) -> Mem0Memory:
    text = memory.data.get("memory", "")
    created = memory.created_at.isoformat()
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
        created_at=created,
        updated_at=created,
        **{name: value for name, value in optional.items() if value is not None},
    )
