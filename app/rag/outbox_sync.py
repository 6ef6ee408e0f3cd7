"""The outbox for synchronous callers: the ``store_*`` functions outside the app's event loop.

The same statements as :mod:`app.rag.outbox`, over a small pool of psycopg connections. While the
database does not answer, it is not asked again for some seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from app.core.config import Settings
from app.core.logging import get_logger
from app.db import tls
from app.db.login import use_credentials
from app.db.session import CONNECT_TIMEOUT, driver_url
from app.errors import AppError
from app.rag.notes import Note, Row
from app.rag.outbox import READ_ALL, WRITE, as_json, rows_of

_making = threading.Lock()
_made: dict[int, tuple[Settings, SyncOutbox]] = {}
HOLD = 5.0
"""Seconds for which a database that did not answer is not asked again."""

log = get_logger(__name__)


class SyncOutbox:
    """Reads and writes notes; thread-safe, never raises."""

    def __init__(self, settings: Settings) -> None:
        """Connect to the database of ``settings`` when first needed."""
        self._engine = create_engine(
            driver_url(settings, "psycopg"),
            isolation_level="AUTOCOMMIT",
            pool_size=2,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": int(CONNECT_TIMEOUT),
                "application_name": "metis-memory",
                **tls.for_psycopg(settings),
            },
        )
        use_credentials(self._engine, settings)
        self._resume_at = 0.0

    def read(self, human_id: str) -> list[Row]:
        """The human's newest rows, oldest first; none while the database does not answer."""
        try:
            with self._cursor() as cursor:
                return rows_of(cursor.execute(READ_ALL, (human_id,)).fetchone()[0])
        except _AWAY as error:
            self._failed(error)
            return []

    def write(self, human_id: str, notes: Sequence[Note]) -> bool:
        """Add notes of a human; False when the database did not take them."""
        try:
            with self._cursor() as cursor:
                cursor.execute(WRITE, (human_id, as_json(notes)))
        except _AWAY as error:
            self._failed(error)
            return False
        return True

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        if time.monotonic() < self._resume_at:
            raise _HeldError
        connection = self._engine.raw_connection()
        try:
            with psycopg.RawCursor(connection.driver_connection) as cursor:  # type: ignore[arg-type]
                yield cursor
        finally:
            connection.close()

    def _failed(self, error: Exception) -> None:
        if isinstance(error, _HeldError):
            return
        self._resume_at = time.monotonic() + HOLD
        log.warning("outbox_unreachable", error=type(error).__name__, hold_seconds=HOLD)


def outbox_of(settings: Settings) -> SyncOutbox:
    """The process's outbox for ``settings``."""
    with _making:
        if id(settings) not in _made:
            _made.clear()  # settings change in tests only
            _made[id(settings)] = (settings, SyncOutbox(settings))
        return _made[id(settings)][1]


class _HeldError(Exception):
    """The database did not answer a moment ago."""


_AWAY = (_HeldError, AppError, SQLAlchemyError, psycopg.Error, OSError)
