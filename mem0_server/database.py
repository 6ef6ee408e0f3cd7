"""The pool of connections to PostgreSQL, and the one place where its failures are translated.

Credentials are read from their files for each new connection, so that a rotated password needs
no restart. No connection is made before it is needed: the server starts while the database is
away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import asyncpg  # type: ignore[import-untyped]

from mem0_server.errors import DatabaseUnavailableError
from mem0_server.metrics import Metrics
from mem0_server.settings import Settings

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
_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up, statement timeout
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.UndefinedTableError,  # not migrated yet
    asyncpg.InvalidCatalogNameError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InterfaceError,  # the connection went away between two statements
    asyncpg.InternalClientError,  # likewise, and its end has not arrived here yet
    OSError,
    TimeoutError,
)


class Database:
    """A bounded pool; every unit of work has a name, under which its time is counted."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Remember how to connect; :meth:`open` makes the pool."""
        self._settings = settings
        self._metrics = metrics
        self._pool: Any = None

    async def open(self) -> None:
        """Make the pool; connects to nothing yet."""
        self._pool = await asyncpg.create_pool(
            connect=self._connect,
            reset=_reset,
            min_size=0,
            max_size=self._settings.database_pool_size,
            max_inactive_connection_lifetime=300,
        )

    async def close(self) -> None:
        """Close the connections once their work is done, by force after five seconds."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        try:
            await asyncio.wait_for(pool.close(), 5)
        except TimeoutError:
            pool.terminate()

    @contextlib.asynccontextmanager
    async def use(self, work: str) -> AsyncIterator[Connection]:
        """A connection for one unit of work; each statement is a transaction of its own.

        :raises DatabaseUnavailableError: the database does not answer, or not in time.
        """
        async with self._acquired(work) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def transaction(self, work: str) -> AsyncIterator[Connection]:
        """A connection inside one transaction (read committed); an error rolls it back.

        :raises DatabaseUnavailableError: the database does not answer, or not in time.
        """
        async with self._acquired(work) as connection, connection.transaction():
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
                self._pool.get_size(),
                self._pool.get_idle_size(),
            )
        )
        self._metrics.pool.labels("used").set(size - idle)
        self._metrics.pool.labels("idle").set(idle)
        self._metrics.pool.labels("max").set(self._settings.database_pool_size)

    @contextlib.asynccontextmanager
    async def _acquired(self, work: str) -> AsyncIterator[Any]:
        if self._pool is None:
            raise DatabaseUnavailableError("the server is stopping; ask another replica")
        with self._metrics.query.labels(work).time(), self._translated(work):
            acquired = self._pool.acquire(timeout=self._settings.database_acquire_timeout)
            async with acquired as connection:
                try:
                    yield connection
                except asyncpg.InternalClientError:
                    connection.terminate()
                    raise

    async def _connect(self, *_: Any, **options: Any) -> Any:
        """One new connection with the credentials of this moment."""
        credentials = await asyncio.to_thread(self._settings.database_credentials)
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

    @contextlib.contextmanager
    def _translated(self, work: str) -> Iterator[None]:
        try:
            yield
        except _AWAY as error:
            cause = str(error) or type(error).__name__
            raise DatabaseUnavailableError(
                f"the database {self._settings.database_name} did not do {work!r}: {cause}; "
                "try again"
            ) from error


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
