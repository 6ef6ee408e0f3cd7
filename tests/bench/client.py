"""The cached memory client against the plain design.

The plain design: a key formatted as text, a ``TTLCache`` that is asked twice, no lock, no copy,
and a write that looks through all keys for those with its prefix. Both sides read the same
upstream, a Mem0 in this process that takes as long as it is told to.
"""

from __future__ import annotations

import asyncio
import gc
import random
import tempfile
import threading
import time
from bisect import bisect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import psycopg
from cachetools import TTLCache

from app.dev.postgres import Postgres
from app.rag.coherence import Coherence
from app.rag.mem0_cached import CachedMem0Client
from app.rag.mem0_caches import DEFAULTS, MemoryCaches
from app.rag.unblocked import unblocked
from tests.bench.rows import Row, compare

AGENT = "metis_rag_agent"
PLAIN = "plain TTLCache"
SAMPLES = 15
READS = 20_000

THREADS = 8
CALLERS = 1_000
UPSTREAM_SECONDS = 0.02

REPLICAS = 3
USERS = 10_000
ZIPF = 0.9
WRITES = 0.1
SECONDS = 12.0
PAUSE = 0.0006
ALLOWED = 0.1
"""Seconds after which a write of another replica must be seen."""


def rows() -> Iterator[Row]:
    """All rows of the group."""
    yield from cached_reads()
    yield threaded_reads()
    yield invalidation()
    yield from miss_storm()
    yield from zipf()


class Upstream:
    """What Mem0 is to both sides: a version a human, as ten messages."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.calls = 0
        self.seconds = seconds
        self.versions: dict[str, int] = {}

    def get_recall_memory(self, agent_id: str, human_id: str, limit: int = 10) -> list[Any]:
        self.calls += 1
        version = self.versions.get(human_id, 0)
        if self.seconds:
            time.sleep(self.seconds)
        return [
            {
                "id": f"{human_id}-{n}",
                "role": "user" if n % 2 else "assistant",
                "content": "What was said in the meeting about the new house? " * 2,
                "sequence": version,
                "created_at": "2026-01-01T12:00:00.000000+00:00",
            }
            for n in range(limit)
        ]

    def append_message(self, agent_id: str, human_id: str, **_: Any) -> None:
        self.versions[human_id] = self.versions.get(human_id, 0) + 1


class Plain:
    """The plain design."""

    def __init__(self, upstream: Upstream) -> None:
        self.client = upstream
        self.recall_cache: TTLCache[str, Any] = TTLCache(1000, 60)
        self.archival_cache: TTLCache[str, Any] = TTLCache(2000, 300)
        self.hits = 0

    def get_recall_memory(self, agent_id: str, human_id: str, limit: int = 10) -> list[Any]:
        key = f"{agent_id}:{human_id}:{limit}"
        if key in self.recall_cache:
            return self.recall_cache[key]
        messages = self.client.get_recall_memory(agent_id, human_id, limit)
        self.recall_cache[key] = messages
        return messages

    async def get_recall_memory_async(self, agent_id: str, human_id: str, limit: int = 10) -> Any:
        key = f"{agent_id}:{human_id}:{limit}"
        if key in self.recall_cache:
            return self.recall_cache[key]
        self.client.calls += 1
        await asyncio.sleep(self.client.seconds)
        self.recall_cache[key] = []
        return self.recall_cache[key]

    def append_message(self, agent_id: str, human_id: str, message: Any) -> bool:
        self.client.append_message(agent_id, human_id)
        self.forget(self.recall_cache, f"{agent_id}:{human_id}:")
        return True

    @staticmethod
    def forget(cache: TTLCache[str, Any], prefix: str) -> None:
        for key in list(cache.keys()):
            if key.startswith(prefix):
                cache.pop(key, None)


def ours(upstream: Any) -> CachedMem0Client:
    return CachedMem0Client(upstream, MemoryCaches(DEFAULTS))


def seconds(call: Callable[[], Any], times: int) -> float:
    """Of one call, in a loop of ``times``."""
    began = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - began) / times


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
        began = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(CALLERS)))
        return (time.perf_counter() - began) * 1e3

    def mine() -> tuple[float, int]:
        gc.collect()
        client = ours(Upstream(UPSTREAM_SECONDS))
        with ThreadPoolExecutor(16) as pool:
            pool.submit(int).result()

            def read() -> Any:
                return client.get_recall_memory(AGENT, "ann", 10)

            return asyncio.run(storm(lambda: unblocked(read, pool))), client.client.calls

    def theirs() -> tuple[float, int]:
        plain = Plain(Upstream(UPSTREAM_SECONDS))
        read = plain.get_recall_memory_async
        return asyncio.run(storm(lambda: read(AGENT, "ann", 10))), plain.client.calls

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
        note="tasks of one event loop, each with a copy of its own; where missed: asking and "
        "answering takes the loop some 14 µs a caller, and half of that comes after the call",
    )


@dataclass
class Trace:
    """What one replica does, and what became of it."""

    users: list[str]
    writes: list[bool]
    served: int = 0
    reads: int = 0
    stale: int = 0
    untrue_hits: int = 0
    latest: list[float] = field(default_factory=list)


class Truth:
    """When each version of each human was acknowledged, and by whom."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._acknowledged: dict[str, list[tuple[float, int]]] = {}

    def write(self, client: Any, user: str, replica: int) -> None:
        with self._lock:  # versions and their times in one order
            client.append_message(AGENT, user, {"role": "user", "content": "x"})
            self._acknowledged.setdefault(user, []).append((time.monotonic(), replica))

    def behind(self, user: str, version: int, asked: float, replica: int) -> tuple[bool, bool]:
        """Whether ``version`` was too old to be shown at ``asked``, and whether it was untrue."""
        missed = [
            (moment, by)
            for moment, by in self._acknowledged.get(user, [])[version:]
            if moment < asked
        ]
        late = any(by == replica or asked - moment > ALLOWED for moment, by in missed)
        return late, bool(missed)


