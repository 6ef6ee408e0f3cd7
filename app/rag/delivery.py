"""Delivers the outbox to Mem0: in order per human, exactly once, by any replica.

A worker locks the oldest waiting row of some human, with those behind it, for as long as it
delivers them; others skip that human. When the process dies, its lock goes with its connection and
another replica delivers the same rows under the same idempotency keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.exc import SQLAlchemyError

from app.core.logging import get_logger
from app.core.metrics import OUTBOX_DELIVERED, OUTBOX_FAILURES
from app.db.session import driver
from app.errors import AppError
from app.rag import mem0_client, memory
from app.rag.mem0_errors import (
    Mem0Error,
    Mem0NotFoundError,
    Mem0RefusedError,
    Mem0UnavailableError,
)
from app.rag.notes import Row, arguments
from app.rag.outbox import CHANNEL, KEPT_SECONDS, UNDELIVERED, rows_of

WORKERS = 2
"""Humans that one replica delivers for at the same time."""
BATCH = 50
BATCH_SECONDS = 2.0
"""After so long a batch ends, so that a lock is not held for long."""
POLL = 2.0
"""Seconds after which a worker looks by itself: a notification may be lost."""
LISTEN_SECONDS = 5.0
PAUSE = (0.25, 5.0)
"""Seconds, at first and at most, between two tries while Mem0 is away."""
LATER = (1.0, 300.0)
"""Likewise for a row at which Mem0 fails though it serves others."""
ATTEMPTS = 12
"""So many such failures, over about 40 minutes, and the row is parked."""

_HEAD = f"""
SELECT id, human_id FROM outbox
WHERE id = ANY (ARRAY(SELECT min(id) FROM outbox WHERE {UNDELIVERED} GROUP BY human_id))
  AND {UNDELIVERED} AND not_before <= clock_timestamp()
ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
"""
_BATCH = f"""
WITH batch AS MATERIALIZED (
    SELECT id, key, kind, body, created_at, delivered_at FROM outbox
    WHERE human_id = $1 AND id >= $2 AND {UNDELIVERED} ORDER BY id LIMIT $3 FOR UPDATE
) SELECT json_agg(batch)::text FROM batch
"""
_ATTEMPTS = "SELECT attempts FROM outbox WHERE id = $1"
_DELIVERED = "UPDATE outbox SET delivered_at = clock_timestamp() WHERE id = ANY($1)"
_UNSYNCED = "SET LOCAL synchronous_commit = off"
"""The commit need not reach the disk: what a crash takes back is delivered again, under the same
key. It would hold up the commits that acknowledge something, which do wait for the disk."""
_LATER = """
UPDATE outbox SET attempts = attempts + 1, reason = $2,
    not_before = clock_timestamp() + make_interval(secs => $3) WHERE id = $1
