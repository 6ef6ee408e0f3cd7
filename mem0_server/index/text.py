"""What of a record is embedded, and how the record looks as a row of mem0ai's table. Pure."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from mem0_server.models import MEM0_KIND
from mem0_server.store.jobs import Job, Scope
from mem0_server.store.sql import quoted

# Enough for the embedding models in use, whose context is 512 to 8192 tokens.
MAX_CHARACTERS = 8_000
# Fields of a payload that are not free metadata.
RESERVED = frozenset(
    {
        "_kind",
        "actor_id",
        "agent_id",
        "attributed_to",
        "created_at",
        "data",
        "expiration_date",
        "hash",
        "id",
        "role",
        "run_id",
        "text_lemmatized",
        "updated_at",
        "user_id",
    }
)


def text_of(kind: str, data: dict[str, Any]) -> str:
    """The words of a record: for mem0's own the memory, else ``field: value`` lines."""
    if kind == MEM0_KIND:
        return str(data.get("memory", ""))[:MAX_CHARACTERS]
    return "\n".join(_lines(data, ""))[:MAX_CHARACTERS] or "{}"


def _lines(value: Any, path: str) -> list[str]:
    if isinstance(value, dict):
        return [
            line
            for key, item in value.items()
            for line in _lines(item, f"{path} {key}" if path else str(key))
        ]
    if isinstance(value, list):
        return [line for item in value for line in _lines(item, path)]
    if value is None or value == "":
        return []
    return [f"{path}: {value}" if path else str(value)]


def memory_data(memory: str, metadata: dict[str, Any] | None, **more: str | None) -> dict[str, Any]:
    """What is stored of a memory of mem0's; empty fields are left out."""
    data: dict[str, Any] = {"memory": memory}
    if metadata:
        data["metadata"] = metadata
    return {**data, **{name: value for name, value in more.items() if value}}


def collection_name(model: str, dimensions: int) -> str:
    """The table for ``model``; short enough for the names that are built from it."""
    slug = re.sub(r"[^a-z0-9]+", "_", model.lower()).strip("_")[:16]
    digest = hashlib.sha256(model.encode()).hexdigest()[:6]
    return f"index_{slug}_{digest}_{dimensions}"


def filters_of(scope: Scope, kind: str | None) -> dict[str, str]:
    """The filter that finds the rows of ``scope`` (and ``kind``) in mem0ai's search."""
    ids = {"user_id": scope.human_id, "agent_id": scope.agent_id, "run_id": scope.run_id}
    filters = {name: quoted(value) for name, value in ids.items() if value is not None}
    if kind is not None:
        filters["_kind"] = quoted(kind)
    return filters


def payload_of(job: Job, text: str, lemmas: str) -> dict[str, Any]:
    """The payload that mem0ai would have written itself; ``lemmas`` are its words for ranking."""
    payload: dict[str, Any] = {}
    if job.kind == MEM0_KIND:
        metadata = job.data.get("metadata") or {}
        payload = {name: value for name, value in metadata.items() if name not in RESERVED}
        if job.data.get("role"):
            payload["role"] = job.data["role"]
    return {
        **payload,
        **filters_of(job.scope, job.kind),
        "data": text,
        "hash": hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(),
        "text_lemmatized": lemmas,
        "created_at": job.created_at,
        "updated_at": job.created_at,
    }
