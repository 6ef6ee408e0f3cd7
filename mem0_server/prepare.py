"""Make the database ready: wait until it answers, then migrate it. Run before the server starts.

``python -m mem0_server.prepare`` says on stderr what it waits for.
"""

from __future__ import annotations

import sys
import time

import psycopg

from mem0_server.errors import Mem0ServerError, MigrationError
from mem0_server.index.change import refusal, same_model
from mem0_server.migrate import Say, connect, migrate
from mem0_server.settings import Settings, load_settings

RETRY_SECONDS = 0.5
SAY_AGAIN_SECONDS = 10.0
GIVE_UP_SECONDS = 600.0
REFUSED = 3
"""Exit status that the operator knows a refused change of the embedding model by."""


def prepare(settings: Settings, say: Say, give_up: float = GIVE_UP_SECONDS) -> str:
    """Wait for the database and migrate it; returns the schema's version.

    ``give_up``: seconds after which waiting ends.

    :raises MigrationError: the database did not answer in time, or a migration failed.
    """
    started = time.monotonic()
    told: str | None = None
    told_at = started
    while True:
        try:
            connect(settings).close()
            say(f"the database {settings.database_name} answers")
            return migrate(settings, say)
        except (psycopg.OperationalError, OSError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
        now = time.monotonic()
        if now - started > give_up:
            raise MigrationError(
                f"the database {settings.database_name} did not answer within {give_up:.0f} s: "
                f"{reason}; look at its pod and at the credentials"
            )
        if reason != told or now - told_at > SAY_AGAIN_SECONDS:
            say(
                f"waiting for the database {settings.database_name} "
                f"({now - started:.0f} s): {reason}"
            )
            told, told_at = reason, now
        time.sleep(RETRY_SECONDS)


def main() -> int:
    """Exit status 0 when the server may start, 1 when it may not, 2 for wrong settings.

    REFUSED: another embedding model than that of the memories, without REINDEX.
    """

    def say(line: str) -> None:
        print(f"prepare: {line}", file=sys.stderr, flush=True)

    try:
        settings = load_settings()
    except Mem0ServerError as error:
        say(error.message)
        return 2
    try:
        prepare(settings, say)
        refused = refused_change(settings)
    except Mem0ServerError as error:
        say(error.message)
        return 1
    if refused:
        say(refused)
        return REFUSED
    return 0


def refused_change(settings: Settings) -> str | None:
    """What to say where the settings want another embedding model and do not say REINDEX."""
    if settings.reindex:
        return None
    with connect(settings) as connection:
        row = connection.execute(
            "SELECT model FROM index_collections WHERE activated_at IS NOT NULL"
            " ORDER BY activated_at DESC LIMIT 1"
        ).fetchone()
    if row is None or same_model(row[0], settings.embedding_model):
        return None
    return refusal(row[0], settings.embedding_model)


if __name__ == "__main__":
    sys.exit(main())
