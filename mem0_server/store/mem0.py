"""Memories of mem0's own interface: records of the kind ``mem0``, and what was said around them.

As with mem0 itself, a user or an agent comes to be by being named.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from mem0_server.database import Connection, Database, Row
from mem0_server.errors import MemoryNotFoundError
from mem0_server.models import MEM0_KIND
from mem0_server.store.collections import Collection
from mem0_server.store.history import delete_and_note, note_added, note_updated
from mem0_server.store.infer import Talk, finish
from mem0_server.store.jobs import IndexRow, Scope, conditions, write_rows
from mem0_server.store.sql import count

CONTEXT_MESSAGES = 10

_ADD = """
WITH record AS (
    INSERT INTO archival (id, agent_id, human_id, run_id, kind, data)
    VALUES ($1, $2, $3, $4, 'mem0', $5::jsonb) RETURNING id, created_at
), job AS (
    INSERT INTO index_jobs (collection, record_id)
    SELECT c.name, record.id FROM index_collections c CROSS JOIN record WHERE c.name <> $6
)
SELECT created_at FROM record
"""
_COLUMNS = "id, agent_id, human_id, run_id, data::text AS data, created_at, updated_at"
_UPDATE = "UPDATE archival SET data = $2::jsonb, updated_at = $3 WHERE id = $1"
# A job that is being worked on loses its lease: what it embeds is the text of before.
_QUEUE_AGAIN = """
INSERT INTO index_jobs (collection, record_id) SELECT name, $1 FROM index_collections
ON CONFLICT (collection, record_id)
DO UPDATE SET lease = NULL, attempts = 0, not_before = now(), last_error = NULL
"""
_KEEP_LAST = """
DELETE FROM mem0_messages WHERE scope = $1 AND id <= (
    SELECT id FROM mem0_messages WHERE scope = $1 ORDER BY id DESC OFFSET $2 LIMIT 1
)
"""


@dataclass(frozen=True, slots=True)
class Memory:
    """One memory as it is stored."""

    id: UUID
    scope: Scope
    data: dict[str, Any]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class NewMemory:
    """One memory to store; ``row`` makes its row of the index where it is embedded already."""

    data: dict[str, Any]
    id: UUID
    vector: list[float] | None = None
    payload: dict[str, Any] | None = None


class Memories:
    """mem0's memories of users, agents and runs."""

    def __init__(self, database: Database) -> None:
        """Keep memories in ``database``."""
        self._database = database

    async def add(
        self,
        scope: Scope,
        memories: list[NewMemory],
        said: list[dict[str, Any]],
        collection: Collection | None,
        talk: Talk | None = None,
    ) -> bool:
        """Store memories and what was ``said``, in one transaction.

        Memories with a vector go into ``collection`` at once; the others are queued. When they
        are the facts of a ``talk`` its jobs are taken away; nothing is stored, and false
        returned, where these are gone already.
        """
        async with self._database.transaction("mem0_add") as connection:
            if talk is None:
                await _name(connection, scope)
            elif not await finish(connection, talk.human_id, talk.lease):
                return False
            rows = []
            for memory in memories:
                indexed = collection is not None and memory.vector is not None
                await connection.execute(
                    _ADD,
                    memory.id,
                    scope.agent_id,
                    scope.human_id,
                    scope.run_id,
                    json.dumps(memory.data),
                    collection.name if collection is not None and indexed else "",
                )
                if indexed:
                    rows.append(IndexRow(memory.id, memory.vector or [], memory.payload or {}))
            if collection is not None:
                await write_rows(connection, collection.name, rows)
            await note_added(connection, [memory.id for memory in memories])
            await _remember(connection, scope, said)
        return True

    async def last_said(self, scope: Scope) -> list[dict[str, Any]]:
        """What was said lately in ``scope``, oldest first."""
        async with self._database.use("mem0_context") as connection:
            rows = await connection.fetch(
                "SELECT role, content FROM mem0_messages WHERE scope = $1"
                " ORDER BY id DESC LIMIT $2",
                _scope_key(scope),
                CONTEXT_MESSAGES,
            )
        return [{**dict(row), "name": None} for row in reversed(rows)]

    async def newest(self, scope: Scope, limit: int) -> list[Memory]:
        """The newest ``limit`` memories of ``scope``, newest first."""
        where, given = conditions(scope, start=2)
        async with self._database.use("mem0_newest") as connection:
            rows = await connection.fetch(
                f"SELECT {_COLUMNS} FROM archival WHERE kind = 'mem0' AND {where}"  # noqa: S608 - column names
                " ORDER BY seq DESC LIMIT $1",
                limit,
                *given,
            )
        return [_memory(row) for row in rows]

    async def by_ids(self, ids: list[UUID]) -> dict[UUID, Memory]:
        """The memories of these ids that are there."""
        async with self._database.use("mem0_by_ids") as connection:
            rows = await connection.fetch(
                f"SELECT {_COLUMNS} FROM archival WHERE kind = 'mem0' AND id = ANY($1)",  # noqa: S608
                ids,
            )
        return {row["id"]: _memory(row) for row in rows}

    async def update(
        self, memory_id: UUID, text: str | None, metadata: dict[str, Any] | None
    ) -> None:
        """Change the memory's text, and add to its metadata; it is queued to be embedded anew.

        :raises MemoryNotFoundError: there is none of that id.
        """
        async with self._database.transaction("mem0_update") as connection:
            row = await connection.fetchrow(
                f"SELECT {_COLUMNS} FROM archival WHERE kind = 'mem0' AND id = $1"  # noqa: S608
                " FOR NO KEY UPDATE",
                memory_id,
            )
            if row is None:
                raise _unknown(memory_id)
            data = json.loads(row["data"])
            old = str(data.get("memory", ""))
            if text is not None:
                data["memory"] = text
            if metadata:
                data["metadata"] = {**(data.get("metadata") or {}), **metadata}
            now = datetime.now(UTC)
            await connection.execute(_UPDATE, memory_id, json.dumps(data), now)
            await connection.execute(_QUEUE_AGAIN, memory_id)
            await note_updated(connection, memory_id, old, now)

    async def delete(self, memory_id: UUID) -> None:
        """Delete one memory and its row of the index.

        :raises MemoryNotFoundError: there is none of that id.
        """
        async with self._database.transaction("mem0_delete") as connection:
            if not count(await delete_and_note(connection, "id = $1", memory_id)):
                raise _unknown(memory_id)

    async def delete_all(self, scope: Scope) -> int:
        """Forget the memories of ``scope`` and what was said there; returns how many went."""
        where, given = conditions(scope, start=1)
        async with self._database.long_transaction("mem0_delete_all") as connection:
            gone = await delete_and_note(connection, where, *given)
            await connection.execute(f"DELETE FROM mem0_messages WHERE {where}", *given)  # noqa: S608
        return count(gone)

    async def reset(self) -> None:
        """Forget all memories of mem0's interface, their history and what was said there."""
        async with self._database.long_transaction("mem0_reset") as connection:
            await connection.execute("DELETE FROM archival WHERE kind = $1", MEM0_KIND)
            await connection.execute("DELETE FROM mem0_history")
            await connection.execute("DELETE FROM mem0_messages")

    async def said_by(self, human_id: str) -> list[dict[str, Any]]:
        """What is held of a human's lately said messages, oldest first."""
        async with self._database.use("mem0_said") as connection:
            rows = await connection.fetch(
                "SELECT role, content, created_at FROM mem0_messages WHERE human_id = $1"
                " ORDER BY id",
                human_id,
            )
        return [dict(row) for row in rows]


