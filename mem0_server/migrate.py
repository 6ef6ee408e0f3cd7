"""Bring the database to this version's schema; safe when several replicas start at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from mem0_server.errors import MigrationError
from mem0_server.extension import demand_vector
from mem0_server.schema import SCHEMA_VERSION
from mem0_server.settings import Settings

# Any number that nothing else in this database uses for an advisory lock.
MIGRATION_LOCK = 8_050_001
LOCK_POLL_SECONDS = 0.2

Say = Callable[[str], None]


def alembic_config() -> Config:
    """Alembic's configuration without a file: the migrations lie in this package."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def current_version(connection: psycopg.Connection[Any]) -> str | None:
    """The schema's version, or ``None`` in a database that was never migrated."""
    found = connection.execute("SELECT to_regclass('alembic_version')").fetchone()
    if found is None or found[0] is None:
        return None
    row = connection.execute("SELECT max(version_num) FROM alembic_version").fetchone()
    return None if row is None else row[0]


def migrate(settings: Settings, say: Say) -> str:
    """Run what is missing, one process at a time, and return the version reached.

    A database that is already newer (an older replica starting after an upgrade) is left alone.

    :raises MigrationError: a migration failed; the database is as it was before it.
    :raises psycopg.OperationalError: the database went away.
    """
    with connect(settings) as connection:
        _lock(connection, say)
        demand_vector(connection)
        version = current_version(connection)
        if version is not None and version >= SCHEMA_VERSION:
            say(f"schema {version} is up to date")
            return version
        say(f"migrating {settings.database_name} from {version or 'empty'} to {SCHEMA_VERSION}")
        started = time.monotonic()
        engine = create_engine(
            "postgresql+psycopg://", creator=lambda: connect(settings), poolclass=NullPool
        )
        try:
            with engine.begin() as migrating:
                config = alembic_config()
                config.attributes["connection"] = migrating
                command.upgrade(config, SCHEMA_VERSION)
        except SQLAlchemyError as error:
            raise MigrationError(
                f"migrating {settings.database_name} to {SCHEMA_VERSION} failed and was rolled "
                f"back: {error}{_cure(error)}"
            ) from error
        finally:
            engine.dispose()
        say(f"migrated in {time.monotonic() - started:.1f} s")
        return SCHEMA_VERSION


def _cure(error: SQLAlchemyError) -> str:
    if isinstance(getattr(error, "orig", None), psycopg.errors.InsufficientPrivilege):
        return "; the login needs the right to make tables there: make it the database's owner"
    return ""


def connect(settings: Settings) -> psycopg.Connection[Any]:
    """A synchronous connection with the credentials of this moment.

    :raises psycopg.OperationalError: the database does not answer or refuses.
    :raises OSError: a credentials file cannot be read.
    """
    options: dict[str, Any] = {
        "connect_timeout": 5,
        "application_name": "mem0-prepare",
        **settings.database_tls(),
        **settings.database_credentials(),
    }
    return psycopg.connect(settings.database_url, autocommit=True, **options)


def _lock(connection: psycopg.Connection[Any], say: Say) -> None:
    """Take the advisory lock, which ends with the connection."""
    waiting = False
    while True:
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", [MIGRATION_LOCK]).fetchone()
        if row is not None and row[0]:
            return
        if not waiting:
            say("another replica is migrating; waiting for it")
            waiting = True
        time.sleep(LOCK_POLL_SECONDS)
