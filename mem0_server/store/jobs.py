"""The queue of records that are to be indexed.

A job is leased, not locked, while its text is embedded: a replica that dies loses nothing, and no
writer waits for a model. Leases are short and renewed, so that others soon go on with its jobs. The
rows of the index are written in the transaction that takes the job away, and refer to their record:
deleting the record deletes them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from mem0_server.database import Connection, Database
from mem0_server.store.sql import identifier

LEASE_SECONDS = 15
MAX_BACKOFF_SECONDS = 300

_DUE = "j.collection = $1 AND j.not_before <= now()"
_CLAIM = """
WITH due AS (
    SELECT j.collection, j.record_id FROM {jobs}
    ORDER BY j.not_before LIMIT $3 FOR UPDATE OF j SKIP LOCKED
), leased AS (
    UPDATE index_jobs j SET lease = $2, not_before = now() + make_interval(secs => $4)
    FROM due WHERE j.collection = due.collection AND j.record_id = due.record_id
    RETURNING j.record_id
)
SELECT a.id, a.agent_id, a.human_id, a.run_id, a.kind, a.data::text AS data, a.created_at
FROM leased JOIN archival a ON a.id = leased.record_id ORDER BY a.seq
"""
# Skips a record that is being deleted: its job goes with it, and nobody waits for anybody.
_STILL_MINE = """
SELECT j.record_id FROM index_jobs j JOIN archival a ON a.id = j.record_id
WHERE j.collection = $1 AND j.lease = $2
FOR UPDATE OF j SKIP LOCKED FOR KEY SHARE OF a SKIP LOCKED
"""
_BACKLOG = "SELECT count(*) FROM index_jobs WHERE collection = coalesce($1, collection)"


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose records; ``None`` is anybody's."""

    human_id: str | None = None
    agent_id: str | None = None
    run_id: str | None = None


def conditions(scope: Scope, *, start: int, table: str = "") -> tuple[str, list[str]]:
    """SQL that holds for the rows of ``scope``, and its arguments, the first of them ``$start``."""
    ids = {"human_id": scope.human_id, "agent_id": scope.agent_id, "run_id": scope.run_id}
    given = {name: value for name, value in ids.items() if value is not None}
    places = enumerate(given, start=start)
    return " AND ".join(f"{table}{name} = ${n}" for n, name in places), list(given.values())


@dataclass(frozen=True, slots=True)
class Job:
    """A record whose text is to be embedded."""

    record_id: UUID
    scope: Scope
    kind: str
    data: dict[str, Any]
    created_at: str


@dataclass(frozen=True, slots=True)
class IndexRow:
    """A row in the layout of mem0ai's own table."""

    record_id: UUID
    vector: list[float]
    payload: dict[str, Any]


