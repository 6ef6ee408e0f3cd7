"""Records: the source of truth, of which the search index is a copy that can be rebuilt.

A write and the note that it is to be indexed are one transaction, so an acknowledged record is
never forgotten by the index.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any
from uuid import UUID, uuid4

from mem0_server.database import Connection, Database, Row
from mem0_server.errors import IdempotencyConflictError
from mem0_server.models import FoundRecord, Record
from mem0_server.store.people import require_both
from mem0_server.store.sql import known

# The table's lock comes before the statement's snapshot; together with the lock that
# registering a collection takes, no record falls between the two.
_ADD = """
WITH record AS (
    INSERT INTO archival (id, agent_id, human_id, kind, data)
    VALUES ($1, $2, $3, $4, $5::jsonb) RETURNING id, kind, data, created_at
), job AS (
    INSERT INTO index_jobs (collection, record_id)
    SELECT c.name, record.id FROM index_collections c CROSS JOIN record
)
SELECT id, kind, data::text AS data, created_at FROM record
"""
_CLEAR = "DELETE FROM archival WHERE agent_id = $1 AND human_id = $2 AND kind = $3"
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
_CLAIM_KEY = """
INSERT INTO archival_keys (agent_id, human_id, idempotency_key, digest, record_id)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING record_id
"""
_KEYED = """
SELECT digest, record_id, created_at FROM archival_keys
WHERE agent_id = $1 AND human_id = $2 AND idempotency_key = $3
"""
_NEWEST = """
SELECT id, kind, data::text AS data, created_at FROM archival
WHERE agent_id = $1 AND human_id = $2 ORDER BY seq DESC LIMIT $3
"""
_NEWEST_OF_KIND = """
SELECT id, kind, data::text AS data, created_at FROM archival
WHERE agent_id = $1 AND human_id = $2 AND kind = $4 ORDER BY seq DESC LIMIT $3
"""
_BY_ID = """
SELECT id, kind, data::text AS data, created_at FROM archival
WHERE agent_id = $1 AND human_id = $2 AND id = ANY($3)
"""
_PAGE = """
SELECT seq, id, agent_id, run_id, kind, data::text AS data, created_at, updated_at FROM archival
WHERE human_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
"""


class Archival:
    """What is kept about a human by an agent."""

    def __init__(self, database: Database) -> None:
        """Keep records in ``database``."""
        self._database = database

    async def add(
        self,
        agent_id: str,
        human_id: str,
        kind: str,
        data: dict[str, Any],
        *,
        replace: bool = False,
        key: str | None = None,
    ) -> tuple[Record, bool]:
        """Store a record; returns it and whether it is new.

        ``replace`` removes all other records of agent, human and kind in the same step: a reader
        sees those before or the one after, and of two at once one wins whole. The same
        idempotency ``key`` again changes nothing.

        :raises AgentNotFoundError: or
        :raises HumanNotFoundError: one of them does not exist; nothing is created.
        :raises IdempotencyConflictError: the key stands for another record.
        """
        text = json.dumps(data)
        record_id = uuid4()
        if not replace and key is None:
            async with self._database.use("archival_add") as connection:
                with known(agent_id, human_id):
                    return await _add(connection, record_id, agent_id, human_id, kind, text), True
        async with self._database.transaction("archival_put") as connection:
            with known(agent_id, human_id):
                if replace:
                    scope = json.dumps([agent_id, human_id, kind])
                    await connection.execute(_LOCK, scope)
                if key is not None:
                    digest = _digest(kind, data, replace)
                    claim = (agent_id, human_id, key, digest, record_id)
                    if await connection.fetchrow(_CLAIM_KEY, *claim) is None:
                        row = await connection.fetchrow(_KEYED, agent_id, human_id, key)
                        return _repeated(row, digest, kind, data), False
                if replace:
                    await connection.execute(_CLEAR, agent_id, human_id, kind)
                return await _add(connection, record_id, agent_id, human_id, kind, text), True

    async def newest(
        self, agent_id: str, human_id: str, kind: str | None, limit: int
    ) -> list[Record]:
        """The newest ``limit`` records (of ``kind``), newest first.

        :raises AgentNotFoundError: or
        :raises HumanNotFoundError: one of them does not exist.
        """
        async with self._database.use("archival_newest") as connection:
            if kind is None:
                rows = await connection.fetch(_NEWEST, agent_id, human_id, limit)
            else:
                rows = await connection.fetch(_NEWEST_OF_KIND, agent_id, human_id, limit, kind)
            if not rows:
                await require_both(connection, agent_id, human_id)
        return [record_of(row) for row in rows]

    async def found(
        self, agent_id: str, human_id: str, scores: dict[UUID, float]
    ) -> list[FoundRecord]:
        """The records of these ids that are there, in the order of ``scores``."""
        async with self._database.use("archival_found") as connection:
            rows = await connection.fetch(_BY_ID, agent_id, human_id, list(scores))
            if not rows:
                await require_both(connection, agent_id, human_id)
        by_id = {row["id"]: row for row in rows}
        return [
            FoundRecord(**fields_of(by_id[found]), score=score)
            for found, score in scores.items()
            if found in by_id
        ]

    async def page(self, human_id: str, after: int, limit: int) -> list[dict[str, Any]]:
        """``limit`` records of the human with any agent, oldest first, from ``after`` on."""
        async with self._database.use("archival_page") as connection:
            rows = await connection.fetch(_PAGE, human_id, after, limit)
        return [{**dict(row), "data": json.loads(row["data"])} for row in rows]


def fields_of(row: Row) -> dict[str, Any]:
    """The fields of a record out of a row with ``data`` as text."""
    return {
        "id": row["id"],
        "kind": row["kind"],
        "data": json.loads(row["data"]),
        "created_at": row["created_at"],
    }


def record_of(row: Row) -> Record:
    """A record out of a row with ``data`` as text."""
    return Record.model_construct(**fields_of(row))


async def _add(
    connection: Connection, record_id: UUID, agent_id: str, human_id: str, kind: str, text: str
) -> Record:
    row = await connection.fetchrow(_ADD, record_id, agent_id, human_id, kind, text)
    if row is None:
        raise AssertionError("INSERT ... RETURNING returned nothing")
    return record_of(row)


def _digest(kind: str, data: dict[str, Any], replace: bool) -> bytes:
    """What a key stands for; the order of fields does not matter."""
    return hashlib.sha256(json.dumps([kind, data, replace], sort_keys=True).encode()).digest()


def _repeated(row: Row | None, digest: bytes, kind: str, data: dict[str, Any]) -> Record:
    """The record that the key made, even where it has been replaced since."""
    if row is None or row["digest"] != digest:
        raise IdempotencyConflictError(
            "this Idempotency-Key was used for another record of this agent and human; nothing "
            "was stored; use a new key",
            field="Idempotency-Key",
        )
    return Record(id=row["record_id"], kind=kind, data=data, created_at=row["created_at"])
