"""Asks app and memory server how far a change of the embedding model is, while one is wanted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from .alarm import Alarm
from .cluster import Cluster
from .core import credentials, embedding, names, slots
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
        self._alarm = Alarm(wake)
        self._witnesses = Witnesses(self._secret)
        self._asked: dict[Instance, float] = {}

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
        settled = embedding.state(before) == State.COMPLETE and not news
        lately = time.monotonic() - self._asked.get(run.instance, float("-inf")) < _AGAIN
        if not settled:
            self._alarm.set(run.instance, _AGAIN)
        if lately and not news:
            return before
        pod = embedding.witness(self._store.children(run.instance), names.APP)
        body = None if pod is None else await self._witnesses.index(pod)
        remembers = embedding.remembers(run.desired)
        memories = await self._memories(run.instance) if remembers else None
        self._asked[run.instance] = time.monotonic()
        # Who does not answer now is not taken for one that has nothing left to do.
        if body is None or (remembers and memories is None):
            return {} if news else before
        return embedding.status_of(body, wanted, memories)

    async def _memories(self, instance: Instance) -> Mapping[str, Any] | None:
        """What a memory server of the instance's own says of its index."""
        pod = embedding.witness(self._store.children(instance), names.MEM0)
        if pod is None:
            return None
        name = credentials.secret_name(instance.name, credentials.MEM0_KEY)
        secret = await self._secret(instance.namespace, name)
        return await self._witnesses.memories(pod, slots.live_keys(secret or {}))

    def forget(self, instance: Instance) -> None:
        """Nothing is to be asked of it any more."""
        self._asked.pop(instance, None)
        self._alarm.forget(instance)

    async def close(self) -> None:
        """Wake nobody any more, and close the connections."""
        self._alarm.close()
        await self._witnesses.close()

    async def _secret(self, namespace: str, name: str) -> Object | None:
        return await self._cluster.get(Key(SECRET, namespace, name))