class Jobs:
    """The queue; any number of replicas drain it together."""

    def __init__(self, database: Database) -> None:
        """Keep the queue in ``database``."""
        self._database = database

    async def claim(
        self, collection: str, limit: int, scope: Scope | None = None
    ) -> tuple[UUID, list[Job]]:
        """Lease up to ``limit`` due jobs (of ``scope``), the longest due first."""
        lease = uuid4()
        jobs = f"index_jobs j WHERE {_DUE}"
        given: list[str] = []
        if scope is not None:
            where, given = conditions(scope, start=5, table="s.")
            jobs = f"archival s JOIN index_jobs j ON j.record_id = s.id WHERE {_DUE} AND {where}"
        statement = _CLAIM.replace("{jobs}", jobs)
        async with self._database.use("index_claim") as connection:
            rows = await connection.fetch(
                statement, collection, lease, limit, LEASE_SECONDS, *given
            )
        claimed = [
            Job(
                record_id=row["id"],
                scope=Scope(row["human_id"], row["agent_id"], row["run_id"]),
                kind=row["kind"],
                data=json.loads(row["data"]),
                created_at=row["created_at"].isoformat(),
            )
            for row in rows
        ]
        return lease, claimed

    async def renew(self, lease: UUID) -> None:
        """Keep what is still ours of a lease for another ``LEASE_SECONDS``."""
        async with self._database.use("index_renew") as connection:
            await connection.execute(
                "UPDATE index_jobs SET not_before = now() + make_interval(secs => $2)"
                " WHERE lease = $1",
                lease,
                LEASE_SECONDS,
            )

    async def is_waited_for(self, collection: str, scope: Scope) -> bool:
        """Whether records of ``scope`` are about to be indexed, those put off not counted."""
        # Due but not ours to claim is another's claim that has not been committed yet.
        where, given = conditions(scope, start=2, table="s.")
        statement = f"""
            SELECT EXISTS (
                SELECT FROM archival s JOIN index_jobs j ON j.record_id = s.id
                WHERE j.collection = $1 AND (j.lease IS NOT NULL OR j.not_before <= now())
                  AND {where}
            )
            """  # noqa: S608 - column names
        async with self._database.use("index_waited_for") as connection:
            return bool(await connection.fetchval(statement, collection, *given))

    async def finish(self, collection: str, lease: UUID, rows: list[IndexRow]) -> int:
        """Write the rows whose job is still ours and take those jobs away, in one transaction."""
        async with self._database.transaction("index_finish") as connection:
            mine = {
                row["record_id"] for row in await connection.fetch(_STILL_MINE, collection, lease)
            }
            ready = [row for row in rows if row.record_id in mine]
            await write_rows(connection, collection, ready)
            await connection.execute(
                "DELETE FROM index_jobs WHERE collection = $1 AND record_id = ANY($2)",
                collection,
                [row.record_id for row in ready],
            )
        return len(ready)

    async def release(
        self, lease: UUID, reason: str, *, blame: bool, only: list[UUID] | None = None
    ) -> None:
        """Give leased jobs back (``only`` some). With ``blame`` they wait longer each time."""
        async with self._database.use("index_release") as connection:
            await connection.execute(
                """
                UPDATE index_jobs SET lease = NULL, last_error = $2,
                    attempts = attempts + $3::int,
                    not_before = now() + make_interval(
                        secs => $3::int * least($4::float8, power(2, least(attempts, 16)))
                    )
                WHERE lease = $1 AND ($5::uuid[] IS NULL OR record_id = ANY($5))
                """,
                lease,
                reason[:500],
                int(blame),
                float(MAX_BACKOFF_SECONDS),
                only,
            )

    async def refused(self, collection: str) -> tuple[int, str | None]:
        """How many records the model refused and are put off, and one of the reasons."""
        async with self._database.use("index_refused") as connection:
            row = await connection.fetchrow(
                "SELECT count(*) AS number, max(last_error) AS reason FROM index_jobs"
                " WHERE collection = $1 AND attempts > 0",
                collection,
            )
        return (row["number"], row["reason"]) if row else (0, None)

    async def backlog(self, collection: str | None) -> int:
        """How many records wait to be indexed; before a collection exists, all of them do."""
        async with self._database.use("index_backlog") as connection:
            if collection is None:
                known = await connection.fetchval("SELECT count(*) FROM index_collections")
                if not known:
                    return int(await connection.fetchval("SELECT count(*) FROM archival"))
            return int(await connection.fetchval(_BACKLOG, collection))


async def write_rows(connection: Connection, collection: str, rows: list[IndexRow]) -> None:
    """Write rows in mem0ai's layout; a row that is there already is replaced."""
    if not rows:
        return
    await connection.execute(
        f"""
        INSERT INTO {identifier(collection)} (id, vector, payload)
        SELECT id, vector::vector, payload::jsonb
        FROM unnest($1::uuid[], $2::text[], $3::text[]) AS row (id, vector, payload)
        ON CONFLICT (id) DO UPDATE SET vector = excluded.vector, payload = excluded.payload
        """,  # noqa: S608 - a quoted name
        [row.record_id for row in rows],
        [json.dumps(row.vector) for row in rows],
        [json.dumps(row.payload) for row in rows],
    )
