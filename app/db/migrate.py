"""Bring metis-postgres to the newest schema; safe when several replicas try at once."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from app.core.config import Settings
from app.db import tls
from app.db.extension import demand_vector
from app.db.login import use_credentials
from app.db.session import CONNECT_TIMEOUT, driver_url

LOCK = 7_266_843_001
"""Key of the advisory lock that lets one migration run at a time; any fixed number will do."""


def migrate(settings: Settings, revision: str = "head") -> None:
    """Upgrade the schema to ``revision``; waits while another process does so.

    Raises SQLAlchemy's errors as they are: the caller knows whether waiting would help; and
    AppError where the database has no pgvector that will do.
    """
    engine = create_engine(
        driver_url(settings, "psycopg"),
        poolclass=NullPool,
        connect_args={
            "connect_timeout": int(CONNECT_TIMEOUT),
            "application_name": "metis-migrate",
            **tls.for_psycopg(settings),
        },
    )
    use_credentials(engine, settings)
    try:
        # The lock's own connection commits nothing of the migration and frees the lock when it
        # ends, however it ends.
        with engine.connect() as holder, engine.connect() as connection:
            holder.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK})
            config = _config()
            config.attributes["connection"] = connection
            demand_vector(connection)
            command.upgrade(config, revision)
            connection.commit()
    finally:
        engine.dispose()


def newest_revision() -> str:
    """The schema version this code was written for."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None  # noqa: S101 - there is at least one migration in the package
    return head


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config
