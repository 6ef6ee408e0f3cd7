"""The database login is exchanged while the app works."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.core.config import Settings, load_settings
from app.db.login import Login, read_together, use_credentials
from app.db.session import AsyncSessionLocal, bind, driver_url
from app.errors import DatabaseUnavailableError
from tests.component.mounted_secret import MountedSecret


@pytest.fixture
def secret(tmp_path: Path) -> MountedSecret:
    return MountedSecret(tmp_path / "db")


@pytest.fixture
def roles(
    make_dsn: Callable[[], str], secret: MountedSecret
) -> Iterator[tuple[Settings, str, str, str]]:
    """Settings that read the Secret, two roles that may log in, and the superuser's DSN."""
    dsn = make_dsn()
    stem = f"login_{uuid4().hex[:8]}"
    first, second = f"{stem}_a", f"{stem}_b"
    with psycopg.connect(dsn, autocommit=True) as connection:
        for role in (first, second):
            connection.execute(f"CREATE ROLE {role} LOGIN")
    secret.write(username=first, password="one")
    settings = load_settings(
        database_url=make_url(dsn).set(username=None, password=None).render_as_string(),
        database_user_file=secret.folder / "username",
        database_password_file=secret.folder / "password",
    )
    yield settings, first, second, dsn
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"DROP ROLE {first}")
        connection.execute(f"DROP ROLE {second}")


@pytest.fixture
async def database(
    roles: tuple[Settings, str, str, str],
) -> AsyncIterator[tuple[Login, AsyncEngine]]:
    login = Login(roles[0])
    engine = bind(roles[0], login)
    await login.follow(engine)
    yield login, engine
    await engine.dispose()


async def user() -> str:
    async with AsyncSessionLocal() as session:
        return str(await session.scalar(text("SELECT session_user")))


async def test_a_change_under_load_fails_no_query_and_leaves_no_connection(
    roles: tuple[Settings, str, str, str],
    database: tuple[Login, AsyncEngine],
    secret: MountedSecret,
) -> None:
    _, first, second, dsn = roles
    login, engine = database
    stop, seen = asyncio.Event(), []

    async def work() -> None:
        while not stop.is_set():
            async with AsyncSessionLocal() as session:
                query = "SELECT session_user FROM pg_sleep(0.02)"
                seen.append(str(await session.scalar(text(query))))

    async def until(condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(17):  # more than the pool holds: some wait for a connection
            group.create_task(work())
        await until(lambda: len(seen) >= 50)
        for name, password in ((second, "two"), (first, "three"), (second, "four")):
            secret.write(username=name, password=password)
            await login.follow(engine)
            assert login.current == hashlib.sha256(f"{name}\n{password}".encode()).hexdigest()[:12]
            await until(lambda: not login.former_connections)
            begun = len(seen)
            await until(lambda begun=begun: len(seen) >= begun + 50)
            assert set(seen[begun:]) == {name}
        stop.set()
    with psycopg.connect(dsn) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"
        assert connection.execute(query, [first]).fetchone() == (0,)


async def test_idle_connections_of_the_former_login_are_closed(
    roles: tuple[Settings, str, str, str],
    database: tuple[Login, AsyncEngine],
    secret: MountedSecret,
) -> None:
    login, engine = database
    assert await user() == roles[1]
    secret.write(username=roles[2], password="two")
    await login.follow(engine)
    assert login.former_connections == 0
    assert await user() == roles[2]


async def test_a_refused_login_waits_for_the_new_one(
    roles: tuple[Settings, str, str, str],
    database: tuple[Login, AsyncEngine],
    secret: MountedSecret,
) -> None:
    _, first, second, dsn = roles
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {first} NOLOGIN")
    asking = asyncio.create_task(user())
    await asyncio.sleep(0.3)
    assert not asking.done()
    secret.write(username=second, password="two")
    assert await asyncio.wait_for(asking, 20) == second


def test_a_synchronous_engine_follows_too(
    roles: tuple[Settings, str, str, str], secret: MountedSecret, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, first, second, _ = roles
    monkeypatch.setattr("app.db.login.LOOK_SECONDS", 0.0)
    engine = create_engine(driver_url(settings, "psycopg"))
    use_credentials(engine, settings)
    for name in (first, second, second, first):
        secret.write(username=name, password="any")
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT session_user")) == name
    engine.dispose()


def test_files_are_read_as_of_one_moment(
    secret: MountedSecret, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret.write(username="a", password="one")
    files = {name: secret.folder / name for name in ("username", "password")}
    read, swapped = Path.read_text, []

    def read_and_swap(path: Path, *args: str, **kwargs: str) -> str:
        found = read(path, *args, **kwargs)
        if not swapped:
            swapped.append(True)
            secret.write(username="b", password="two")
        return found

    monkeypatch.setattr(Path, "read_text", read_and_swap)
    assert read_together(files) == {"username": "b", "password": "two"}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailableError, match=r"password.*Secret"):
        read_together({"password": tmp_path / "password"})
