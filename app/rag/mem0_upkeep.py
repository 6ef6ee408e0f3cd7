"""What the memory client needs done while the app runs: coherent caches, and limits as set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from app.core.config import Settings, config_file, load_settings
from app.core.logging import get_logger
from app.errors import ConfigurationError
from app.rag import mem0_client
from app.rag.coherence import Coherence, Login
from app.rag.mem0_caches import MemoryCaches, limits_from

LOOK_EVERY = 1.0
"""Seconds between two looks at the configuration file."""

log = get_logger(__name__)


@asynccontextmanager
async def upkeep(settings: Settings) -> AsyncIterator[None]:
    """Keep the process's memory client in shape for as long as the context is open."""
    client = await asyncio.to_thread(mem0_client.shared_client)
    if client is None:
        yield
        return
    coherence = Coherence(Login(settings), client.caches)
    coherence.start()
    file = config_file()
    following = asyncio.create_task(_follow(file, _version(file), client.caches))
    try:
        yield
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await asyncio.to_thread(coherence.stop)


async def _follow(file: Path | None, seen: object, caches: MemoryCaches) -> None:
    """Give the caches the limits that the configuration file sets, whenever it changes."""
    while file is not None:
        await asyncio.sleep(LOOK_EVERY)
        found = _version(file)
        if found in (None, seen):
            continue
        seen = found
        try:
            limits = limits_from(await asyncio.to_thread(load_settings))
        except ConfigurationError as error:
            log.warning("memory_limits_unchanged", cause=str(error))
            continue
        caches.tune(limits)
        log.info("memory_limits_read", limits={name: str(of) for name, of in limits.items()})


def _version(file: Path | None) -> object:
    """Something that differs when the file does; ``None`` when it cannot be told."""
    if file is None:
        return None
    try:
        stat = file.stat()
    except OSError:  # the kubelet is just swapping it
        return None
    return (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)
