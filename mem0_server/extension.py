"""The database extension that holds the vectors: there, made, or asked for in plain words."""

from __future__ import annotations

from typing import Any

import psycopg

from mem0_server.errors import MigrationError

# The first pgvector that goes on with an index scan until a filtered search has found enough.
OLDEST = (0, 8)


def demand_vector(connection: psycopg.Connection[Any]) -> None:
    """See to it that the database has pgvector; nothing else of it is changed.

    ``connection``: one in autocommit mode.

    :raises MigrationError: it has none that will do; the message has the command to run.
    """
    database = connection.info.dbname
    found = _version(connection, "SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    if found is None:
        offered = _version(
            connection, "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"
        )
        if offered is None:
            raise MigrationError(
                f"the PostgreSQL server of the database {database} has no pgvector: install it "
                "there (postgresql-NN-pgvector in Debian, or an image that has it), 0.8 or newer"
            )
        try:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except psycopg.errors.InsufficientPrivilege as error:
            raise MigrationError(
                f"the login may not make the extension vector ({str(error).strip()}); as a "
                f"superuser, in the database {database}, run: CREATE EXTENSION vector"
            ) from error
        found = offered
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST:
        raise MigrationError(
            f"the database {database} has pgvector {found}, and 0.8 or newer is needed: install it "
            "on the server, then as a superuser run: ALTER EXTENSION vector UPDATE"
        )


def _version(connection: psycopg.Connection[Any], query: str) -> str | None:
    row = connection.execute(query).fetchone()
    return None if row is None or row[0] is None else str(row[0])
