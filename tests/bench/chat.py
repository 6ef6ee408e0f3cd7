"""What a chat request spends on bookkeeping: its question, what is known of the user, its answer.

The real statements on a PostgreSQL that syncs its commits to the disk, and a real Mem0 server
behind warm caches; what a model and a search would take is left out.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from uuid import UUID, uuid4

import psycopg

from app.core.config import Settings, load_settings
from app.db import session
from app.db.migrate import migrate
from app.dev.postgres import Postgres
from app.dev.servers import free_port, mem0_server
from app.rag import conversations, mem0_client
from app.rag.delivery import Deliverer
from app.rag.mem0_upkeep import upkeep
from app.rag.memory import HISTORY_LIMIT, UserMemory
from app.rag.types import Source
from tests.bench.rows import Row, compare

REQUESTS = 150
WARM_SECONDS = 30.0
EARLIER = 8
KEY = "mk_" + "b" * 43
SOURCES = [
    Source(n, str(uuid4()), "handbook.md", str(uuid4()), n, "Leave", "Some text. " * 60, 0.8)
    for n in range(1, 7)
]


def rows() -> Iterator[Row]:
    """With the durable commit, and beside it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        database = Postgres(folder / "pg", folder / "log")
        database.start()
        (folder / "keys").mkdir()
        (folder / "keys" / "current").write_text(KEY)
        nobody = f"http://127.0.0.1:{free_port()}"
        mem0 = mem0_server(
            free_port(), folder / "mem0.log", dsn=database.database("mem0"), keys=folder / "keys",
            ollama_url=nobody, models=("chat-model", "embed-model"), scratch=folder / "scratch",
        )  # fmt: skip
        try:
            mem0.prepare()
            mem0.start()
            dsn = database.database("metis")
            settings = load_settings(
                database_url=dsn, mem0_endpoint=mem0.url, mem0_api_key=KEY, auth_mode="none"
            )
            migrate(settings)
            mem0_client.SETTINGS = settings
            durable = asyncio.run(measure(settings))
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("ALTER DATABASE metis SET synchronous_commit = off")
            beside = asyncio.run(measure(settings))
        finally:
            mem0_client._mem0_client = None
            mem0.stop()
            database.stop()
    stages = ", ".join(f"{name} {median_of(beside, name):.2f}" for name in beside)
    for what, found, limit in (
        ("with the durable commit", durable, 5.0),
        ("beside the durable commit", beside, 1.0),
    ):
        yield compare(
            row=f"chat bookkeeping, warm, per request, {what}",
            unit="ms",
            ours=found["total"],
            peer_name="the limit",
            peer=[limit],
            better="lower",
            at_most=1.0,
            note=f"p50 of {REQUESTS} requests; without waiting for the disk, in ms: {stages}",
        )


async def measure(settings: Settings) -> dict[str, list[float]]:
    """Milliseconds of each stage, of requests of one user after another's reply."""
    database = session.bind(settings)
    memory = UserMemory(settings)
    deliverer = Deliverer()
    found: dict[str, list[float]] = {"ask": [], "recollect": [], "answer": [], "total": []}
    async with upkeep(settings):
        deliverer.start()
        conversation: UUID | None = None
        for number in range(REQUESTS + 10):
            conversation, took = await request(memory, conversation, f"question {number}")
            if number >= 10:
                for name, milliseconds in zip(found, (*took, sum(took)), strict=True):
                    found[name].append(milliseconds)
            await until_warm()
        await deliverer.stop()
    await memory.close()
    await database.dispose()
    return found


async def request(
    memory: UserMemory, conversation: UUID | None, question: str
) -> tuple[UUID, list[float]]:
    """What the engine does around retrieval and generation."""
    times = [time.perf_counter()]
    begun = await conversations.ask("ann", conversation, question, EARLIER, remember=True)
    times.append(time.perf_counter())
    await memory.recollect("ann", begun.waiting, begun.question_id)
    times.append(time.perf_counter())
    answer_id = uuid4()
    notes = memory.notes_of(answer_id, "An answer [1] of some length. " * 10, SOURCES[:2])
    await conversations.answer("ann", begun.id, answer_id, "An answer [1].", SOURCES, notes)
    times.append(time.perf_counter())
    return begun.id, [(b - a) * 1000 for a, b in pairwise(times)]


async def until_warm() -> None:
    """Wait until the delivery is done and its caches are filled again, as while a user reads."""
    client = mem0_client.shared_client()
    if client is None:
        raise AssertionError("memory is on")
    key = ((mem0_client.METIS_AGENT_ID, "ann"), (HISTORY_LIMIT + 1,))
    deadline = time.monotonic() + WARM_SECONDS
    calm = 0
    while calm < 3:
        await asyncio.sleep(0.02)
        calm = calm + 1 if key in client.recall_cache else 0
        if time.monotonic() > deadline:
            raise TimeoutError("the caches do not become warm")


def median_of(found: dict[str, list[float]], name: str) -> float:
    """The median of a stage in ms."""
    return sorted(found[name])[len(found[name]) // 2]
