"""The outbox in metis-postgres: what memory is to learn, until Mem0 has it.

A note is written in the transaction that acknowledges it, so nothing said is lost; it carries the
idempotency key of its delivery, so nothing is doubled. Notes of one human have the order of their
commits: whoever writes one holds that human's lock until then. A delivered row stays for
``KEPT_SECONDS``, for readers whose cache has not yet heard of the delivery.

SQL only: :mod:`app.rag.delivery` delivers, :mod:`app.rag.backlog` decides what readers see.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from app.db.session import driver
from app.rag.notes import Kind, Note, Row

CHANNEL = "metis_outbox"
"""Notified at every insert."""
KEPT_SECONDS = 10
"""How long a delivered row can still be read: far longer than caches take to hear of it."""
READ = 50
"""Rows of a kind that a reader looks at."""

LOCK = "turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(hashtextextended($1, 7266843002)))"
"""Part of a statement that adds rows of human ``$1``: the others add theirs when it is over."""
ADD = """
    INSERT INTO outbox (key, human_id, kind, body)
    SELECT (note->>'key')::uuid, $1, note->>'kind', note->'body'
    FROM {source}, jsonb_array_elements({notes}::jsonb) WITH ORDINALITY AS n(note, place)
    ORDER BY place
"""
UNDELIVERED = "delivered_at IS NULL AND parked_at IS NULL"
ROWS = f"""
    SELECT found.* FROM unnest(ARRAY['message', 'preferences', 'interaction', 'forget']) AS k,
    LATERAL (
        SELECT id, key, kind, body, created_at, delivered_at FROM outbox
        WHERE human_id = $1 AND kind = k AND parked_at IS NULL ORDER BY id DESC LIMIT {READ}
    ) AS found
"""
WRITE = f"WITH {LOCK} {ADD.format(source='turn', notes='$2')}"
READ_ALL = f"SELECT json_agg(found)::text FROM ({ROWS}) AS found"
# In the order in which a delivery locks them, so that the two never wait for each other.
FORGET = f"""
WITH {LOCK}, locked AS MATERIALIZED (
    SELECT id FROM turn, outbox WHERE human_id = $1 ORDER BY id FOR UPDATE OF outbox
), gone AS (DELETE FROM outbox USING locked WHERE outbox.id = locked.id)
{ADD.format(source="turn", notes="$2")}
"""
STATE = f"""
SELECT count(*) FILTER (WHERE {UNDELIVERED}) AS waiting,
       count(*) FILTER (WHERE {UNDELIVERED} AND human_id = $1) AS own,
       count(*) FILTER (WHERE parked_at IS NOT NULL) AS parked,
       coalesce(extract(epoch FROM clock_timestamp() - min(created_at)
           FILTER (WHERE {UNDELIVERED})), 0)::float AS oldest_seconds
FROM outbox
"""
LISTED = """
SELECT id, human_id, kind, created_at, attempts, parked_at, reason FROM outbox
WHERE delivered_at IS NULL AND (parked_at IS NOT NULL OR NOT $1::boolean)
ORDER BY id LIMIT $2
"""
# A row that is tried again goes to the end, like a note written now. Nobody writes meanwhile, so
# that its new place is the last one.
RETRY_LOCK = "LOCK TABLE outbox IN SHARE ROW EXCLUSIVE MODE"
RETRY = """
UPDATE outbox SET id = DEFAULT, parked_at = NULL, attempts = 0, not_before = now()
WHERE parked_at IS NOT NULL AND ($1::bigint[] IS NULL OR id = ANY($1)) RETURNING id
"""


@dataclass(frozen=True)
class State:
    """How much waits: rows of all, of one human, parked ones, and the oldest one's age."""

    waiting: int
    own: int
    parked: int
    oldest_seconds: float


@dataclass(frozen=True)
class Entry:
    """A row as the CLI lists it, without what it says."""

    id: int
    human_id: str
    kind: Kind
    created_at: datetime
    attempts: int
    parked_at: datetime | None
    reason: str | None


def as_json(notes: Sequence[Note]) -> str:
    """Notes as the statements take them."""
    return json.dumps([note.as_dict() for note in notes], ensure_ascii=False)


def rows_of(text: str | None) -> list[Row]:
    """The rows of :data:`READ_ALL`, oldest first."""
    rows = [
        Row(r["id"], r["key"], r["kind"], r["body"], r["created_at"], r["delivered_at"] is None)
        for r in json.loads(text or "null") or ()
    ]
    return sorted(rows, key=lambda row: row.id)


async def write(human_id: str, notes: Sequence[Note]) -> None:
    """Add notes of a human, in a transaction of their own."""
    async with driver() as connection:
        await connection.execute(WRITE, human_id, as_json(notes))


async def forget(human_id: str) -> None:
    """Drop all rows of a human and have Mem0 delete what it holds; later notes come after that."""
    async with driver() as connection:
        await connection.execute(FORGET, human_id, as_json([Note("forget", {})]))


async def read(human_id: str) -> list[Row]:
    """The human's newest rows of each kind, oldest first."""
    async with driver() as connection:
        return rows_of(await connection.fetchval(READ_ALL, human_id))


async def state(human_id: str = "") -> State:
    """How much waits, of all and of one human."""
    async with driver() as connection:
        return State(**dict(await connection.fetchrow(STATE, human_id)))


async def listed(parked_only: bool, limit: int) -> list[Entry]:
    """The oldest rows that wait or are parked."""
    async with driver() as connection:
        return [Entry(**dict(r)) for r in await connection.fetch(LISTED, parked_only, limit)]


async def retry(ids: Sequence[int] | None) -> int:
    """Let parked rows wait again, all of them for None; how many there were."""
    async with driver() as connection, connection.transaction():
        await connection.execute(RETRY_LOCK)
        return len(await connection.fetch(RETRY, None if ids is None else list(ids)))
