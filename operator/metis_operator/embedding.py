"""Asks the app how far a change of the embedding model is, while one is wanted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from .cluster import Cluster
from .core import embedding
from .core.embedding import State
from .core.objects import SECRET, Key, Object
from .core.values import get
from .observe import Instance, Store
from .run import Run
from .witness import Witnesses

# How soon to look again while it moves; more often nothing is asked and nothing written.
_AGAIN = 3.0


class Embeddings:
    """What is told of the indexes of all instances; ``wake`` asks for a reconcile."""

    def __init__(self, cluster: Cluster, store: Store, wake: Callable[[Instance], None]) -> None:
        self._cluster = cluster
        self._store = store
        self._wake = wake
        self._witnesses = Witnesses(self._secret)
        self._asked: dict[Instance, float] = {}
        self._timers: dict[Instance, asyncio.TimerHandle] = {}

    async def look(self, run: Run, values: Mapping[str, Any]) -> dict[str, Any]:
        """The entry of the status; empty where no change is wanted."""
        before = dict(run.before.get("embedding") or {})
        if not get(values, "models.reindex", False) or values.get("suspend"):
            self.forget(run.instance)
            return {}
        wanted = embedding.wanted_model(run.desired)
        if not wanted:
            return before
        news = before.get("wanted") != wanted
        settled = before.get("state") == State.COMPLETE and not news
        lately = time.monotonic() - self._asked.get(run.instance, float("-inf")) < _AGAIN
        if not settled:
            self._wake_later(run.instance)
        if lately and not news:
            return before
        pod = embedding.witness(self._store.children(run.instance))
        body = None if pod is None else await self._witnesses.index(pod)
        self._asked[run.instance] = time.monotonic()
        if body is None:
            return {} if news else before
        return embedding.status_of(body, wanted)

    def forget(self, instance: Instance) -> None:
        """Nothing is to be asked of it any more."""
        self._asked.pop(instance, None)
        timer = self._timers.pop(instance, None)
        if timer is not None:
            timer.cancel()

    async def close(self) -> None:
        """Wake nobody any more, and close the connections."""
        for timer in self._timers.values():
            timer.cancel()
        await self._witnesses.close()

    async def _secret(self, namespace: str, name: str) -> Object | None:
        return await self._cluster.get(Key(SECRET, namespace, name))

    def _wake_later(self, instance: Instance) -> None:
        if instance not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[instance] = loop.call_later(_AGAIN, self._timer_ends, instance)

    def _timer_ends(self, instance: Instance) -> None:
        del self._timers[instance]
        self._wake(instance)