"""
_PARK = """
UPDATE outbox SET attempts = attempts + 1, reason = $2, parked_at = clock_timestamp() WHERE id = $1
"""
_SWEEP = """
DELETE FROM outbox WHERE id IN (
    SELECT id FROM outbox WHERE delivered_at < clock_timestamp() - make_interval(secs => $1)
    ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED
)
"""

log = get_logger(__name__)
Verdict = Literal["away", "later", "park"]


@dataclass(frozen=True)
class Outcome:
    """How far a batch came: so many rows delivered, and what stopped it at the next one."""

    delivered: int
    failure: Mem0Error | None = None


def verdict(error: Mem0Error, attempts: int) -> Verdict:
    """What a failure means: for Mem0 (away), or for the row after ``attempts`` earlier ones."""
    if isinstance(error, Mem0RefusedError):
        return "park"
    at_this_row = isinstance(error, Mem0NotFoundError) or (
        isinstance(error, Mem0UnavailableError) and error.answered == 500
    )
    if not at_this_row:
        return "away"
    return "park" if attempts + 1 >= ATTEMPTS else "later"


def backoff(bounds: tuple[float, float], attempts: int) -> float:
    """Seconds to wait after ``attempts`` earlier failures, a random half of them taken off."""
    least, most = bounds
    return float(min(most, least * 2.0 ** min(attempts, 30)) * random.uniform(0.5, 1.0))  # noqa: S311


def deliver(client: mem0_client.EnhancedMem0Client, human_id: str, row: Row) -> None:
    """Bring a row to Mem0, with agent and human where they lack there; raises Mem0Error."""
    if row.kind == "forget":
        client.send_deletion(human_id)
        return
    send = client.send_message if row.kind == "message" else client.send_record
    sent = arguments(mem0_client.METIS_AGENT_ID, human_id, row.kind, row.body)
    try:
        send(**sent, idempotency_key=row.key)
    except Mem0NotFoundError:
        mem0_client.make_agent(client)
        client.create_human(human_id=human_id, name=human_id)
        send(**sent, idempotency_key=row.key)


class Deliverer:
    """The workers of this replica."""

    def __init__(self) -> None:
        self._wake = asyncio.Event()
        self._over = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._failures = 0
        self._swept_at = 0.0

    def start(self) -> None:
        """Begin, in the running loop."""
        self._tasks = [asyncio.create_task(self._listen())]
        self._tasks += [asyncio.create_task(self._work()) for _ in range(WORKERS)]

    async def stop(self) -> None:
        """Let the workers end the row that they are at; what is left is another replica's."""
        self._over.set()
        self._wake.set()
        listener, *workers = self._tasks
        listener.cancel()
        await asyncio.wait(workers, timeout=BATCH_SECONDS + 1)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self) -> None:
        """Wake the workers at every insert; they also look by themselves."""
        while True:
            try:
                async with driver() as connection:
                    await self._hear(connection)
            except _AWAY:
                await asyncio.sleep(backoff(PAUSE, 2))

    async def _hear(self, connection: Any) -> None:
        """Listen for a while; the pool gets its connection back, as its login may be outdated."""
        ended = asyncio.Event()

        def heard(*_: object) -> None:
            self._wake.set()

        def lost(_: object) -> None:
            ended.set()

        connection.add_termination_listener(lost)
        await connection.add_listener(CHANNEL, heard)
        self._wake.set()  # for what came while nobody listened
        await _wait(ended, LISTEN_SECONDS)
        connection.remove_termination_listener(lost)
        await connection.remove_listener(CHANNEL, heard)

    async def _work(self) -> None:
        while not self._over.is_set():
            self._wake.clear()  # first: whoever adds a row from here on is heard below
            try:
                found = await self._deliver_some()
                pause = backoff(PAUSE, self._failures - 1) if self._failures else 0.0
                if not found:
                    await self._sweep()
            except _AWAY as error:
                log.warning("outbox_unreadable", error=type(error).__name__)
                found, pause = False, backoff(PAUSE, 2)
            except Exception:
                log.exception("outbox_failed")
                found, pause = False, PAUSE[1]
            if pause:
                await _wait(self._over, pause)
            elif not found:
                await _wait(self._wake, POLL)

    async def _deliver_some(self) -> bool:
        """Deliver for one human; whether there was anything to deliver."""
        async with driver() as connection, connection.transaction():
            head = await connection.fetchrow(_HEAD)
            if head is None:
                self._failures = 0
                return False
            human_id = head["human_id"]
            rows = rows_of(await connection.fetchval(_BATCH, human_id, head["id"], BATCH))
            outcome = await asyncio.to_thread(self._deliver, human_id, rows)
            delivered = rows[: outcome.delivered]
            await connection.execute(_UNSYNCED)
            await connection.execute(_DELIVERED, [row.id for row in delivered])
            if outcome.failure is None:
                self._failures = 0
            else:
                await self._failed(connection, rows[outcome.delivered], outcome.failure)
        for row in delivered:
            OUTBOX_DELIVERED.labels(row.kind).inc()
        if len(delivered) == len(rows) < BATCH:
            await asyncio.to_thread(memory.warm, human_id)
        return True

    def _deliver(self, human_id: str, rows: Sequence[Row]) -> Outcome:
        """Deliver rows one by one, in a thread."""
        client = mem0_client.get_mem0_client()
        if client is None:
            return Outcome(0, Mem0Error("there is no memory client"))
        ends = time.monotonic() + BATCH_SECONDS
        for number, row in enumerate(rows):
            if number and (self._over.is_set() or time.monotonic() > ends):
                return Outcome(number)
            try:
                deliver(client, human_id, row)
            except Mem0Error as error:
                return Outcome(number, error)
        return Outcome(len(rows))

    async def _failed(self, connection: Any, row: Row, error: Mem0Error) -> None:
        attempts = await connection.fetchval(_ATTEMPTS, row.id)
        means = verdict(error, attempts)
        OUTBOX_FAILURES.labels(means, type(error).__name__).inc()
        if means == "away":
            self._failures += 1
            if self._failures == 1:
                log.warning("outbox_waits", cause=error.message)
            return
        self._failures = 0
        log.warning("outbox_row_failed", id=row.id, kind=row.kind, means=means, cause=error.message)
        if means == "park":
            await connection.execute(_PARK, row.id, error.message)
        else:
            wait = backoff(LATER, attempts)
            await connection.execute(_LATER, row.id, error.message, wait)

    async def _sweep(self) -> None:
        """Remove delivered rows whose time is over."""
        if time.monotonic() - self._swept_at > POLL:
            self._swept_at = time.monotonic()
            async with driver() as connection:
                await connection.execute(_SWEEP, float(KEPT_SECONDS))


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, or so long."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


_AWAY = (
    AppError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError,
    asyncpg.InternalClientError, OSError, TimeoutError,
)  # fmt: skip
"""The database does not answer, or not as it should: it is asked again."""
