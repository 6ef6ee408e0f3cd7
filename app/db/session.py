"""Sessions of metis-postgres.

Nothing connects at import: :func:`bind` makes the engine, in the lifespan, and the engine opens
its first connection when a session needs one. Login and password are read again from their files
for every new connection, so a rotated password needs no restart.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import URL, Dialect, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import ConnectionPoolEntry

from app.core.config import Settings
from app.errors import ConfigurationError, DatabaseUnavailableError

CONNECT_TIMEOUT = 5.0
"""Seconds a new connection may take."""
POOL_TIMEOUT = 10.0
"""Seconds a request waits for a free connection of the pool."""


class Base(DeclarativeBase):
    """Base of the ORM models."""


AsyncSessionLocal = async_sessionmaker(expire_on_commit=False, autoflush=False)
"""Makes sessions, once :func:`bind` was called."""


def bind(settings: Settings) -> AsyncEngine:
    """Make the engine and let :data:`AsyncSessionLocal` use it; opens no connection."""
    engine = create_async_engine(
        driver_url(settings, "asyncpg"),
        echo=settings.sql_echo,
        pool_pre_ping=True,
        pool_recycle=3600,
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_max_overflow,
        pool_timeout=POOL_TIMEOUT,
        connect_args={
            "timeout": CONNECT_TIMEOUT,
            "server_settings": {"application_name": "metis-app"},
        },
    )
    use_credentials(engine.sync_engine, settings)
    AsyncSessionLocal.configure(bind=engine)
    return engine


async def get_db() -> AsyncIterator[AsyncSession]:
    """A session for one request, as a FastAPI dependency."""
    async with AsyncSessionLocal() as session:
        yield session


def driver_url(settings: Settings, driver: str) -> URL:
    """DATABASE_URL for a driver (``asyncpg`` or ``psycopg``).

    Raises ConfigurationError for a text that is no address. ``sslmode``, libpq's word for it, is
    understood for both.
    """
    try:
        url = make_url(settings.database_url)
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(
            "DATABASE_URL (METIS_POSTGRES_DSN) is no address; it should look like "
            "postgresql://host:5432/database"
        ) from error
    url = url.set(drivername=f"postgresql+{driver}")
    if driver == "asyncpg" and "sslmode" in url.query:
        mode = url.query["sslmode"]
        url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
    return url


def use_credentials(engine: Any, settings: Settings) -> None:
    """Have every new connection of a (synchronous) engine ask for login and password anew."""

    @event.listens_for(engine, "do_connect")
    def _fill_in(
        dialect: Dialect, record: ConnectionPoolEntry, args: list[Any], parameters: dict[str, Any]
    ) -> None:
        parameters.update(credentials(settings))


def credentials(settings: Settings) -> dict[str, str]:
    """``user`` and ``password`` for a new connection, where settings have them.

    Files win; what stands in DATABASE_URL itself comes next, then DATABASE_USER and
    DATABASE_PASSWORD. Raises DatabaseUnavailableError when a file cannot be read.
    """
    url = make_url(settings.database_url)
    found: dict[str, str] = {}
    for name, file, plain, in_url in (
        ("user", settings.database_user_file, settings.database_user, url.username),
        ("password", settings.database_password_file, settings.database_password, url.password),
    ):
        if file is not None:
            try:
                found[name] = file.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise DatabaseUnavailableError(
                    f"the database {name} cannot be read from {file}: {error.strerror}; "
                    "check that the Secret is mounted there"
                ) from error
        elif in_url is None and plain is not None:
            found[name] = plain
    return found
