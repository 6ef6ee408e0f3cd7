"""The conversation of one agent with one human: append-only, ordered by a database sequence."""

from __future__ import annotations

from mem0_server.database import Database
from mem0_server.errors import IdempotencyConflictError
from mem0_server.models import Message
from mem0_server.store.people import require_both
from mem0_server.store.sql import known

# Without a key the index has no entry to conflict with, so one statement serves both cases.
_APPEND = """
INSERT INTO recall (agent_id, human_id, role, content, idempotency_key)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (human_id, agent_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING id, role, content, idempotency_key, created_at
"""
# The same, and in the same statement the note that facts are to be found in it.
_APPEND_AND_INFER = f"""
WITH message AS ({_APPEND}), job AS (
    INSERT INTO infer_jobs (message_id, agent_id, human_id) SELECT id, $1, $2 FROM message
)
SELECT id, role, content, idempotency_key, created_at FROM message
"""  # noqa: S608 - our own text
_APPENDED = """
SELECT id, role, content, idempotency_key, created_at FROM recall
WHERE agent_id = $1 AND human_id = $2 AND idempotency_key = $3
"""
# As a range of one index: asked for by equality, the planner may walk all conversations backwards
# by id instead, which never ends for a human who has long been silent.
_NEWEST = """
SELECT id, role, content, idempotency_key, created_at FROM recall
WHERE (human_id, agent_id, id) < ($2, $1, $3) AND (human_id, agent_id, id) > ($2, $1, 0)
ORDER BY human_id DESC, agent_id DESC, id DESC LIMIT $4
"""
# In the order of an index, conversation by conversation.
_PAGE = """
SELECT id, agent_id, role, content, created_at FROM recall
WHERE human_id = $1 AND (agent_id, id) > ($2, $3) ORDER BY agent_id, id LIMIT $4
"""
LAST = 2**63 - 1


class Recall:
    """Everything said, in the order in which it was stored."""

    def __init__(self, database: Database) -> None:
        """Keep messages in ``database``."""
        self._database = database

    async def append(
        self,
        agent_id: str,
        human_id: str,
        role: str,
        content: str,
        key: str | None = None,
        *,
        infer: bool = False,
    ) -> tuple[Message, bool]:
        """Store one message; returns it and whether it is new.

        ``infer`` queues it for the finding of facts. The same idempotency ``key`` again stores
        nothing and returns the message that is there.

        :raises AgentNotFoundError: or
        :raises HumanNotFoundError: one of them does not exist; nothing is created.
        :raises IdempotencyConflictError: the key stands for another message.
        """
        statement = _APPEND_AND_INFER if infer else _APPEND
        async with self._database.use("recall_append") as connection:
            with known(agent_id, human_id):
                row = await connection.fetchrow(statement, agent_id, human_id, role, content, key)
            new = row is not None
            if row is None:
                row = await connection.fetchrow(_APPENDED, agent_id, human_id, key)
        if row is None or (row["role"], row["content"]) != (role, content):
            raise IdempotencyConflictError(
                "this Idempotency-Key was used for another message of this conversation; nothing "
                "was stored; use a new key",
                field="Idempotency-Key",
            )
        return Message.model_construct(**dict(row)), new

    async def newest(
        self, agent_id: str, human_id: str, limit: int, before: int | None = None
    ) -> list[Message]:
        """The newest ``limit`` messages (older than id ``before``), oldest first.

        :raises AgentNotFoundError: or
        :raises HumanNotFoundError: one of them does not exist.
        """
        async with self._database.use("recall_newest") as connection:
            rows = await connection.fetch(
                _NEWEST, agent_id, human_id, LAST if before is None else before, limit
            )
            if not rows:
                await require_both(connection, agent_id, human_id)
        return [Message.model_construct(**dict(row)) for row in reversed(rows)]

    async def before(
        self, agent_id: str, human_id: str, message_id: int, limit: int
    ) -> list[dict[str, object]]:
        """``limit`` messages before the one of that id as mem0ai reads them, oldest first."""
        async with self._database.use("recall_before") as connection:
            rows = await connection.fetch(_NEWEST, agent_id, human_id, message_id, limit)
        return [
            {"role": row["role"], "content": row["content"], "name": None} for row in reversed(rows)
        ]

    async def page(
        self, human_id: str, after: tuple[str, int], limit: int
    ) -> list[dict[str, object]]:
        """``limit`` messages of the human, agent by agent and oldest first.

        ``after``: agent and id of the last message seen; ``("", 0)`` at first.
        """
        async with self._database.use("recall_page") as connection:
            return [dict(row) for row in await connection.fetch(_PAGE, human_id, *after, limit)]
