"""The database extension that holds the vectors: there, made, or asked for in plain words."""

from __future__ import annotations

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from app.errors import AppError

OLDEST = (0, 8)
"""The first pgvector that goes on with an index scan until a filtered search has found enough."""


def demand_vector(connection: Connection) -> None:
    """See to it that the database has pgvector; nothing else of it is changed.

    Raises AppError, with the command that a superuser has to run.
    """
    database = connection.scalar(text("SELECT current_database()"))
    found = _version(connection, "SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    if found is None:
        offered = _version(
            connection, "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"
        )
        if offered is None:
            raise AppError(
                f"the PostgreSQL server of the database {database} has no pgvector: install it "
                "there (postgresql-NN-pgvector in Debian, or an image that has it), 0.8 or newer"
            )
        try:
            with connection.begin_nested():
                connection.execute(text("CREATE EXTENSION vector"))
        except DBAPIError as error:
            raise AppError(
                f"the login may not make the extension vector ({_reason(error)}); as a superuser, "
                f"in the database {database}, run: CREATE EXTENSION vector"
            ) from error
        found = offered
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST:
        raise AppError(
            f"the database {database} has pgvector {found}, and 0.8 or newer is needed: install it "
            "on the server, then as a superuser run: ALTER EXTENSION vector UPDATE"
        )


def _version(connection: Connection, query: str) -> str | None:
    found = connection.scalar(text(query))
    return None if found is None else str(found)


def _reason(error: DBAPIError) -> str:
    return " ".join(str(error.orig).split())
