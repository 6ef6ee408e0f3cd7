"""What a Mem0 that does not answer costs a chat request: at first little, soon next to nothing."""

import asyncio
import os
import signal
import time
from statistics import median
from uuid import uuid4

import pytest

from app.rag.memory import FROZEN, HURRY, PATIENCE, UserMemory

LIMIT = 10.0
SLACK = 2.0
"""Seconds; for slow machines. Without the breaker, each of the first would wait ``LIMIT``."""
FIRST = 20


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_it_is_left_alone_at_once_and_asked_again_when_it_is_back(
    how, own_mem0, memory_at, eventually
):
    memory = memory_at(own_mem0, memory_time_limit=LIMIT)
    user_memory = UserMemory(memory.SETTINGS)
    known = str(uuid4())

    async def recollected(human):
        begun = time.perf_counter()
        recollection = await user_memory.recollect(human, ())
        return recollection, time.perf_counter() - begun

    def stopped():
        if how == "killed":
            own_mem0.stop(signal.SIGKILL)
        else:
            os.kill(own_mem0.server.child.pid, signal.SIGSTOP)

    def back():
        if how == "killed":
            own_mem0.start()
        else:
            os.kill(own_mem0.server.child.pid, signal.SIGCONT)

    assert await asyncio.to_thread(memory.store_message, known, "user", "hello")
    warm, _ = await recollected(known)
    assert (warm.status, [turn.content for turn in warm.history]) == ("ok", ["hello"])

    stopped()
    try:
        first = await asyncio.gather(*(recollected(str(uuid4())) for _ in range(FIRST)))
        assert {recollection.status for recollection, _ in first} == {"degraded"}
        assert max(took for _, took in first) < PATIENCE + FROZEN + SLACK < LIMIT
        assert memory.is_left_alone()

        later = [(await recollected(str(uuid4())))[1] for _ in range(50)]
        assert median(later) < 2 * HURRY
        cached, _ = await recollected(known)
        assert [turn.content for turn in cached.history] == ["hello"], "what is cached is told"
    finally:
        await asyncio.to_thread(back)
    await asyncio.to_thread(eventually, lambda: not memory.is_left_alone())
    again, _ = await recollected(known)
    assert again.status == "ok"
    await user_memory.close()


async def test_one_that_is_slow_but_serves_is_waited_for(own_mem0, memory_at):
    """As when its database is slow for a moment: the answer comes, the breaker stays closed."""
    memory = memory_at(own_mem0, memory_time_limit=LIMIT)
    user_memory = UserMemory(memory.SETTINGS)
    human = str(uuid4())
    assert await asyncio.to_thread(memory.store_message, human, "user", "hello")
    pid = own_mem0.server.child.pid
    loop = asyncio.get_running_loop()
    os.kill(pid, signal.SIGSTOP)
    loop.call_later(PATIENCE + FROZEN / 4, os.kill, pid, signal.SIGCONT)
    recollection = await user_memory.recollect(human, ())
    assert recollection.status == "ok"
    assert [turn.content for turn in recollection.history] == ["hello"]
    assert not memory.is_left_alone()
    await user_memory.close()
