"""Conversations and their messages in metis-postgres; each belongs to one user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import Conversation, Message
from app.db.session import AsyncSessionLocal
from app.errors import BadInputError, NotFoundError
from app.rag.prompt import shortened
from app.rag.types import Source, Turn

TITLE_LENGTH = 80


@dataclass(frozen=True)
class Begun:
    """A conversation in which a user has just asked something."""

    id: UUID
    earlier: Sequence[Turn]


async def ask(user_id: str, conversation_id: UUID | None, question: str, earlier: int) -> Begun:
    """Store a question, in a new conversation when none is given.

    Gives up to ``earlier`` messages from before it, oldest first. Raises NotFoundError for a
    conversation that is not this user's.
    """
    async with AsyncSessionLocal.begin() as session:
        turns: list[Turn] = []
        if conversation_id is None:
            title = shortened(" ".join(question.split()), TITLE_LENGTH)
            conversation = Conversation(user_id=user_id, title=title)
            session.add(conversation)
            await session.flush()
            conversation_id = conversation.id
        else:
            await _own(session, user_id, conversation_id)
            newest = (
                select(Message)
                .where(Message.conversation_id == conversation_id)
                .order_by(Message.seq.desc())
                .limit(earlier)
            )
            turns = [Turn(m.role, m.content) for m in await session.scalars(newest)][::-1]
        session.add(
            Message(conversation_id=conversation_id, role="user", content=question, sources=[])
        )
        await _touch(session, conversation_id)
    return Begun(conversation_id, turns)


async def answer(
    conversation_id: UUID, message_id: UUID, content: str, sources: Sequence[Source]
) -> None:
    """Store an answer with its sources; does nothing when the conversation was deleted."""
    async with AsyncSessionLocal.begin() as session:
        if await session.get(Conversation, conversation_id, with_for_update=True) is None:
            return
        session.add(
            Message(
                id=message_id,
                conversation_id=conversation_id,
                role="assistant",
                content=content,
                sources=[source.as_dict() for source in sources],
            )
        )
        await _touch(session, conversation_id)


async def listed(user_id: str, limit: int) -> list[dict[str, Any]]:
    """The user's conversations, the one last used first."""
    newest = (
        select(Conversation)
        .where(Conversation.user_id == user_id)
        .order_by(Conversation.updated_at.desc(), Conversation.id)
        .limit(limit)
    )
    async with AsyncSessionLocal() as session:
        return [
            {
                "id": str(c.id),
                "title": c.title,
                "created_at": c.created_at.isoformat(),
                "updated_at": c.updated_at.isoformat(),
            }
            for c in await session.scalars(newest)
        ]


async def messages(
    user_id: str, conversation_id: UUID, limit: int, cursor: str | None
) -> dict[str, Any]:
    """A page of a conversation: the newest messages, oldest first, and a cursor to older ones."""
    page = select(Message).where(Message.conversation_id == conversation_id)
    if cursor is not None:
        if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
            raise BadInputError("this cursor is none that was given out", field="cursor")
        page = page.where(Message.seq < int(cursor))
    async with AsyncSessionLocal() as session:
        await _own(session, user_id, conversation_id)
        rows = list(await session.scalars(page.order_by(Message.seq.desc()).limit(limit + 1)))
    more, rows = len(rows) > limit, rows[:limit]
    return {
        "messages": [
            {
                "id": str(m.id),
                "role": m.role,
                "content": m.content,
                "sources": m.sources,
                "created_at": m.created_at.isoformat(),
            }
            for m in reversed(rows)
        ],
        "next_cursor": str(rows[-1].seq) if more else None,
    }


async def remove(user_id: str, conversation_id: UUID) -> None:
    """Delete a conversation of the user with its messages; raises NotFoundError."""
    async with AsyncSessionLocal.begin() as session:
        await _own(session, user_id, conversation_id)
        await session.execute(delete(Conversation).where(Conversation.id == conversation_id))


async def _own(session: AsyncSession, user_id: str, conversation_id: UUID) -> None:
    owner = await session.scalar(
        select(Conversation.user_id).where(Conversation.id == conversation_id)
    )
    if owner != user_id:  # somebody else's looks like none at all
        raise NotFoundError(
            f"there is no conversation {conversation_id} of yours; start a new one",
            field="conversation_id",
        )


async def _touch(session: AsyncSession, conversation_id: UUID) -> None:
    await session.execute(
        update(Conversation)
        .where(Conversation.id == conversation_id)
        .values(updated_at=func.clock_timestamp())
    )
