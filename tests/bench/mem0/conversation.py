"""Appending to a conversation and reading it: against mem0ai, at size, and against bare SQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from statistics import median

from tests.bench.mem0.load import Load, Request, Script, drive
from tests.bench.mem0.world import AGENT, CONNECTIONS, KEY, World
from tests.bench.rows import Row, compare, percentile

ROUNDS = 5
TEXT = "My train leaves at nine; remind me to take the blue folder along. "
SMALL, LARGE = 1_000, 1_000_000


def against_mem0ai(world: World) -> Iterator[Row]:
    """Append and recall(10), in turn on 32 connections."""
    ours = world.ours("conversation")
    world.humans(ours)
    peer = world.run("peer", BENCH_DSN=world.postgres.database("peer"))
    ours_loads, peer_loads = in_turns({ours: _ours, peer: _mem0ai}, seconds=3)
    name = "mem0ai's Memory behind FastAPI, pgvector"
    what = f"append and recall(10), {CONNECTIONS} connections"
    yield compare(
        row=what,
        unit="requests/s",
        ours=[load.rate for load in ours_loads],
        peer_name=name,
        peer=[load.rate for load in peer_loads],
        better="higher",
        goal=5,
        reason="one process serves, and all of the request's work is on its event loop; the peer's "
        "time is PostgreSQL's, on other cores",
    )
    yield compare(
        row=f"{what}: p99",
        unit="ms",
        ours=[_p99(load) for load in ours_loads],
        peer_name=name,
        peer=[_p99(load) for load in peer_loads],
        better="lower",
        goal=2,
        reason="on one event loop each request waits for those before it; full garbage "
        "collections, which stopped all of them for 0.2 s, find nothing to look at any more",
        note="; ".join(
            f"p99 of {kind} alone {_middle(ours_loads, kind):.0f} ms against "
            f"{_middle(peer_loads, kind):.0f} ms"
            for kind in ("append", "recall")
        ),
    )


def _p99(load: Load) -> float:
    return percentile([one for kind in load.latencies.values() for one in kind], 99)


def _middle(loads: list[Load], kind: str) -> float:
    return median(percentile(load.latencies[kind], 99) for load in loads)


def at_size(world: World) -> Row:
    """Append where a million messages are, against where a thousand are."""
    urls = {}
    for size in (LARGE, SMALL):
        url = world.ours(f"size{size}")
        world.humans(url)
        world.execute(
            world.dsn(f"size{size}"),
            f"INSERT INTO recall (agent_id, human_id, role, content) SELECT '{AGENT}',"
            f" 'h' || n % {CONNECTIONS}, 'user', '{TEXT}' FROM generate_series(1, {size}) n",
            "VACUUM ANALYZE recall",
            "CHECKPOINT",
        )
        urls[url] = _append
    large, small = in_turns(urls)
    return compare(
        row=f"append at {LARGE:,} messages",
        unit="requests/s",
        ours=[load.rate for load in large],
        peer_name=f"ourselves at {SMALL:,}",
        peer=[load.rate for load in small],
        better="higher",
        goal=0.8,
    )


def against_bare_insert(world: World) -> Row:
    """What validation, keys, metrics, logs and errors cost."""
    ours = world.ours("conversation")
    bare = world.run("bare", BENCH_DSN=world.dsn("conversation"))
    ours_loads, bare_loads = in_turns({ours: _append, bare: _append}, rounds=2 * ROUNDS + 1)
    return compare(
        row=f"append, {CONNECTIONS} connections",
        unit="requests/s",
        ours=[load.rate for load in ours_loads],
        peer_name="a bare asyncpg insert behind FastAPI",
        peer=[load.rate for load in bare_loads],
        better="higher",
        goal=0.6,
        reason="the key, the limits, the metrics and the log line are ours alone; the route itself "
        "goes past most of FastAPI, which the bare one pays for",
    )


def in_turns(
    scripts: Mapping[str, Script], *, rounds: int = ROUNDS, seconds: float = 2
) -> list[list[Load]]:
    """Drive each URL by its script, one after the other, several times; the loads of each."""
    loads: dict[str, list[Load]] = defaultdict(list)
    for _ in range(rounds):
        for url, script in scripts.items():
            loads[url].append(drive(url, KEY, script, connections=CONNECTIONS, seconds=seconds))
    return list(loads.values())


def _append(connection: int, turn: int) -> Request:
    path = f"/agents/{AGENT}/humans/h{connection}/recall"
    return Request("append", "POST", path, {"role": "user", "content": f"{TEXT}{turn}"})


def _ours(connection: int, turn: int) -> Request:
    append = _append(connection, turn)
    return append if turn % 2 == 0 else Request("recall", "GET", f"{append.path}?limit=10")


def _mem0ai(connection: int, turn: int) -> Request:
    if turn % 2:
        return Request("recall", "GET", f"/memories?user_id=h{connection}&limit=10")
    body = {
        "messages": [{"role": "user", "content": f"{TEXT}{turn}"}],
        "user_id": f"h{connection}",
        "agent_id": AGENT,
        "infer": False,
    }
    return Request("append", "POST", "/memories", body)