def zipf() -> Iterator[Row]:
    mine, theirs = zipf_run(True), zipf_run(False)
    raw = [sum(t.served for t in run) / sum(t.reads for t in run) for run in (mine, theirs)]
    true = [
        (sum(t.served - t.untrue_hits for t in run)) / sum(t.reads for t in run)
        for run in (mine, theirs)
    ]
    what = f"{USERS:,} users, Zipf {ZIPF}, 10% writes, {REPLICAS} replicas"
    yield compare(
        row=f"{what}: hit rate",
        unit="share of reads",
        ours=[true[0]],
        peer_name=PLAIN,
        peer=[true[1]],
        better="higher",
        goal=1.0,
        note="reads served from the cache with what was true then; counting what was not, "
        f"{raw[0]:.3f} against {raw[1]:.3f}",
    )
    stale = [sum(t.stale for t in run) for run in (mine, theirs)]
    yield compare(
        row=f"{what}: stale reads",
        unit=f"of {sum(t.reads for t in mine):,}",
        ours=[stale[0]],
        peer_name=PLAIN,
        peer=[stale[1]],
        better="lower",
        at_most=0.0,
        note="shown though a newer version was acknowledged by the same replica, or by another "
        f"one more than {ALLOWED * 1000:.0f} ms before",
    )


def zipf_run(coherent: bool) -> list[Trace]:
    weights = list(accumulate(1 / rank**ZIPF for rank in range(1, USERS + 1)))
    chance = random.Random(7)
    count = int(SECONDS / PAUSE)
    traces = [
        Trace(
            [f"user-{bisect(weights, chance.random() * weights[-1])}" for _ in range(count)],
            [chance.random() < WRITES for _ in range(count)],
        )
        for _ in range(REPLICAS)
    ]
    upstream, truth = Upstream(), Truth()
    with ExitStack() as stack:
        clients: list[Any] = [
            ours(upstream) if coherent else Plain(upstream) for _ in range(REPLICAS)
        ]
        if coherent:
            cohere(clients, stack)
        end = time.monotonic() + SECONDS
        with ThreadPoolExecutor(REPLICAS) as pool:
            for done in [
                pool.submit(replay, clients[n], traces[n], truth, n, end) for n in range(REPLICAS)
            ]:
                done.result()
    return traces


def cohere(clients: list[Any], stack: ExitStack) -> None:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
    folder.chmod(0o755)
    database = Postgres(folder / "pg", folder / "log", durable=False)
    database.start()
    stack.callback(database.stop)

    class Door:
        def connect(self) -> Any:
            return psycopg.connect(database.dsn(), autocommit=True)

        def changed(self) -> bool:
            return False

    for client in clients:
        coherence = Coherence(Door(), client.caches)
        coherence.start()
        stack.callback(coherence.stop)
    deadline = time.monotonic() + 30
    while any(c.caches["recall"].trusted_until < time.monotonic() for c in clients):
        if time.monotonic() > deadline:
            raise TimeoutError("the replicas never heard each other")
        time.sleep(0.01)


def replay(client: Any, trace: Trace, truth: Truth, replica: int, end: float) -> None:
    for user, writes in zip(trace.users, trace.writes, strict=True):
        if time.monotonic() > end:
            return
        if writes:
            truth.write(client, user, replica)
        else:
            asked = time.monotonic()
            served = hits(client, user)
            version = client.get_recall_memory(AGENT, user, 10)[0]["sequence"]
            late, untrue = truth.behind(user, version, asked, replica)
            trace.reads += 1
            trace.served += served
            trace.stale += late
            trace.untrue_hits += served and untrue
        time.sleep(PAUSE)


def hits(client: Any, user: str) -> bool:
    """Whether the next read will be served from the cache."""
    if isinstance(client, Plain):
        return f"{AGENT}:{user}:10" in client.recall_cache
    return ((AGENT, user), (10,)) in client.recall_cache
