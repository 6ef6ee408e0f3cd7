"""Reads, misses and invalidations of one replica."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvloop

from app.core.collector import settle
from app.rag.unblocked import unblocked
from tests.bench.client._plain import AGENT, PLAIN, Plain, Upstream, ours, seconds
from tests.bench.rows import Row, compare

SAMPLES = 15
READS = 20_000
THREADS = 8
CALLERS = 1_000
UPSTREAM_SECONDS = 0.02


def side_by_side(
    mine: Callable[[], Any], theirs: Callable[[], Any], times: int
) -> tuple[list[float], list[float]]:
    """Microseconds a call, in turns, so that both sides meet the same machine."""
    pairs = [(seconds(mine, times), seconds(theirs, times)) for _ in range(SAMPLES)]
    return [a * 1e6 for a, _ in pairs], [b * 1e6 for _, b in pairs]


def cached_reads() -> Iterator[Row]:
    client, plain = ours(Upstream()), Plain(Upstream())
    for read, at_most, what in (
        (client.get_recall_memory, 2.0, "copied"),
        (client.view_recall_memory, 1.0, "unchangeable view"),
    ):
        mine, theirs = side_by_side(
            lambda read=read: read(AGENT, "ann", 10),
            lambda: plain.get_recall_memory(AGENT, "ann", 10),
            READS,
        )
        yield compare(
            row=f"cached read of 10 messages, 1 thread, {what}",
            unit="µs",
            ours=mine,
            peer_name=PLAIN,
            peer=theirs,
            better="lower",
            at_most=at_most,
            note="ours is locked, counted and guarded against failures; the peer hands out its "
            "own list",
        )


def threaded_reads() -> Row:
    """Eight threads over 1,000 humans, a full cache; every 200th read follows a write."""
    humans = [f"human-{n}" for n in range(1_000)]

    def rate(client: Any) -> float:
        usual, client.client.seconds = client.client.seconds, 0.0
        for human in humans:
            client.get_recall_memory(AGENT, human, 10)
        client.client.seconds = usual
        together = threading.Barrier(THREADS + 1)

        def work(seed: int) -> None:
            chosen = random.Random(seed).choices(humans, k=4_000)
            together.wait()
            for n, human in enumerate(chosen):
                if n % 200 == 199:
                    client.append_message(AGENT, human, {"role": "user", "content": "x"})
                read(AGENT, human, 10)

        read = getattr(client, "view_recall_memory", client.get_recall_memory)
        with ThreadPoolExecutor(THREADS) as pool:
            done = [pool.submit(work, seed) for seed in range(THREADS)]
            together.wait()
            began = time.perf_counter()
            for one in done:
                one.result()
            return THREADS * 4_000 / (time.perf_counter() - began)

    pairs = [(rate(ours(Upstream(0.001))), rate(Plain(Upstream(0.001)))) for _ in range(7)]
    return compare(
        row="cached read, 8 threads, misses mixed in",
        unit="reads/s",
        ours=[a for a, _ in pairs],
        peer_name=PLAIN,
        peer=[b for _, b in pairs],
        better="higher",
        goal=1.0,
        note="one read in 200 misses, after a write, and takes 1 ms; ours reads views",
    )


def invalidation() -> Row:
    client, plain = ours(Upstream()), Plain(Upstream())
    for n in range(2_000):
        client.caches["archival"].read((AGENT, f"human-{n}", "note"), (10,), list)
        plain.archival_cache[f"{AGENT}:human-{n}:note:10"] = []

    def refill() -> None:
        client.caches["archival"].read((AGENT, "human-1000", "note"), (10,), list)

    def theirs() -> None:
        plain.forget(plain.archival_cache, f"{AGENT}:human-1000:note:")
        plain.archival_cache[f"{AGENT}:human-1000:note:10"] = []

    def drop_alone() -> float:
        spent = 0.0
        for _ in range(200):
            refill()
            began = time.perf_counter()
            client.caches.drop("archival", (AGENT, "human-1000", "note"))
            spent += time.perf_counter() - began
        return spent / 200 * 1e6

    return compare(
        row="invalidation with 2,000 cached entries",
        unit="µs",
        ours=[drop_alone() for _ in range(SAMPLES)],
        peer_name=PLAIN,
        peer=[seconds(theirs, 50) * 1e6 for _ in range(SAMPLES)],
        better="lower",
        goal=20.0,
        note="entries are indexed by what invalidates them",
    )


def miss_storm() -> Iterator[Row]:
    async def storm(call: Callable[[], Any]) -> float:
        """Milliseconds from the first question to the last answer, of callers who are there."""
        start = asyncio.Event()
        ended: list[float] = []

        async def caller() -> None:
            await start.wait()
            await call()
            ended.append(time.perf_counter())

        callers = [asyncio.ensure_future(caller()) for _ in range(CALLERS)]
        await asyncio.sleep(0)
        began = time.perf_counter()
        start.set()
        await asyncio.gather(*callers)
        return (max(ended) - began) * 1e3

    def mine() -> tuple[float, int]:
        client = ours(Upstream(UPSTREAM_SECONDS))
        with ThreadPoolExecutor(16) as pool:
            pool.submit(int).result()

            def read() -> Any:
                return client.get_recall_memory(AGENT, "ann", 10)

            return uvloop.run(storm(lambda: unblocked(read, pool))), client.client.calls

    def theirs() -> tuple[float, int]:
        plain = Plain(Upstream(UPSTREAM_SECONDS))
        read = plain.get_recall_memory_async
        return uvloop.run(storm(lambda: read(AGENT, "ann", 10))), plain.client.calls

    settle()  # as the app does, whose event loop this is
    upstream = Upstream(UPSTREAM_SECONDS)
    one = [seconds(lambda: upstream.get_recall_memory(AGENT, "ann"), 1) * 1e3 for _ in range(9)]
    mines, peers = [mine() for _ in range(9)], [theirs() for _ in range(3)]
    yield compare(
        row="miss storm of 1,000 callers, upstream calls",
        unit="calls",
        ours=[calls for _, calls in mines],
        peer_name=PLAIN,
        peer=[calls for _, calls in peers],
        better="lower",
        at_most=1 / CALLERS,
    )
    yield compare(
        row="miss storm of 1,000 callers, wall time",
        unit="ms",
        ours=[wall for wall, _ in mines],
        peer_name="one call of 20 ms",
        peer=one,
        better="lower",
        at_most=1.2,
        note="tasks of one event loop, which are there when the clock starts; each gets a copy "
        "of its own",
        reason="waking a caller, reading again and copying takes the loop a few µs, a thousand "
        "times after the call",
    )
