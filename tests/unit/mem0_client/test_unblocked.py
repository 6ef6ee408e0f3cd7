"""Synchronous reads on an event loop: warm without a thread, cold without blocking."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.rag.cache import Limits, ReadThrough
from app.rag.unblocked import refuse_to_wait, unblocked


@pytest.fixture
def executor():
    with ThreadPoolExecutor(4) as made:
        yield made


@pytest.fixture
def cache():
    return ReadThrough(Limits(100, 60))


async def until(condition):
    """Let the loop go on until it holds; the test's own timeout ends what never does."""

    def wait():
        while not condition():
            time.sleep(0.001)

    await asyncio.to_thread(wait)


class Upstream:
    """Loads that wait to be released and know in which thread they ran."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.released = threading.Event()

    def load(self, answer):
        def load():
            self.calls.append(threading.get_ident())
            assert self.released.wait(10)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return load


async def test_what_is_at_hand_needs_no_thread(cache):
    cache.read(("a",), (), lambda: [1])
    nobody = ThreadPoolExecutor(1)
    nobody.shutdown()
    assert await unblocked(lambda: cache.read(("a",), (), pytest.fail), nobody) == [1]
    with pytest.raises(RuntimeError, match="stopping"):
        await unblocked(lambda: cache.read(("b",), (), pytest.fail), nobody)


async def test_misses_are_loaded_in_threads_one_after_the_other_while_the_loop_goes_on(
    cache, executor
):
    upstream = Upstream()

    def call():
        first = cache.read(("a",), (), upstream.load(["a"]))
        return first + cache.read(("b",), (), upstream.load(["b"]))

    task = asyncio.create_task(unblocked(call, executor))
    await until(lambda: upstream.calls)
    upstream.released.set()
    assert await asyncio.wait_for(task, 10) == ["a", "b"]
    assert len(upstream.calls) == 2
    assert threading.get_ident() not in upstream.calls
    assert (cache.stats().loads, cache.stats().misses) == (2, 2)


async def test_many_tasks_and_threads_that_miss_one_key_make_one_load(cache, executor):
    upstream = Upstream()

    def call():
        return cache.read(("a",), (), upstream.load([1]))

    tasks = [asyncio.create_task(unblocked(call, executor)) for _ in range(1000)]
    with ThreadPoolExecutor(1) as other:
        thread = other.submit(call)
        await until(lambda: cache.stats().misses == 1001)
        upstream.released.set()
        answers = await asyncio.wait_for(asyncio.gather(*tasks), 30)
        assert thread.result(10) == [1]
    assert answers == [[1]] * 1000
    assert len({id(answer) for answer in answers}) == 1000
    assert len(upstream.calls) == 1


async def test_a_first_caller_who_is_cancelled_leaves_the_others_their_load(cache, executor):
    upstream = Upstream()

    def call():
        return cache.read(("a",), (), upstream.load([1]))

    first = asyncio.create_task(unblocked(call, executor))
    await until(lambda: upstream.calls)
    second = asyncio.create_task(unblocked(call, executor))
    await until(lambda: cache.stats().misses == 2)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    upstream.released.set()
    assert await asyncio.wait_for(second, 10) == [1]
    assert len(upstream.calls) == 1
    assert cache.read(("a",), (), pytest.fail) == [1]


async def test_a_load_that_fails_fails_the_read_within_the_call(cache, executor):
    upstream = Upstream()
    upstream.released.set()

    def call():
        try:
            return cache.read(("a",), (), upstream.load(ValueError("no")))
        except ValueError:
            return cache.read(("b",), (), upstream.load(["instead"]))

    assert await unblocked(call, executor) == ["instead"]
    assert len(upstream.calls) == 2


async def test_without_trust_every_read_is_loaded_once(cache, executor):
    upstream = Upstream()
    upstream.released.set()
    cache.trusted_until = float("-inf")

    def call():
        first = cache.read(("a",), (), upstream.load(["a"]))
        return first + cache.read(("b",), (), upstream.load(["b"]))

    for count in (2, 4):
        assert await unblocked(call, executor) == ["a", "b"]
        assert len(upstream.calls) == count


async def test_a_call_that_waits_for_something_else_runs_in_a_thread_as_a_whole(cache, executor):
    ran_in = []

    def call():
        known = cache.read(("a",), (), lambda: [1])
        refuse_to_wait()
        ran_in.append(threading.get_ident())
        return known

    assert await unblocked(call, executor) == [1]
    assert ran_in != [threading.get_ident()]
    refuse_to_wait()  # and nothing is left of it on this thread
