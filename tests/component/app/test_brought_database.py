"""A database that somebody else made: TLS in every mode, and what it must have for us."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from app import prepare
from app.core.config import Settings, load_settings
from app.db.migrate import migrate, newest_revision
from app.db.session import bind
from app.errors import AppError, ConfigurationError
from app.rag.coherence import Login
from tests.component.tls_door import Door, self_signed, tls_door


async def select(settings: Settings) -> None:
    engine = bind(settings)
    try:
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT 1")) == 1
    finally:
        await engine.dispose()


def both_drivers(settings: Settings) -> None:
    """A query by each way in which the app connects."""
    asyncio.run(select(settings))
    migrate(settings)
    with Login(settings).connect() as connection:
        connection.execute("SELECT 1")


def over(door: Door, mode: str, authority: Path | None = None) -> Settings:
    url = door.url.replace("postgres@", "")
    return load_settings(database_url=url, database_tls_mode=mode, database_ca_file=authority)


def test_it_is_spoken_to_in_tls_and_must_be_who_it_says(
    tmp_path: Path, make_dsn: Callable[[], str]
) -> None:
    certificate, key = self_signed(tmp_path, "database")
    stranger, _ = self_signed(tmp_path, "stranger")
    with tls_door(make_dsn(), certificate, key) as door:
        both_drivers(over(door, "verify-full", certificate))
        assert set(door.spoke) == {"tls"}
        doubting = over(door, "verify-full", stranger)
        with pytest.raises(DBAPIError, match="certificate verify failed"):
            migrate(doubting)
        with pytest.raises(OSError, match="certificate verify failed"):
            asyncio.run(select(doubting))
        with pytest.raises(OSError, match="certificate verify failed"):
            asyncio.run(select(over(door, "verify-full")))  # nor do the system's authorities


def test_another_host_s_certificate_will_do_where_the_mode_says_so(
    tmp_path: Path, make_dsn: Callable[[], str]
) -> None:
    certificate, key = self_signed(tmp_path, "elsewhere", "DNS:elsewhere.example")
    with tls_door(make_dsn(), certificate, key) as door:
        both_drivers(over(door, "require"))
        both_drivers(over(door, "verify-ca", certificate))
        assert set(door.spoke) == {"tls"}
        with pytest.raises(OSError, match="certificate verify failed"):
            asyncio.run(select(over(door, "verify-full", certificate)))
        door.spoke.clear()
        with pytest.raises(DBAPIError):
            migrate(over(door, "disable"))
        assert "plain" in door.spoke


def test_an_authority_that_is_of_no_use_is_told_of(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text("no certificate")
    settings = load_settings(database_url="postgresql://h/d", database_ca_file=file)
    assert settings.database_tls_mode == "verify-full"
    with pytest.raises(ConfigurationError, match=r"ca\.crt holds no certificate"):
        bind(settings)
    with pytest.raises(ConfigurationError, match="DATABASE_CA_FILE is of use only"):
        load_settings(database_ca_file=file, database_tls_mode="require")


def test_what_the_database_lacks_is_asked_for_with_the_command(postgres_server: str) -> None:
    """A database made by somebody else, with a login that may do little at first."""
    name = f"brought_{uuid4().hex[:8]}"
    url = make_url(postgres_server).set(database=name)
    settings = load_settings(
        database_url=url.set(username=name).render_as_string(hide_password=False)
    )

    def as_superuser(*commands: str, within: str = "") -> None:
        dsn = url.render_as_string(hide_password=False) if within else postgres_server
        with psycopg.connect(dsn, autocommit=True) as connection:
            for command in commands:
                connection.execute(command)

    as_superuser(f"CREATE ROLE {name} LOGIN", f"CREATE DATABASE {name}")
    with pytest.raises(AppError, match=f"in the database {name}, run: CREATE EXTENSION vector"):
        migrate(settings)
    as_superuser("CREATE EXTENSION vector", within=name)
    with pytest.raises(AppError, match="make it the database's owner"):
        prepare._database(lambda: migrate(settings))
    as_superuser(f"ALTER DATABASE {name} OWNER TO {name}")
    migrate(settings)
    with psycopg.connect(settings.database_url) as connection:
        (found,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()  # type: ignore[misc]
        assert found == newest_revision()
        schemas = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema$'"
        ).fetchall()
        assert schemas == [("public",)]


def test_a_pgvector_that_is_too_old_is_not_used(postgres_dsn_factory: Callable[[str], str]) -> None:
    dsn = postgres_dsn_factory("old")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")
    with pytest.raises(AppError, match=r"0\.7\.4, and 0\.8 or newer is needed"):
        migrate(load_settings(database_url=dsn))
