"""Who am I, which models are there, and which Mem0 key and database login this pod uses."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Header

from app.api.deps import AppParts, CurrentUser
from app.errors import NotFoundError, UnauthenticatedError
from app.rag import mem0_client
from app.rag.mem0_keys import recognises

router = APIRouter(tags=["status"])


@router.get("/me")
async def me(user: CurrentUser) -> dict[str, str]:
    """The user that the key names."""
    return {"user_id": user.id, "role": user.role}


@router.get("/models")
async def models(app: AppParts, user: CurrentUser) -> dict[str, Any]:
    """The chat models to choose from, and the default one."""
    chat, wanted = app.models.chat, app.settings.default_embedding_model
    embedding = {wanted, app.reindexing.indexed_with or wanted}
    found = [m for m in await chat.models() if not any(chat.lists(e, [m]) for e in embedding)]
    return {"default": app.settings.default_model, "models": found}


@router.get("/status/embedding")
async def embedding(app: AppParts) -> dict[str, Any]:
    """Which model the documents are indexed with, and how far an index beside it is.

    Open to everybody, as health is.
    """
    return await app.reindexing.status()


@router.get("/status/memory-key")
async def memory_key(x_api_key: Annotated[str | None, Header()] = None) -> dict[str, str]:
    """The fingerprint of the Mem0 key in use, for whoever holds a live Mem0 key."""
    memory = await asyncio.to_thread(mem0_client.shared_client)
    fingerprint = memory.client.key_fingerprint if memory else None
    if memory is None or fingerprint is None:
        raise NotFoundError("this app holds no Mem0 key", code="no_memory_key")
    if not x_api_key or not memory.client.recognises(x_api_key):
        raise UnauthenticatedError("this needs a live Mem0 key in the header X-API-Key")
    return {"fingerprint": fingerprint}


@router.get("/status/database")
async def database(
    app: AppParts, x_api_key: Annotated[str | None, Header()] = None
) -> dict[str, Any]:
    """Which login the connections use, for whoever holds a live Mem0 key: the operator does.

    ``fingerprint`` is that of :mod:`app.db.login`; ``former_connections`` are still open with
    an earlier login.
    """
    if not app.memory_keys.held():
        raise NotFoundError("this app holds no Mem0 key", code="no_memory_key")
    if not x_api_key or not recognises(app.memory_keys, x_api_key):
        raise UnauthenticatedError("this needs a live Mem0 key in the header X-API-Key")
    await app.login.follow(app.database)
    return {
        "fingerprint": app.login.current,
        "former_connections": app.login.former_connections,
    }