def new_memory(data: dict[str, Any]) -> NewMemory:
    """A memory that is still to be embedded."""
    return NewMemory(data=data, id=uuid4())


def _memory(row: Row) -> Memory:
    scope = Scope(row["human_id"], row["agent_id"], row["run_id"])
    created = row["created_at"]
    return Memory(row["id"], scope, json.loads(row["data"]), created, row["updated_at"] or created)


def _unknown(memory_id: UUID) -> MemoryNotFoundError:
    return MemoryNotFoundError(f"memory {memory_id} does not exist", field="memory_id")


def _scope_key(scope: Scope) -> str:
    return json.dumps([scope.human_id, scope.agent_id, scope.run_id])


async def _name(connection: Connection, scope: Scope) -> None:
    """Make the human and the agent that are named, where they are not there yet."""
    if scope.human_id is not None:
        await connection.execute(
            "INSERT INTO humans (id) VALUES ($1) ON CONFLICT DO NOTHING", scope.human_id
        )
    if scope.agent_id is not None:
        await connection.execute(
            "INSERT INTO agents (id, name, persona) VALUES ($1, $1, '') ON CONFLICT DO NOTHING",
            scope.agent_id,
        )


async def _remember(connection: Connection, scope: Scope, said: list[dict[str, Any]]) -> None:
    if not said:
        return
    key = _scope_key(scope)
    await connection.executemany(
        "INSERT INTO mem0_messages (scope, human_id, role, content) VALUES ($1, $2, $3, $4)",
        [(key, scope.human_id, one["role"], one["content"]) for one in said],
    )
    await connection.execute(_KEEP_LAST, key, CONTEXT_MESSAGES)
