"""The pool of connections to PostgreSQL, and the one place where its failures are translated.

Credentials are read from their files for each new connection. When they change, a new pool takes
over, and the former one is closed once the work on it is done: a rotated password needs no
restart and fails no query. No connection is made before it is needed: the server starts while the
database is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import asyncpg  # type: ignore[import-untyped]
import structlog

from mem0_server.errors import DatabaseUnavailableError
from mem0_server.metrics import Metrics
from mem0_server.settings import Settings, login_fingerprint

log = structlog.get_logger(__name__)

Row = Mapping[str, Any]
BrokenReferenceError = asyncpg.ForeignKeyViolationError


class Connection(Protocol):
    """What the stores use of an asyncpg connection."""

    async def execute(self, query: str, *arguments: object) -> str:
        """Run a command; returns its tag, such as ``DELETE 3``."""

    async def executemany(self, query: str, arguments: Iterable[Sequence[object]]) -> None:
        """Run a command once for each set of arguments, in one transaction."""

    async def fetch(self, query: str, *arguments: object) -> list[Row]:
        """All rows."""

    async def fetchrow(self, query: str, *arguments: object) -> Row | None:
        """The first row."""

    async def fetchval(self, query: str, *arguments: object) -> Any:
        """The first column of the first row."""


CONNECT_TIMEOUT = 5.0
LONG_SECONDS = 600
# A refused login is tried again for so long when it changes: a Secret reaches a pod a little later
# than the database.
LOGIN_PATIENCE = 3.0
LOGIN_POLL = 0.1
_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up, statement timeout
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.UndefinedTableError,  # not migrated yet
    asyncpg.UndefinedColumnError,
    asyncpg.exceptions.InvalidCachedStatementError,  # migrated just now
    asyncpg.InvalidCatalogNameError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InterfaceError,  # the connection went away between two statements
    asyncpg.InternalClientError,  # likewise, and its end has not arrived here yet
    OSError,
    TimeoutError,
)


@dataclass(slots=True, eq=False)
class _Pool:
    """The connections of one login, and how many units of work use or await one."""

    connections: Any
    login: str | None
    users: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self) -> None:
        """A unit of work begins; :meth:`end` follows."""
        self.users += 1
        self.idle.clear()

    def end(self) -> None:
        """A unit of work is over."""
        self.users -= 1
        if not self.users:
            self.idle.set()

    async def close(self) -> None:
        """Close what is open, by force after five seconds."""
        try:
            await asyncio.wait_for(self.connections.close(), 5)
        except TimeoutError:
            self.connections.terminate()


class Database:
    """A bounded pool; every unit of work has a name, under which its time is counted."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Remember how to connect; :meth:`open` makes the pool."""
        self._settings = settings
        self.acquire_timeout = settings.database_acquire_timeout
        self.metrics = metrics
        self._pool: _Pool | None = None
        self._former: dict[_Pool, asyncio.Task[None]] = {}
        self._following = asyncio.Lock()

    async def open(self) -> None:
        """Make the pool; connects to nothing yet."""
        self._pool = await self._make(await self._login())

    async def follow(self) -> None:
        """Look at the credentials; when they have changed, go over to them."""
        async with self._following:
            former = self._pool
            login = await self._login()
            if former is None or login is None or login == former.login:
                return
            fresh = await self._make(login)
            if self._pool is former:  # and not closed meanwhile
                log.info("database_login_changed", login=login, former=former.login)
                self._pool = fresh
                self._former[former] = asyncio.create_task(self._retire(former))

    @property
    def name(self) -> str:
        """Host, port and database, for messages."""
        return self._settings.database_name

    def begin(self) -> _Pool:
        """A unit of work begins, and ends with the pool's ``end``.

        :raises DatabaseUnavailableError: the database is closed.
        """
        if self._pool is None:
            raise DatabaseUnavailableError("the server is stopping; ask another replica")
        self._pool.begin()
        return self._pool

    @property
    def login(self) -> str | None:
        """Fingerprint of the login in use."""
        return None if self._pool is None else self._pool.login

    @property
    def former_connections(self) -> int:
        """Connections that are still open with a login no longer in use."""
        return sum(pool.connections.get_size() for pool in self._former)

    async def close(self) -> None:
        """Close the connections once their work is done, by force after five seconds."""
        pool, self._pool = self._pool, None
        for task in list(self._former.values()):
            task.cancel()
        pools = [*self._former, *([pool] if pool is not None else [])]
        await asyncio.gather(*(p.close() for p in pools))

    async def _make(self, login: str | None) -> _Pool:
        connections = await asyncpg.create_pool(
            connect=self._connect,
            reset=_reset,
            min_size=0,
            max_size=self._settings.database_pool_size,
            max_inactive_connection_lifetime=300,
        )
        return _Pool(connections, login)

    async def _retire(self, pool: _Pool) -> None:
        """Close a pool that no new work begins on, after the work on it."""
        if pool.users:
            await pool.idle.wait()
        await pool.close()
        del self._former[pool]

    async def _login(self) -> str | None:
        """Fingerprint of the credentials of this moment; None while they cannot be read."""
        try:
            found = await asyncio.to_thread(self._settings.database_credentials)
        except OSError:
            return None
        return login_fingerprint(found)

    def use(self, work: str) -> _Use:
        """A connection for one unit of work; each statement is a transaction of its own.

        Entering and leaving raise what follows.

        :raises DatabaseUnavailableError: the database does not answer, or not in time.
        """
        return _Use(self, work)

    @contextlib.asynccontextmanager
    async def transaction(self, work: str) -> AsyncIterator[Connection]:
        """A connection inside one transaction (read committed); an error rolls it back.

        :raises DatabaseUnavailableError: the database does not answer, or not in time.
        """
        async with self.use(work) as connection:
            own: Any = connection
            async with own.transaction():
                yield connection

    @contextlib.asynccontextmanager
    async def long_transaction(self, work: str) -> AsyncIterator[Connection]:
        """As :meth:`transaction`, for what takes as long as there are rows: no usual time limit.

        :raises DatabaseUnavailableError: the database does not answer, or not in ten minutes.
        """
        async with self.transaction(work) as connection:
            await connection.execute(f"SET LOCAL statement_timeout = '{LONG_SECONDS}s'")
            yield _Patient(connection)

    def measure(self) -> None:
        """Bring the pool's gauges up to date."""
        size, idle = (
            (0, 0)
            if self._pool is None
            else (
                self._pool.connections.get_size(),
                self._pool.connections.get_idle_size(),
            )
        )
        self.metrics.set_pool("records", size, idle, self._settings.database_pool_size)

    async def _connect(self, *_: Any, **options: Any) -> Any:
        """One new connection with the credentials of this moment."""
        deadline = time.monotonic() + LOGIN_PATIENCE
        refused: dict[str, str] | None = None
        while True:
            credentials = await asyncio.to_thread(self._settings.database_credentials)
            late = not self._settings.credentials_may_change or time.monotonic() > deadline
            if credentials != refused or late:
                try:
                    return await self._connect_as(credentials, options)
                except asyncpg.InvalidAuthorizationSpecificationError:
                    if late:
                        raise
                    refused = credentials
            await asyncio.sleep(LOGIN_POLL)

    async def _connect_as(self, credentials: dict[str, str], options: dict[str, Any]) -> Any:
        options = {**options, **_tls(self._settings)}
        milliseconds = str(int(self._settings.database_timeout * 1000))
        return await asyncpg.connect(
            self._settings.database_url,
            timeout=CONNECT_TIMEOUT,
            # A little later than the server's own limit, for a server that hangs.
            command_timeout=self._settings.database_timeout + 2,
            server_settings={
                "application_name": "mem0",
                "statement_timeout": milliseconds,
                "idle_in_transaction_session_timeout": milliseconds,
            },
            **credentials,
            **options,
        )


