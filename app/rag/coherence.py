"""Keeps the memory caches of all replicas true, over LISTEN/NOTIFY of metis-postgres.

Every write drops entries of its own replica at once and is told to the others here. A replica
serves its entries only while it is sure to hear of such writes: it sends itself a heartbeat
through the same channel, and one that came back vouches for the time from when it was sent.
Notifications arrive in the order of their commits, so with the beat came everything before it.

- No beat within ``heartbeat`` seconds: reads go past the entries until one comes back.
- The connection broke: likewise at once. A new one listens first and then forgets everything,
  because nobody knows what was missed in between.
- What could not be told is told when the connection is back.

One thread with one connection. Ids may be long and a notification holds 8,000 bytes: what does
not fit is told as "forget that whole cache".
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import select
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Protocol
from uuid import uuid4

import psycopg
from psycopg import sql

from app.core.config import Settings
from app.core.logging import get_logger
from app.db import tls
from app.db.login import credentials
from app.db.session import driver_url
from app.errors import AppError, DatabaseUnavailableError
from app.rag.mem0_caches import CACHES, Invalidation, MemoryCaches
from app.rag.mem0_metrics import COHERENT, INVALIDATIONS

CHANNEL = "metis_memory"
HEARTBEAT = 2.0
"""Seconds after which silence counts as loss."""
BEATS = 4
"""Beats sent in that time, so that a slow one is no loss."""
PAYLOAD_LIMIT = 7_900
"""Bytes; PostgreSQL refuses 8,000."""
UNTOLD_LIMIT = 10_000
"""Invalidations kept while the database is away; beyond it everything is to be forgotten."""
CONNECT_TIMEOUT = 3
RETRY_SECONDS = (0.05, 1.0)

log = get_logger(__name__)


class Door(Protocol):
    """The way into the database."""

    def connect(self) -> psycopg.Connection[Any]:
        """A new connection in autocommit mode."""
        ...

    def changed(self) -> bool:
        """Whether a connection made before should be given up for a new one."""
        ...


class Coherence:
    """Tells other replicas what to forget, and forgets what they tell."""

    def __init__(self, database: Door, caches: MemoryCaches, heartbeat: float = HEARTBEAT) -> None:
        """Keep ``caches`` coherent through ``database``, heartbeats at most that long apart (s)."""
        self._database = database
        self._caches = caches
        self._heartbeat = heartbeat
        self._origin = uuid4().hex
        self._lock = threading.Lock()
        self._untold: dict[Invalidation, None] = {}
        self._beats: dict[int, float] = {}  # when each was sent that has not come back
        self._beat = 0
        self._over = threading.Event()
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        self._thread = threading.Thread(target=self._run, name="memory-coherence", daemon=True)

    def start(self) -> None:
        """Begin; the caches are gone past until the first beat is back."""
        self._caches.trust_until(-math.inf)
        self._caches.tell = self.tell
        self._thread.start()

    def stop(self) -> None:
        """Tell what is left to tell and end; the caches are not trusted any more."""
        self._caches.tell = None
        self._over.set()
        self._wake()
        self._thread.join(self._heartbeat)
        if not self._thread.is_alive():  # else it hangs on the database and ends with the process
            with self._lock:
                for end in (self._woken, self._waker):
                    os.close(end)

    def tell(self, what: Invalidation) -> None:
        """Have the other replicas forget ``what``; returns at once."""
        with self._lock:
            if len(self._untold) >= UNTOLD_LIMIT:
                self._untold = {Invalidation(): None}
            self._untold[what] = None
            if not self._over.is_set():
                self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full of wake-up calls already
            os.write(self._waker, b"!")

    def _run(self) -> None:
        reported = False
        shortest, longest = RETRY_SECONDS
        pause = shortest
        while not self._over.is_set():
            try:
                with self._database.connect() as connection:
                    self._begin(connection)
                    if reported:
                        log.info("memory_coherence_back")
                    reported, pause = False, shortest
                    self._serve(connection)
            except (psycopg.Error, OSError, AppError) as error:
                self._lost()
                if not reported:
                    log.warning(
                        "memory_coherence_lost",
                        cause=str(error).strip() or type(error).__name__,
                        effect="the memory caches are gone past until it is back",
                    )
                    reported = True
                self._over.wait(random.uniform(pause / 2, pause))  # noqa: S311 - no secret
                pause = min(2 * pause, longest)
        self._lost()

    def _begin(self, connection: psycopg.Connection[Any]) -> None:
        self._beats.clear()
        connection.add_notify_handler(lambda heard: self._hear(heard.payload))
        # A notification is nothing to keep, so its commit need not wait for the disk.
        connection.execute("SET synchronous_commit = off")
        connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
        self._caches.forget(Invalidation())

    def _serve(self, connection: psycopg.Connection[Any]) -> None:
        """Tell and listen until told to stop, the login changed or the connection breaks."""
        interval = self._heartbeat / BEATS
        next_beat = time.monotonic()
        while True:
            ending = self._over.is_set()
            now = time.monotonic()
            with self._lock:
                untold, self._untold = self._untold, {}
            due = now >= next_beat
            if due or untold:
                next_beat = now + interval
                self._send(connection, untold, now)
            if ending or (due and self._database.changed()):
                return
            wait = max(0.0, next_beat - time.monotonic())
            socket = connection.fileno()
            readable, _, _ = select.select([socket, self._woken], [], [], wait)
            if self._woken in readable:
                os.read(self._woken, 65536)
            if socket in readable:
                connection.pgconn.consume_input()
                while heard := connection.pgconn.notifies():
                    self._hear(heard.extra.decode())

    def _send(
        self, connection: psycopg.Connection[Any], untold: dict[Invalidation, None], now: float
    ) -> None:
        self._beat += 1
        self._beats[self._beat] = now
        payloads = [*encoded(self._origin, untold), json.dumps([self._origin, self._beat])]
        try:
            connection.execute(
                "SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload",
                (CHANNEL, payloads),
            )
        except BaseException:
            with self._lock:
                self._untold = untold | self._untold
            raise
        INVALIDATIONS.labels("told").inc(len(untold))

    def _hear(self, payload: str) -> None:
        try:
            origin, said = json.loads(payload)
            if origin == self._origin:
                if isinstance(said, int) and said in self._beats:
                    self._vouch(self._beats.pop(said))
                return
            heard = [] if isinstance(said, int) else [_invalidation(*one) for one in said]
        except (ValueError, TypeError):  # of another version, perhaps: better once too often
            heard = [Invalidation()]
        for what in heard:
            self._caches.forget(what)
        INVALIDATIONS.labels("heard").inc(len(heard))

    def _vouch(self, sent: float) -> None:
        self._caches.trust_until(sent + self._heartbeat)
        COHERENT.set(1)

    def _lost(self) -> None:
        self._caches.trust_until(-math.inf)
        COHERENT.set(0)


def encoded(origin: str, told: Iterable[Invalidation]) -> Iterator[str]:
    """Notifications that tell all of it, as few as fit."""
    head = f'["{origin}",['
    room = PAYLOAD_LIMIT - len(head) - 2
    batch: list[str] = []
    size = 0
    for what in told:
        item = json.dumps([what.cache, what.group], separators=(",", ":"))  # ASCII, so bytes
        if len(item) > room:
            item = json.dumps([what.cache, None], separators=(",", ":"))
        if size + len(item) + 1 > room:
            yield head + ",".join(batch) + "]]"
            batch, size = [], 0
        batch.append(item)
        size += len(item) + 1
    if batch:
        yield head + ",".join(batch) + "]]"


def _invalidation(cache: Any, group: Any) -> Invalidation:
    if cache is not None and cache not in CACHES:
        raise ValueError("a cache that we do not have")
    return Invalidation(cache, None if group is None else tuple(group))


class Login:
    """Opens connections to the database of ``settings`` with the user and password of the moment.

    Raises psycopg's errors, and DatabaseUnavailableError when a file cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._used: dict[str, str] | None = None

    def connect(self) -> psycopg.Connection[Any]:
        """A new connection in autocommit mode."""
        url = driver_url(self._settings, "psycopg").set(drivername="postgresql")
        self._used = credentials(self._settings)
        options: dict[str, Any] = {**tls.for_psycopg(self._settings), **self._used}
        return psycopg.connect(
            url.render_as_string(hide_password=False),
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT,
            application_name="metis-app-coherence",
            keepalives_idle=1,
            keepalives_interval=1,
            keepalives_count=3,
            tcp_user_timeout=int(2_000 * HEARTBEAT),
            **options,
        )

    def changed(self) -> bool:
        """Whether a new connection would use another user or password than the last one did."""
        with contextlib.suppress(DatabaseUnavailableError):
            return credentials(self._settings) != self._used
        return False
