"""The login to metis-postgres: read anew for each connection, and left behind when it changes.

A login is known by its fingerprint: the first 12 hex digits of the SHA-256 of user, newline,
password. When the files change, new connections use the new login at once; :class:`Login` closes
the idle ones of the former login, and those in use are closed when they come back.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import Dialect, Engine, event, make_url
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from app.core.config import Settings
from app.core.logging import get_logger
from app.errors import DatabaseUnavailableError

log = get_logger(__name__)

LOOK_SECONDS = 1.0
"""How often the files are looked at, beside each new connection."""
PATIENCE = 3.0
"""Seconds for which a refused login is tried again once it changes: a Secret reaches a pod a
little later than the database."""
POLL_SECONDS = 0.1
READ_ATTEMPTS = 3
_LOGIN = "metis_login"


def credentials(settings: Settings) -> dict[str, str]:
    """``user`` and ``password`` for a new connection, where settings have them.

    Files win; what stands in DATABASE_URL itself comes next, then DATABASE_USER and
    DATABASE_PASSWORD. Raises DatabaseUnavailableError when a file cannot be read.
    """
    url = make_url(settings.database_url)
    files = {"user": settings.database_user_file, "password": settings.database_password_file}
    found = read_together({name: file for name, file in files.items() if file is not None})
    for name, plain, in_url in (
        ("user", settings.database_user, url.username),
        ("password", settings.database_password, url.password),
    ):
        if name not in found and in_url is None and plain is not None:
            found[name] = plain
    return found


def read_together(files: Mapping[str, Path]) -> dict[str, str]:
    """The contents of files that belong together, as of one moment.

    The kubelet swaps the folder of a mounted Secret behind a link; a user name from before the
    swap and a password from after it would open nothing. Raises DatabaseUnavailableError when a
    file cannot be read.
    """
    for attempt in itertools.count(1):
        places = {name: file.resolve() for name, file in files.items()}
        found: dict[str, str] = {}
        try:
            for name, place in places.items():
                found[name] = place.read_text(encoding="utf-8").strip()
        except OSError as error:
            if attempt < READ_ATTEMPTS:
                continue
            name, file = next((n, f) for n, f in files.items() if n not in found)
            raise DatabaseUnavailableError(
                f"the database {name} cannot be read from {file}: {error.strerror}; "
                "check that the Secret is mounted there"
            ) from error
        if attempt >= READ_ATTEMPTS or places == {n: f.resolve() for n, f in files.items()}:
            return found
    raise AssertionError("unreachable: the last attempt returns or raises")


def fingerprint(login: Mapping[str, Any]) -> str:
    """Names the login that ``user`` and ``password`` of a connection make."""
    text = f"{login.get('user', '')}\n{login.get('password', '')}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def use_credentials(engine: Engine, settings: Settings) -> None:
    """Have every new connection of a synchronous engine ask for user and password anew.

    One of a former login is replaced, at the latest :data:`LOOK_SECONDS` after the change, before
    it is used again.
    """
    current, looked_at = "", 0.0

    @event.listens_for(engine, "do_connect")
    def _fill_in(
        dialect: Dialect, record: ConnectionPoolEntry, args: list[Any], parameters: dict[str, Any]
    ) -> None:
        nonlocal current, looked_at
        found = credentials(settings)
        current, looked_at = fingerprint(found), time.monotonic()
        record.info[_LOGIN] = current
        parameters.update(found)

    @event.listens_for(engine, "checkout")
    def _look(connection: Any, record: ConnectionPoolEntry, proxy: Any) -> None:
        nonlocal current, looked_at
        if time.monotonic() - looked_at > LOOK_SECONDS:
            looked_at = time.monotonic()
            with suppress(DatabaseUnavailableError):
                current = fingerprint(credentials(settings))
        if record.info.get(_LOGIN) != current:
            raise DisconnectionError("the login has changed")


class Login:
    """The login in use by an asynchronous engine, and what is still open with a former one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._may_change = bool(settings.database_user_file or settings.database_password_file)
        self._used: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self._current: str | None = None

    @property
    def current(self) -> str | None:
        """Fingerprint of the login in use; None while there is none to be read."""
        return self._current

    @property
    def former_connections(self) -> int:
        """Connections that are still open with another login."""
        used = list(self._used.items())
        return sum(login != self._current for c, login in used if not c.is_closed())

    async def connect(self, *args: Any, **parameters: Any) -> Any:
        """A new connection with the login of this moment; one that is refused waits for another.

        Raises asyncpg's errors, and DatabaseUnavailableError when a file cannot be read.
        """
        deadline = time.monotonic() + PATIENCE
        refused: dict[str, str] | None = None
        while True:
            found = await asyncio.to_thread(credentials, self._settings)
            late = not self._may_change or time.monotonic() > deadline
            if found != refused or late:
                try:
                    made = await asyncpg.connect(*args, **{**parameters, **found})
                except asyncpg.InvalidAuthorizationSpecificationError:
                    if late:
                        raise
                    refused = found
                else:
                    self._used[made] = fingerprint(found)
                    return made
            await asyncio.sleep(POLL_SECONDS)

    def leave_former(self, engine: Engine) -> None:
        """Have a connection of a former login closed when it comes back to the pool."""

        @event.listens_for(engine, "checkin")
        def _close(connection: Any, record: ConnectionPoolEntry) -> None:
            driver = getattr(connection, "driver_connection", None)
            if driver is not None and self._used.get(driver, self._current) != self._current:
                record.invalidate()

    async def follow(self, engine: AsyncEngine) -> None:
        """Look at the files; when the login has changed, close idle connections of the former."""
        try:
            found = fingerprint(await asyncio.to_thread(credentials, self._settings))
        except DatabaseUnavailableError:
            return
        former, self._current = self._current, found
        if former not in (None, found):
            log.info("database_login_changed", login=found, former=former)
        if self.former_connections:
            await self._use_each_idle(engine)

    @staticmethod
    async def _use_each_idle(engine: AsyncEngine) -> None:
        """Take each idle connection in hand once: on its way back it is looked at."""
        pool = cast("QueuePool", engine.pool)  # first in, first out
        with suppress(SQLAlchemyError, OSError, DatabaseUnavailableError):
            for _ in range(pool.checkedin()):
                async with engine.connect():
                    pass

    async def watch(self, engine: AsyncEngine) -> None:
        """Follow the login until cancelled."""
        while True:
            await self.follow(engine)
            await asyncio.sleep(LOOK_SECONDS)
