"""The plain design, and the Mem0 that both sides read in these benchmarks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from cachetools import TTLCache

from app.rag.mem0_cached import CachedMem0Client
from app.rag.mem0_caches import DEFAULTS, MemoryCaches

AGENT = "metis_rag_agent"
PLAIN = "plain TTLCache"


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
