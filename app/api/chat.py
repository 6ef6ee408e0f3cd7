"""Chat: ask with or without streaming, conversations and their history."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, field_validator

from app.api.deps import AppParts, CurrentUser, uuid_or_not_found
from app.api.errors import as_app_error
from app.api.text import storable
from app.rag import conversations
from app.rag.engine import Done, Found, RAGEngine, Started, Step, Token

router = APIRouter(prefix="/chat", tags=["chat"])

MESSAGE_LIMIT = 16_000
"""Characters of one question."""
HEARTBEAT = 10.0
"""Seconds of silence after which a comment keeps proxies from closing the stream."""


class Question(BaseModel):
    """What a user asks."""

    message: str = Field(max_length=MESSAGE_LIMIT)
    conversation_id: str | None = None

    @field_validator("message")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        value = storable(value).strip()
        if not value:
            raise ValueError("must not be blank")
        return value


@router.post("/stream")
async def stream(question: Question, app: AppParts, user: CurrentUser) -> StreamingResponse:
    """Ask; the answer comes as server-sent events: start, sources, token..., done, or error."""
    steps = _steps(app.engine, user.id, question)
    # The first step is taken here: an unknown conversation is a 404, not an event.
    first = await anext(steps)
    return StreamingResponse(
        _events(first, steps),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.post("/query")
async def query(question: Question, app: AppParts, user: CurrentUser) -> dict[str, Any]:
    """Ask; the whole answer comes at once."""
    body: dict[str, Any] = {}
    async with aclosing(_steps(app.engine, user.id, question)) as steps:
        async for step in steps:
            if isinstance(step, Found):
                body |= _found(step)
            elif isinstance(step, Started):
                body |= _ids(step)
            elif isinstance(step, Done):
                body |= _done(step)
    return body


@router.get("/conversations")
async def listed(
    user: CurrentUser, limit: Annotated[int, Query(ge=1, le=500)] = 100
) -> dict[str, Any]:
    """The caller's conversations, the one last used first."""
    return {"conversations": await conversations.listed(user.id, limit)}


@router.get("/conversations/{conversation_id}/messages")
async def messages(
    conversation_id: str,
    user: CurrentUser,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
) -> dict[str, Any]:
    """The newest messages of a conversation, oldest first; ``next_cursor`` leads to older ones."""
    known = uuid_or_not_found(conversation_id, "conversation")
    return await conversations.messages(user.id, known, limit, cursor)


@router.delete("/conversations/{conversation_id}", status_code=204)
async def delete(conversation_id: str, user: CurrentUser) -> None:
    """Delete one of the caller's conversations."""
    await conversations.remove(user.id, uuid_or_not_found(conversation_id, "conversation"))


def _steps(engine: RAGEngine, user_id: str, question: Question) -> AsyncGenerator[Step, None]:
    conversation = question.conversation_id
    known = (
        uuid_or_not_found(conversation, "conversation", "conversation_id") if conversation else None
    )
    return engine.query(user_id, question.message, known)


async def _events(first: Step, steps: AsyncGenerator[Step, None]) -> AsyncIterator[str]:
    """The steps as server-sent events. Closing this closes the steps, which stops the model."""
    ids: dict[str, str] = {}
    async with aclosing(steps):
        step: Step | None = first
        try:
            while step is not None:
                if isinstance(step, Started):
                    ids = _ids(step)
                yield _event(step, ids)
                following = asyncio.ensure_future(anext(steps, None))
                try:
                    while not (await asyncio.wait([following], timeout=HEARTBEAT))[0]:
                        yield ": still thinking\n\n"
                    step = following.result()
                finally:
                    await _stopped(following)
        except Exception as error:  # noqa: BLE001 - it is told as an event: the 200 is sent
            known = as_app_error(error)
            yield _sse("error", {"code": known.code, "message": known.message})


async def _stopped(task: asyncio.Future[Step | None]) -> None:
    """Cancel a step that is under way, and wait until it has let go of the generator."""
    if not task.done():
        task.cancel()
        await asyncio.wait([task])


def _event(step: Step, ids: dict[str, str]) -> str:
    if isinstance(step, Started):
        return _sse("start", ids)
    if isinstance(step, Found):
        return _sse("sources", _found(step))
    if isinstance(step, Token):
        return _sse("token", {"text": step.text})
    return _sse("done", ids | _done(step))


def _ids(step: Started) -> dict[str, str]:
    return {
        "conversation_id": str(step.conversation_id),
        "message_id": str(step.message_id),
    }


def _found(step: Found) -> dict[str, Any]:
    return {
        "sources": [source.as_dict() for source in step.sources],
        "memory": step.memory.as_dict(),
        "model": step.model,
    }


def _done(step: Done) -> dict[str, Any]:
    return {"answer": step.answer, "citations": list(step.citations)}


def _sse(event: str, data: dict[str, Any]) -> str:
    return f"event: {event}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
