"""Sessions of metis-postgres.

Nothing connects at import: :func:`bind` makes the engine, in the lifespan, and the engine opens
its first connection when a session needs one. Login and password are read again from their files
for every new connection (see :mod:`app.db.login`), so a rotated password needs no restart.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase

from app.core.config import Settings
from app.db import tls
from app.db.login import Login
from app.errors import ConfigurationError

CONNECT_TIMEOUT = 5.0
"""Seconds a new connection may take."""
POOL_TIMEOUT = 10.0
"""Seconds a request waits for a free connection of the pool."""


class Base(DeclarativeBase):
    """Base of the ORM models."""


AsyncSessionLocal = async_sessionmaker(expire_on_commit=False, autoflush=False)
"""Makes sessions, once :func:`bind` was called."""


def bind(settings: Settings, login: Login | None = None) -> AsyncEngine:
    """Make the engine and let :data:`AsyncSessionLocal` use it; opens no connection."""
    login = login or Login(settings)
    engine = create_async_engine(
        driver_url(settings, "asyncpg"),
        echo=settings.sql_echo,
        pool_pre_ping=True,
        pool_recycle=3600,
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_max_overflow,
        pool_timeout=POOL_TIMEOUT,
        connect_args={
            "async_creator_fn": login.connect,
            "timeout": CONNECT_TIMEOUT,
            "server_settings": {"application_name": "metis-app"},
            **tls.for_asyncpg(settings),
        },
    )
    login.leave_former(engine.sync_engine)
    AsyncSessionLocal.configure(bind=engine)
    return engine


@asynccontextmanager
async def driver() -> AsyncIterator[Any]:
    """asyncpg's own connection out of the pool, each statement a transaction of its own.

    For the few statements that every chat request waits for: it saves a third of a millisecond
    each. JSON goes in and comes out as text. Raises asyncpg's errors as they are.
    """
    async with AsyncSessionLocal.kw["bind"].connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        try:
            yield raw
        except asyncpg.PostgresConnectionError:
            await connection.invalidate()
            raise
        except asyncpg.PostgresError:
            raise  # a statement failed; the connection is as good as before
        except BaseException:
            await connection.invalidate()  # cut off in the middle of something
            raise


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
