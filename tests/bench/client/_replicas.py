"""Three replicas with caches, coherent and not, under the same load."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from bisect import bisect
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import psycopg

from app.dev.postgres import Postgres
from app.rag.coherence import Coherence
from tests.bench.client._plain import AGENT, PLAIN, Plain, Upstream, ours
from tests.bench.rows import Row, compare

REPLICAS = 3
USERS = 10_000
ZIPF = 0.9
WRITES = 0.1
SECONDS = 12.0
PAUSE = 0.0006
ALLOWED = 0.1
"""Seconds after which a write of another replica must be seen."""


@dataclass
class Trace:
    """What one replica does, and what became of it."""

    users: list[str]
    writes: list[bool]
    served: int = 0
    reads: int = 0
    stale: int = 0
    untrue_hits: int = 0


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