class _Use:
    """One unit of work with a connection. A class, as it runs in every request: a generator with a
    decorator around it costs twice as much.
    """

    __slots__ = ("_connection", "_database", "_pool", "_started", "_work")

    def __init__(self, database: Database, work: str) -> None:
        self._database = database
        self._work = work

    async def __aenter__(self) -> Connection:
        pool = self._pool = self._database.begin()
        self._started = time.perf_counter()
        try:
            # asyncpg's own limit would make a task of each wait.
            async with asyncio.timeout(self._database.acquire_timeout):
                self._connection = await pool.connections.acquire()
        except BaseException as error:
            self._end()
            self._translate(error)
            raise
        connection: Connection = self._connection
        return connection

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            if isinstance(error, asyncpg.InternalClientError):
                self._connection.terminate()
            await self._pool.connections.release(self._connection)
        except _AWAY as broken:
            self._translate(broken)
        finally:
            self._end()
        if error is not None:
            self._translate(error)

    def _end(self) -> None:
        self._pool.end()
        self._database.metrics.worked(self._work, time.perf_counter() - self._started)

    def _translate(self, error: BaseException) -> None:
        """Raise ours for what says that the database is away.

        :raises DatabaseUnavailableError: it is.
        """
        if isinstance(error, _AWAY):
            cause = str(error) or type(error).__name__
            raise DatabaseUnavailableError(
                f"the database {self._database.name} did not do {self._work!r}: {cause}; try again"
            ) from error


def _tls(settings: Settings) -> dict[str, Any]:
    """What asyncpg is told of TLS; nothing where the URL says."""
    told = settings.database_tls()
    mode = told.get("sslmode", "")
    if mode in ("", "disable", "prefer"):
        return {"ssl": mode} if mode else {}
    if mode == "require":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return {"ssl": context}
    file = told["sslrootcert"]
    context = ssl.create_default_context(cafile=None if file == "system" else file)
    context.check_hostname = mode == "verify-full"
    return {"ssl": context}


class _Patient:
    """A connection that waits as long for each statement as a long transaction may take."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return partial(getattr(self._connection, name), timeout=LONG_SECONDS + 2)


async def _reset(connection: Any) -> None:
    """No unit of work leaves session state behind, so only a broken one costs a round trip."""
    if connection.is_in_transaction():
        await connection.reset()
