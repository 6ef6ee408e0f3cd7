"""The names that mem0ai finds in memories, where its language package is installed.

mem0ai keeps them in a table of its own beside each collection, outside our transactions; a
deletion and an export of one human reach them all the same.
"""

from __future__ import annotations

import json
from typing import Any

from mem0_server.database import Connection, Database
from mem0_server.store.sql import identifier, quoted

_TABLES = """
SELECT name || '_entities' AS name FROM index_collections
WHERE to_regclass(quote_ident(name || '_entities')) IS NOT NULL ORDER BY name
"""


class Entities:
    """Reads what mem0ai has written."""

    def __init__(self, database: Database) -> None:
        """Read from ``database``."""
        self._database = database

    async def of_human(self, human_id: str) -> list[dict[str, Any]]:
        """The human's entities: name, kind, and the memories they were found in."""
        async with self._database.use("entities_read") as connection:
            rows = [
                row
                for table in await _tables(connection)
                for row in await connection.fetch(
                    f"SELECT payload::text AS payload FROM {table} WHERE payload->>'user_id' = $1",  # noqa: S608 - a quoted name
                    quoted(human_id),
                )
            ]
        payloads = [json.loads(row["payload"]) for row in rows]
        return [
            {
                "name": payload.get("data"),
                "kind": payload.get("entity_type"),
                "memories": payload.get("linked_memory_ids", []),
            }
            for payload in payloads
        ]


async def delete_entities(connection: Connection, human_id: str) -> None:
    """Delete the human's entities in the transaction of ``connection``."""
    for table in await _tables(connection):
        await connection.execute(
            f"DELETE FROM {table} WHERE payload->>'user_id' = $1",  # noqa: S608 - a quoted name
            quoted(human_id),
        )


async def _tables(connection: Connection) -> list[str]:
    return [identifier(row["name"]) for row in await connection.fetch(_TABLES)]
