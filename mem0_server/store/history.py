"""What became of each memory of mem0's interface: added, updated, deleted.

The rows are written in the transaction of the change they tell of. A deletion leaves the events
but takes the words out of them, so that nothing that was to be forgotten outlives it here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from mem0_server.database import Connection, Database

_ADDED = """
INSERT INTO mem0_history (memory_id, agent_id, human_id, run_id, event, new_memory, actor_id, role,
                          created_at, updated_at)
SELECT id, agent_id, human_id, run_id, 'ADD', data->>'memory', data->>'actor_id', data->>'role',
       created_at, created_at
FROM archival WHERE id = ANY($1) ORDER BY seq
"""
_UPDATED = """
INSERT INTO mem0_history (memory_id, agent_id, human_id, run_id, event, old_memory, new_memory,
                          actor_id, role, created_at, updated_at)
SELECT id, agent_id, human_id, run_id, 'UPDATE', $2, data->>'memory', data->>'actor_id',
       data->>'role', created_at, $3
FROM archival WHERE id = $1
"""
# Completed with the condition that says which memories are to go.
_DELETE = """
WITH gone AS (
    DELETE FROM archival WHERE kind = 'mem0' AND {condition}
    RETURNING id, agent_id, human_id, run_id, data, created_at
), unsaid AS (
    UPDATE mem0_history h SET old_memory = NULL, new_memory = NULL
    FROM gone WHERE h.memory_id = gone.id
)
INSERT INTO mem0_history (memory_id, agent_id, human_id, run_id, event, actor_id, role,
                          created_at, updated_at)
SELECT id, agent_id, human_id, run_id, 'DELETE', data->>'actor_id', data->>'role', created_at,
       clock_timestamp()
FROM gone
"""
_OF_MEMORY = """
SELECT id, memory_id, old_memory, new_memory, event, created_at, updated_at, actor_id, role
FROM mem0_history WHERE memory_id = $1 ORDER BY seq
"""
_PAGE = """
SELECT seq, memory_id, agent_id, run_id, event, old_memory, new_memory, actor_id, role, updated_at
FROM mem0_history WHERE human_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
"""


class History:
    """Reads what the other stores note."""

    def __init__(self, database: Database) -> None:
        """Read from ``database``."""
        self._database = database

    async def of_memory(self, memory_id: UUID) -> list[dict[str, Any]]:
        """The events of one memory, oldest first; none for one that never was."""
        async with self._database.use("history_read") as connection:
            return [dict(row) for row in await connection.fetch(_OF_MEMORY, memory_id)]

    async def page(self, human_id: str, after: int, limit: int) -> list[dict[str, Any]]:
        """``limit`` events of the human's memories, oldest first, from ``after`` on."""
        async with self._database.use("history_page") as connection:
            return [dict(row) for row in await connection.fetch(_PAGE, human_id, after, limit)]


async def note_added(connection: Connection, memory_ids: list[UUID]) -> None:
    """Note that these memories were added."""
    if memory_ids:
        await connection.execute(_ADDED, memory_ids)


async def note_updated(connection: Connection, memory_id: UUID, old: str, at: datetime) -> None:
    """Note that the memory, ``old`` before, was changed ``at`` that time."""
    await connection.execute(_UPDATED, memory_id, old, at)


async def delete_and_note(connection: Connection, condition: str, *arguments: object) -> str:
    """Delete the memories that ``condition`` (SQL over ``archival``) names; returns the tag."""
    return await connection.execute(_DELETE.format(condition=condition), *arguments)
