"""Embed every record anew: ``python -m mem0_server reindex``, beside the servers that run.

The records are queued like any others, so servers help, searches go on over what is indexed, and
whatever ends this command leaves the rest to the servers.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mem0_server.api.services import Services, build
from mem0_server.errors import Mem0ServerError, SettingsError, UnavailableError
from mem0_server.keys import KeyRing
from mem0_server.logs import configure_logging
from mem0_server.migrate import Say
from mem0_server.settings import Settings, load_settings

SAY_SECONDS = 2.0
RETRY_SECONDS = 1.0
GIVE_UP_SECONDS = 300.0

T = TypeVar("T")


async def reindex(
    settings: Settings,
    say: Say,
    *,
    drop: bool = False,
    wait: bool = True,
    give_up: float = GIVE_UP_SECONDS,
) -> bool:
    """Queue all records and, with ``wait``, work on the queue until it is done.

    ``drop`` makes the table of vectors anew. ``give_up``: seconds that Ollama or the database
    may be away. Returns whether every record is indexed; the model may have refused some.

    :raises UnavailableError: Ollama or the database stayed away; the queue is kept.
    """
    parts = build(settings, KeyRing(settings))
    await parts.database.open()
    try:
        if drop:
            await _patiently(parts.indexer.drop, say, give_up)
        collection = await _patiently(parts.indexer.open, say, give_up)
        total = await parts.collections.queue_all(collection.name)
        say(f"{total} records queued for {collection.name}")
        return await _work(parts, collection.name, total, say, give_up) if wait else True
    finally:
        await parts.library.close()
        await parts.database.close()


async def _work(parts: Services, name: str, total: int, say: Say, give_up: float) -> bool:
    started = told = time.monotonic()

    async def step() -> int:
        collection = await parts.indexer.open()
        return await parts.indexer.drain(collection)

    while True:
        taken = await _patiently(step, say, give_up)
        refused, reason = await parts.jobs.refused(name)
        left = await parts.jobs.backlog(name) - refused
        now = time.monotonic()
        if left <= 0 or now - told >= SAY_SECONDS:
            say(progress(total, left + refused, now - started))
            told = now
        if left <= 0:
            break
        if not taken:  # the rest is with other servers
            await asyncio.sleep(0.2)
    if refused:
        say(f"{refused} were refused and will be tried again by the servers: {reason}")
    return not refused


def progress(total: int, left: int, seconds: float) -> str:
    """How far it is; a rate and an estimate once there is one."""
    done = max(total - left, 0)
    percent = 100 * done // total if total else 100
    line = f"{done} of {total} records ({percent}%)"
    if not done or seconds <= 0:
        return line
    rate = done / seconds
    return f"{line}, {rate:.0f} a second" + (f", about {left / rate:.0f} s left" if left else "")


async def _patiently(work: Callable[[], Awaitable[T]], say: Say, give_up: float) -> T:
    """Try until it works.

    :raises UnavailableError: it has not for ``give_up`` seconds.
    """
    started = time.monotonic()
    told: str | None = None
    while True:
        try:
            return await work()
        except UnavailableError as error:
            if time.monotonic() - started > give_up:
                raise
            if error.message != told:
                say(f"waiting: {error.message}")
                told = error.message
        await asyncio.sleep(RETRY_SECONDS)


def main(*, drop: bool, wait: bool) -> int:
    """Exit status 0 when every record is indexed, 1 when not, 2 for wrong settings."""

    def say(line: str) -> None:
        print(f"reindex: {line}", file=sys.stderr, flush=True)

    try:
        settings = load_settings()
        configure_logging("error")
        return 0 if asyncio.run(reindex(settings, say, drop=drop, wait=wait)) else 1
    except SettingsError as error:
        say(error.message)
        return 2
    except Mem0ServerError as error:
        say(f"{error.message}; what is queued stays queued")
        return 1
    except KeyboardInterrupt:
        say("stopped; the servers go on with what is queued")
        return 1
