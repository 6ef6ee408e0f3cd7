"""What memory costs a chat request: the engine's own calls, a real PostgreSQL and a real Mem0."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from statistics import median
from uuid import uuid4

from app.core.config import Settings, load_settings
from app.db import session
from app.db.migrate import migrate
from app.dev.postgres import Postgres
from app.dev.servers import Server, free_port, mem0_server
from app.rag import conversations, mem0_client, outbox
from app.rag.delivery import Deliverer
from app.rag.mem0_upkeep import upkeep
from app.rag.memory import UserMemory
from app.rag.types import Source
from tests.bench.rows import Row, bound, percentile

REQUESTS = 150
WARM_UP = 20
USER = "ann"
DELIVERY_LIMIT = 30.0
AT_ONCE, AFTERWARDS = 20, 500


def bookkeeping() -> Iterator[Row]:
    with ExitStack() as stack:
        settings, mem0 = _servers(stack)
        times = asyncio.run(_requests(settings))[WARM_UP:]
        yield from without_mem0(settings, mem0)
    bare = median(one[2] for one in times)
    what_is_in_it = (
        "question and answer stored, memory read and told; Mem0's answers are cached, delivery to "
        "it runs behind; PostgreSQL syncs every commit to disk"
    )
    for what, which, limit, note in (
        ("beside the durable commits", 0, 1.0, what_is_in_it),
        (
            "with the two durable commits",
            1,
            5.0,
            f"two commits of one bare row each took {bare:.1f} ms here at the same time",
        ),
    ):
        yield bound(
            row=f"chat bookkeeping, warm, p50 per request, {what}",
            unit="ms",
            ours=[one[which] for one in times],
            limit=limit,
            better="lower",
            note=note,
        )


def without_mem0(settings: Settings, mem0: Server) -> Iterator[Row]:
    """What it costs to ask for memory while Mem0 does not answer, of users not seen before."""
    for how, first in (("frozen", signal.SIGSTOP), ("killed", signal.SIGKILL)):
        begun, later = asyncio.run(_recollected(settings, mem0, first))
        while first == signal.SIGSTOP and mem0_client.is_left_alone():
            time.sleep(0.05)
        yield bound(
            row=f"a {how} Mem0 in a chat request, p99 of what memory takes",
            unit="ms",
            ours=[percentile(later, 99)],
            limit=5.0,
            better="lower",
            note=f"{len(later)} requests after it was noticed, p50 {median(later):.1f} ms; the "
            f"{len(begun)} that asked at once when it happened waited {max(begun):.0f} ms at most",
        )


async def _recollected(
    settings: Settings, mem0: Server, how: signal.Signals
) -> tuple[list[float], list[float]]:
    """Milliseconds of the first requests, all at once, and of those afterwards."""
    mem0_client.SETTINGS, mem0_client._mem0_client = settings, None
    memory = UserMemory(settings)

    async def one() -> float:
        began = time.perf_counter()
        known = await memory.recollect(str(uuid4()), ())
        if known.status != "degraded":
            raise RuntimeError(f"memory is {known.status}")
        return (time.perf_counter() - began) * 1e3

    if (await memory.recollect(USER, ())).status != "ok" or mem0.child is None:
        raise RuntimeError("Mem0 does not serve")
    pid = mem0.child.pid
    os.kill(pid, how)
    try:
        begun = await asyncio.gather(*(one() for _ in range(AT_ONCE)))
        return begun, [await one() for _ in range(AFTERWARDS)]
    finally:
        if how == signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)
        await memory.close()


def _servers(stack: ExitStack) -> tuple[Settings, Server]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
    folder.chmod(0o755)
    keys = folder / "keys"
    keys.mkdir()
    key = f"mk_{secrets.token_urlsafe(32)}"
    (keys / "current").write_text(key)
    database = Postgres(folder / "pg", folder / "pg.log")
    database.start()
    stack.callback(database.stop)
    mem0 = mem0_server(
        free_port(),
        folder / "mem0.log",
        dsn=database.database("mem0"),
        keys=keys,
        ollama_url=f"http://127.0.0.1:{free_port()}",  # nobody: no row here is about a model
        models=("chat-model", "embed-model"),
        scratch=folder / "mem0",
    )
    mem0.prepare()
    mem0.start()
    stack.callback(mem0.stop)
    settings = load_settings(
        database_url=database.database("metis"),
        mem0_endpoint=mem0.url,
        mem0_api_key=key,
        auth_mode="none",
    )
    migrate(settings)
    return settings, mem0


async def _requests(settings: Settings) -> list[tuple[float, float, float]]:
    """Milliseconds of each request: beside the commits, with them, and of two bare commits."""
    mem0_client.SETTINGS, mem0_client._mem0_client = settings, None
    async with AsyncExitStack() as stack:
        database = session.bind(settings)
        stack.push_async_callback(database.dispose)
        await stack.enter_async_context(upkeep(settings))
        memory = UserMemory(settings)
        stack.push_async_callback(memory.close)
        deliverer = Deliverer()
        deliverer.start()
        stack.push_async_callback(deliverer.stop)
        first = await conversations.ask(USER, None, "Hello?", 8, remember=True)
        async with session.driver() as connection:
            await connection.execute("CREATE TABLE bare (number integer)")
        times = []
        for number in range(WARM_UP + REQUESTS):
            await _delivered()
            await memory.overview(USER)  # as the page does
            beside, whole = await _request(memory, first.id, number)
            times.append((beside, whole, await _two_bare_commits(number)))
        return times


async def _two_bare_commits(number: int) -> float:
    began = time.perf_counter()
    for _ in range(2):
        async with session.driver() as connection:
            await connection.execute("INSERT INTO bare VALUES ($1)", number)
    return (time.perf_counter() - began) * 1e3


async def _request(memory: UserMemory, conversation: object, number: int) -> tuple[float, float]:
    document = f"document-{number % 5}"
    used = [Source(1, document, document, "1", 1, "Rules", "Every rule has its exception.", 0.9)]
    said = "Every rule has its exception, and this one has two of them [1]. " * 5
    began = time.perf_counter()
    begun = await conversations.ask(
        USER,
        conversation,
        "Which rules have exceptions?",
        8,
        remember=True,  # type: ignore[arg-type]
    )
    asked = time.perf_counter()
    known = await memory.recollect(USER, begun.waiting, begun.question_id)
    answer_id = uuid4()
    notes = memory.notes_of(answer_id, said, used)
    noted = time.perf_counter()
    await conversations.answer(USER, begun.id, answer_id, said, used, notes)
    done = time.perf_counter()
    if known.status != "ok":
        raise RuntimeError(f"memory is {known.status}")
    return (noted - asked) * 1e3, (done - began) * 1e3


async def _delivered() -> None:
    deadline = time.monotonic() + DELIVERY_LIMIT
    while (await outbox.state(USER)).waiting:
        if time.monotonic() > deadline:
            raise TimeoutError("the outbox was not delivered")
        await asyncio.sleep(0.01)
