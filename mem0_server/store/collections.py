"""The tables that hold the search index, one for each embedding model, and which are in use.

One answers: that which was let to last. Another may be filled beside it. Replicas say now and
then which they use; one that nobody has used for a while is dropped with its queue.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mem0_server.database import Connection, Database
from mem0_server.store.sql import count, identifier

REGISTER_LOCK = 8_050_002
# Dropping a table that refers to archival holds up its writers; so long at most.
LOCK_TIMEOUT = "2s"

_QUEUE_ALL = """
INSERT INTO index_jobs (collection, record_id) SELECT $1, id FROM archival
ON CONFLICT (collection, record_id)
DO UPDATE SET lease = NULL, attempts = 0, not_before = now(), last_error = NULL
"""
_USED = "UPDATE index_collections SET used_at = now() WHERE name = $1"
# What waits for the first time is part of an index that is still being built.
_UNUSED = """
SELECT name FROM index_collections
WHERE name <> $1 AND name <> coalesce((
    SELECT name FROM index_collections
    WHERE activated_at IS NOT NULL ORDER BY activated_at DESC LIMIT 1
), '') AND used_at < now() - make_interval(secs => $2)
  AND NOT EXISTS (SELECT FROM index_jobs WHERE collection = $1 AND attempts = 0)
"""

_ACTIVE = """
SELECT name, model, dimensions, activated_at FROM index_collections
WHERE activated_at IS NOT NULL ORDER BY activated_at DESC LIMIT 1
"""
# What was written lately is indexed by the search that asks for it, so it holds up nothing.
_SWITCH = """
UPDATE index_collections SET activated_at = clock_timestamp()
WHERE name = $1 AND NOT EXISTS (
    SELECT FROM index_jobs
    WHERE collection = $1 AND attempts = 0 AND created_at < now() - make_interval(secs => $2)
)
"""
LATELY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Collection:
    """One embedding model's table of vectors."""

    name: str
    model: str
    dimensions: int
    activated_at: datetime | None = None


class Collections:
    """Which collections there are."""

    def __init__(self, database: Database) -> None:
        """Look into ``database``."""
        self._database = database

    async def active(self) -> Collection | None:
        """The collection that answers; None before the first one."""
        async with self._database.use("index_active") as connection:
            row = await connection.fetchrow(_ACTIVE)
        return None if row is None else Collection(**dict(row))

    async def now(self) -> datetime:
        """The database's time."""
        async with self._database.use("index_now") as connection:
            found: datetime = await connection.fetchval("SELECT now()")
        return found

    async def activate_first(self, name: str) -> None:
        """Let the collection answer unless another one does already."""
        async with self._database.use("index_first") as connection:
            await connection.execute(
                "UPDATE index_collections SET activated_at = now() WHERE name = $1"
                " AND NOT EXISTS (SELECT FROM index_collections WHERE activated_at IS NOT NULL)",
                name,
            )

    async def switch(self, name: str) -> bool:
        """Let the collection answer from now on, if all that has long been there is in it."""
        async with self._database.use("index_switch") as connection:
            return count(await connection.execute(_SWITCH, name, LATELY_SECONDS)) > 0

    async def records(self) -> int:
        """How many records there are to be indexed."""
        async with self._database.use("index_records") as connection:
            return int(await connection.fetchval("SELECT count(*) FROM archival"))

    async def is_registered(self, name: str) -> bool:
        """Whether the collection is known and its table there."""
        async with self._database.use("index_known") as connection:
            found = await connection.fetchval(
                "SELECT to_regclass(quote_ident(name)) IS NOT NULL FROM index_collections"
                " WHERE name = $1",
                name,
            )
        return bool(found)

    async def register(self, collection: Collection) -> int:
        """Make the (existing) table a copy that follows ``archival``; all records are queued.

        Returns how many were queued: none when another replica was first.
        """
        table = identifier(collection.name)
        async with self._database.long_transaction("index_register") as connection:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", REGISTER_LOCK)
            linked = await connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_constraint WHERE conname = $1)",
                collection.name + "_record",
            )
            if linked:
                return 0
            # Writers wait here for a moment: each finds the collection, or is found by it.
            await connection.execute("LOCK TABLE archival IN SHARE ROW EXCLUSIVE MODE")
            await connection.execute(
                f"""
                ALTER TABLE {table} ADD CONSTRAINT {identifier(collection.name + "_record")}
                    FOREIGN KEY (id) REFERENCES archival ON DELETE CASCADE;
                CREATE INDEX {identifier(collection.name + "_ids")} ON {table}
                    ((payload->>'user_id'), (payload->>'agent_id'), (payload->>'_kind'));
                """
            )
            await connection.execute(
                "INSERT INTO index_collections (name, model, dimensions) VALUES ($1, $2, $3)"
                " ON CONFLICT DO NOTHING",
                collection.name,
                collection.model,
                collection.dimensions,
            )
            return count(await connection.execute(_QUEUE_ALL, collection.name))

    async def queue_all(self, name: str) -> int:
        """Queue all records to be embedded anew; what is indexed stays until then."""
        async with self._database.long_transaction("index_queue_all") as connection:
            return count(await connection.execute(_QUEUE_ALL, name))

    async def use(self, name: str) -> bool:
        """Say that the collection is in use; false when it has been dropped."""
        async with self._database.use("index_used") as connection:
            return count(await connection.execute(_USED, name)) > 0

    async def drop(self, name: str) -> None:
        """Drop the collection with its queue; the next one that is made answers at once."""
        async with self._database.long_transaction("index_drop") as connection:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", REGISTER_LOCK)
            await _drop(connection, name)
            await connection.execute("UPDATE index_collections SET activated_at = NULL")

    async def drop_unused(self, mine: str, seconds: float) -> list[str]:
        """Drop what nobody has used for so many ``seconds``, once ``mine`` is complete."""
        async with self._database.long_transaction("index_drop_unused") as connection:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", REGISTER_LOCK)
            names = [row["name"] for row in await connection.fetch(_UNUSED, mine, seconds)]
            for name in names:
                await _drop(connection, name)
        return names


async def _drop(connection: Connection, name: str) -> None:
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    for table in (name, f"{name}_entities"):
        await connection.execute(f"DROP TABLE IF EXISTS {identifier(table)}")
    await connection.execute("DELETE FROM index_collections WHERE name = $1", name)
