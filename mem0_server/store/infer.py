"""The queue of messages in which facts are to be found.

A job is leased while the model reads, and taken away in the transaction that stores the facts.
One conversation is read by one server at a time, in its order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from mem0_server.database import Connection, Database
from mem0_server.store.sql import count

CLAIM_LOCK = 8_050_003
MAX_BACKOFF_SECONDS = 600

# A conversation of which something is leased or put off waits as a whole. The count is made row
# by row until one is found; NOT EXISTS would be planned as a join of the whole queue with itself.
_CLAIM = """
WITH first AS (
    SELECT j.human_id, j.agent_id FROM infer_jobs j
    WHERE 0 = (
        SELECT count(*) FROM infer_jobs o
        WHERE o.human_id = j.human_id AND o.agent_id = j.agent_id AND o.not_before > now()
    )
    ORDER BY j.message_id LIMIT 1
), mine AS (
    SELECT j.message_id FROM infer_jobs j JOIN first USING (human_id, agent_id)
    ORDER BY j.message_id LIMIT $2
), leased AS (
    UPDATE infer_jobs j SET lease = $1, not_before = now() + make_interval(secs => $3)
    FROM mine WHERE j.message_id = mine.message_id
    RETURNING j.message_id, j.attempts
)
SELECT r.id, r.agent_id, r.human_id, r.role, r.content, leased.attempts
FROM leased JOIN recall r ON r.id = leased.message_id ORDER BY r.id
"""
_RELEASE = """
UPDATE infer_jobs SET lease = NULL, last_error = $2, attempts = attempts + $3::int,
    not_before = now()
        + make_interval(secs => $3::int * least($4::float8, power(2, least(attempts + 1, 16))))
WHERE lease = $1
"""


@dataclass(frozen=True, slots=True)
class Talk:
    """Messages of one conversation that were claimed together, oldest first."""

    lease: UUID
    agent_id: str
    human_id: str
    first_id: int
    messages: list[dict[str, Any]]
    attempts: int


class InferJobs:
    """The queue; any number of servers work on it."""

    def __init__(self, database: Database) -> None:
        """Keep the queue in ``database``."""
        self._database = database

    async def claim(self, limit: int, seconds: float) -> Talk | None:
        """Lease up to ``limit`` messages of the conversation that waits longest, or ``None``."""
        lease = uuid4()
        async with self._database.transaction("infer_claim") as connection:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", CLAIM_LOCK)
            rows = await connection.fetch(_CLAIM, lease, limit, seconds)
        if not rows:
            return None
        return Talk(
            lease=lease,
            agent_id=rows[0]["agent_id"],
            human_id=rows[0]["human_id"],
            first_id=rows[0]["id"],
            messages=[{"role": row["role"], "content": row["content"]} for row in rows],
            attempts=max(row["attempts"] for row in rows),
        )

    async def release(self, lease: UUID, reason: str, *, blame: bool) -> None:
        """Give messages back. With ``blame`` they wait longer each time."""
        async with self._database.use("infer_release") as connection:
            await connection.execute(
                _RELEASE, lease, reason[:500], int(blame), float(MAX_BACKOFF_SECONDS)
            )

    async def give_up(self, lease: UUID) -> None:
        """Take messages away in which no facts can be found; they stay in recall."""
        async with self._database.use("infer_give_up") as connection:
            await connection.execute("DELETE FROM infer_jobs WHERE lease = $1", lease)

    async def backlog(self) -> int:
        """How many messages wait."""
        async with self._database.use("infer_backlog") as connection:
            return int(await connection.fetchval("SELECT count(*) FROM infer_jobs"))


async def finish(connection: Connection, human_id: str, lease: UUID) -> bool:
    """Take the leased jobs away; false when they are gone, as after the human's deletion.

    The human is locked first, as a deletion does it, so that the two cannot block each other.
    """
    await connection.execute("SELECT FROM humans WHERE id = $1 FOR KEY SHARE", human_id)
    return count(await connection.execute("DELETE FROM infer_jobs WHERE lease = $1", lease)) > 0
