"""Conversations and their messages in metis-postgres; each belongs to one user."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import Conversation, Message
from app.db.session import AsyncSessionLocal, driver
from app.errors import BadInputError, NotFoundError
from app.rag import outbox
from app.rag.notes import Note, Row, message_note
from app.rag.outbox import as_json
from app.rag.prompt import shortened
from app.rag.types import Source, Turn

TITLE_LENGTH = 80


# Each is one statement: a question or an answer, its conversation and what memory is to learn of it
# are written by one round trip and one commit.
_ASK = f"""
WITH {outbox.LOCK}, begun AS ({{begin}}), said AS (
    INSERT INTO messages (id, conversation_id, role, content, sources)
    SELECT $3::uuid, id, 'user', $4::text, '[]' FROM begun
), noted AS ({outbox.ADD.format(source="begun", notes="$5")}), earlier AS (
    SELECT role, content, seq FROM messages WHERE conversation_id = $2::uuid
    ORDER BY seq DESC LIMIT $6::int
)
SELECT (SELECT id FROM begun) AS id,
       (SELECT json_agg(json_build_array(role, content) ORDER BY seq)::text FROM earlier)
           AS earlier,
       ({outbox.READ_ALL}) AS waiting
"""
_ASK_FIRST = _ASK.format(
    begin="""INSERT INTO conversations (id, user_id, title)
    SELECT $2::uuid, $1::text, $7::text FROM turn RETURNING id"""
)
_ASK_NEXT = _ASK.format(
    begin="""UPDATE conversations SET updated_at = clock_timestamp() FROM turn
    WHERE conversations.id = $2::uuid AND user_id = $1 RETURNING conversations.id"""
)
_ANSWER = f"""
WITH {outbox.LOCK}, begun AS (
    UPDATE conversations SET updated_at = clock_timestamp() FROM turn
    WHERE conversations.id = $2::uuid AND user_id = $1 RETURNING conversations.id
), said AS (
    INSERT INTO messages (id, conversation_id, role, content, sources)
    SELECT $3::uuid, id, 'assistant', $4::text, $5::jsonb FROM begun
)
{outbox.ADD.format(source="begun", notes="$6")}
"""


@dataclass(frozen=True)
class Begun:
    """A conversation in which a user has just asked something, under the id ``question_id``."""

    id: UUID
    question_id: UUID
    earlier: Sequence[Turn]
    waiting: Sequence[Row]


async def ask(
    user_id: str, conversation_id: UUID | None, question: str, earlier: int, *, remember: bool
) -> Begun:
    """Store a question, in a new conversation when none is given; for memory too if ``remember``.

    Gives up to ``earlier`` messages from before it, oldest first, and what memory has yet to
    learn of the user. Raises NotFoundError for a conversation that is not this user's.
    """
    asked_in, question_id = conversation_id or uuid4(), uuid4()
    notes = [message_note("user", question, question_id)] if remember else []
    arguments = [
        user_id,
        conversation_id or uuid4(),
        question_id,
        question,
        as_json(notes),
        earlier,
    ]
    statement = _ASK_NEXT
    if conversation_id is None:
        statement = _ASK_FIRST
        arguments.append(shortened(" ".join(question.split()), TITLE_LENGTH))
    async with driver() as connection:
        row = await connection.fetchrow(statement, *arguments)
    if row["id"] is None:
        raise _not_yours(asked_in)
    turns = [Turn(role, content) for role, content in json.loads(row["earlier"] or "[]")]
    return Begun(row["id"], question_id, turns, outbox.rows_of(row["waiting"]))


async def answer(
    user_id: str,
    conversation_id: UUID,
    message_id: UUID,
    content: str,
    sources: Sequence[Source],
    notes: Sequence[Note],
) -> None:
    """Store an answer with its sources, and what memory is to learn of it.

    Does nothing when the conversation was deleted.
    """
    shown = json.dumps([source.as_dict() for source in sources], ensure_ascii=False)
    async with driver() as connection:
        await connection.execute(
            _ANSWER, user_id, conversation_id, message_id, content, shown, as_json(notes)
        )


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
        raise _not_yours(conversation_id)


def _not_yours(conversation_id: UUID) -> NotFoundError:
    return NotFoundError(
        f"there is no conversation {conversation_id} of yours; start a new one",
        field="conversation_id",
    )
