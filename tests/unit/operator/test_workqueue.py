from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from metis_operator.workqueue import Queue


class Work:
    """Runs that end when told to, and that count themselves."""

    def __init__(self, *, hold: bool = False, succeed: bool = True) -> None:
        self.started: list[str] = []
        self.gate = asyncio.Event()
        self.succeed = succeed
        self.running = 0
        self.most = 0
        if not hold:
            self.gate.set()

    async def __call__(self, key: str) -> bool:
        self.started.append(key)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        return self.succeed


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not check():  # noqa: ASYNC110  the queue has no event for what is asked here
            await asyncio.sleep(0)


async def idle(queue: Queue[str]) -> None:
    await until(lambda: not queue._states and not queue._tasks)


async def test_many_wakes_are_one_run_and_one_more() -> None:
    work = Work(hold=True)
    queue = Queue(work, settle=0)
    for _ in range(5):
        queue.wake("a")
    await until(lambda: len(work.started) == 1)
    for _ in range(5):
        queue.wake("a")
    work.gate.set()
    await idle(queue)
    assert work.started == ["a", "a"]


async def test_keys_run_beside_each_other_up_to_the_limit() -> None:
    work = Work(hold=True)
    queue = Queue(work, concurrency=2)
    for key in "abcd":
        queue.wake(key)
    await until(lambda: work.running == 2)
    work.gate.set()
    await idle(queue)
    assert sorted(work.started) == list("abcd")
    assert work.most == 2


async def test_a_failed_run_is_tried_again_at_growing_intervals() -> None:
    work = Work(succeed=False)
    queue = Queue(work, first=0.01, longest=0.02)
    queue.wake("a")
    await until(lambda: len(work.started) >= 4)
    work.succeed = True
    await idle(queue)


async def test_only_what_is_urgent_hurries_a_failed_run() -> None:
    work = Work(succeed=False)
    queue = Queue(work, first=3600)
    queue.wake("a")
    await until(lambda: len(work.started) == 1 and not work.running and not queue._tasks)
    queue.wake("a")
    await asyncio.sleep(0.01)
    assert len(work.started) == 1
    work.succeed = True
    queue.wake("a", urgent=True)
    await idle(queue)
    assert len(work.started) == 2


async def test_urgent_news_during_a_run_that_fails_is_not_held_back() -> None:
    work = Work(hold=True, succeed=False)
    queue = Queue(work, first=3600, settle=0)
    queue.wake("a")
    await until(lambda: work.running == 1)
    queue.wake("a", urgent=True)
    work.gate.set()
    await until(lambda: len(work.started) == 2)
    await queue.close()


async def test_a_bug_in_one_run_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    async def work(key: str) -> bool:
        calls.append(key)
        if len(calls) == 1:
            raise KeyError("oops")
        return True

    queue = Queue(work, first=0.001)
    queue.wake("a")
    await idle(queue)
    assert calls == ["a", "a"]


async def test_closing_ends_what_runs() -> None:
    work = Work(hold=True)
    queue = Queue(work)
    queue.wake("a")
    await until(lambda: work.running == 1)
    await queue.close()
    assert work.running == 0
