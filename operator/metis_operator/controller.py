"""The running whole: events come in, the store is kept, reconciles are woken.

It also keeps an eye on the API server: while that is away nothing is tried in a hurry, and when
it is back everything is looked at anew.
"""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import structlog

from . import metrics
from .cluster import Cluster
from .core.conditions import Phase, inventory_of
from .core.objects import METISRAG, Kind, key_of, uid_of
from .core.upgrade import Upgrade
from .core.values import get
from .doubts import Doubts
from .embedding import Embeddings
from .errors import ClusterError, NotFoundError
from .gpu import Gpus
from .observe import WATCHED, Instance, Store, pack, selector_of
from .pulls import Pulls
from .reconcile import Reconciler
from .render import Renderer
from .rotations import Rotations
from .settings import Settings
from .workqueue import Queue

log = structlog.get_logger(__name__)

# Kinds listed at a time: the API server makes up one while we take in another. More would only
# take more memory.
_LISTS = 2


class Controller:
    """Keeps every MetisRAG of the watched namespaces as its spec says.

    ``prime`` first, then feed ``seen`` with watch events; ``run`` does the rest until cancelled.
    """

    def __init__(self, settings: Settings, cluster: Cluster, store: Store | None = None) -> None:
        self._settings = settings
        self.cluster = cluster
        self._store = store or Store()
        self._upgrade = Upgrade(settings.upgrade_max_concurrent)
        self._rotations = Rotations(
            cluster, self._store, settings.chart_values("rotation"), lambda i: self._queue.wake(i)
        )
        renderer = Renderer(settings.chart_dir, settings.helm)
        defaults = settings.chart_values("ollama")
        self._gpus = Gpus(cluster, self._store, renderer, defaults, lambda i: self._queue.wake(i))
        self._pulls = Pulls(cluster, self._store, lambda i: self._queue.wake(i))
        self._embeddings = Embeddings(cluster, self._store, lambda i: self._queue.wake(i))
        self._reconcile = Reconciler(
            cluster,
            self._store,
            renderer,
            settings.defaults(),
            self._upgrade,
            self._rotations,
            self._gpus,
            self._pulls,
            self._embeddings,
        )
        self._queue = Queue[Instance](self._work, concurrency=settings.concurrency)
        self._doubts = Doubts()
        self._primed = False
        self._up = True
        for phase in Phase:
            # Counted when somebody asks: a count at each event would cost more with each object.
            metrics.OBJECTS.labels(phase.value).set_function(partial(self._in_phase, phase))

    @property
    def up(self) -> bool:
        """Whether the API server answers, as far as we know."""
        return self._up

    @property
    def not_ready(self) -> str | None:
        """What the operator waits for, or None when it works."""
        if not self._up:
            return "the API server does not answer"
        if not self._primed:
            return "the first look at the cluster is not finished"
        return None

    @property
    def namespaces(self) -> tuple[str | None, ...]:
        """The namespaces to look at; ``(None,)`` stands for all."""
        return self._settings.watch_namespaces or (None,)

    async def prime(self) -> None:
        """Learn what is there, so that nothing is taken for missing that was only not seen yet.

        Waits as long as the API server does not answer or does not know MetisRAGs.
        """
        delay = 0.2
        while not self._primed:
            try:
                await self._list(WATCHED)
            except ClusterError as error:
                self._mark(up=isinstance(error, NotFoundError))
                log.info("cannot look at the cluster yet", cause=str(error))
                await asyncio.sleep(delay)
                delay = min(30.0, delay * 2)
            else:
                self._mark(up=True)
                self._primed = True
        log.info("looked at the cluster", metisrags=len(self._store.resources()))
        for instance in self._store.resources():
            state = get(self._store.resource(instance) or {}, "status.upgrade.state", "")
            self._upgrade.resume(instance, state, now=time.monotonic())
        self._wake_all()

    def seen(self, kind: Kind, event: str | None, obj: Mapping[str, Any]) -> None:
        """Take in a watch event: ADDED, MODIFIED or DELETED; None for one of a fresh listing."""
        if event is None:
            self._doubts.listed(kind, uid_of(obj))
        self._store.when_written(key_of(obj, kind), partial(self._take_in, kind, event, obj))

    def _take_in(self, kind: Kind, event: str | None, obj: Mapping[str, Any]) -> None:
        take = self._store.drop if event == "DELETED" else self._store.put
        instance = take(kind, obj)
        if instance is not None:
            self._queue.wake(instance, urgent=kind is METISRAG)

    def begun(self, kind: Kind) -> None:
        """Take in that a stream begins anew, with a list of what there is of ``kind``, if any."""
        self._doubts.begun(kind)

    async def run(self) -> None:
        """Relist after gaps, resync now and then, and watch over the API server."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._settle_doubts())
            group.create_task(self._resync())
            group.create_task(self._watch_over())

    async def close(self) -> None:
        """Stop all reconciles."""
        await self._queue.close()
        await self._rotations.close()
        self._gpus.close()
        await self._pulls.close()
        await self._embeddings.close()

    async def _work(self, instance: Instance) -> bool:
        """One reconcile; then those begin that waited for it to end."""
        settled = await self._reconcile(instance)
        if not settled:
            self._upgrade.wait_no_more(instance)  # It comes back by itself, later and later.
        for other in self._upgrade.due():
            if other != instance:
                self._queue.wake(other, urgent=True)
        for state, count in self._upgrade.counts().items():
            metrics.UPGRADE.labels(state.value).set(count)
        return settled

    async def _settle_doubts(self) -> None:
        while True:
            listed = await self._doubts.settled()
            kinds = {k for k, u in listed.items() if u is None or self._store.has_others(k, u)}
            try:
                await self._list(kinds)
            except ClusterError as error:
                log.info("cannot list again yet", cause=str(error))
                self._doubts.everything(kinds)

    async def _resync(self) -> None:
        while True:
            # Spread, so that several operators do not ask at the same time.
            await asyncio.sleep(self._settings.resync * random.uniform(0.9, 1.1))  # noqa: S311
            self._doubts.everything(WATCHED)
            self._wake_all()

    async def _watch_over(self) -> None:
        while True:
            await asyncio.sleep(self._settings.ping if self._up else 1.0)
            try:
                await self.cluster.ping(self.namespaces[0])
            except ClusterError as error:
                if self._up:
                    log.warning("the API server is away", cause=str(error))
                self._mark(up=False)
                continue
            if not self._up:
                log.info("the API server is back")
                self._mark(up=True)
                self._doubts.everything(WATCHED)
                self._wake_all()

    async def _list(self, kinds: Iterable[Kind]) -> None:
        """Make full lists of ``kinds`` the truth."""
        slots = asyncio.Semaphore(_LISTS)

        async def one(kind: Kind, namespace: str | None) -> None:
            async with slots:
                await self._list_one(kind, namespace)

        lists = [asyncio.create_task(one(k, n)) for k in kinds for n in self.namespaces]
        try:
            await asyncio.gather(*lists)
        finally:
            for task in lists:
                task.cancel()
            await asyncio.gather(*lists, return_exceptions=True)

    async def _list_one(self, kind: Kind, namespace: str | None) -> None:
        try:
            objects, version = await self.cluster.collect(
                kind,
                functools.partial(pack, kind),
                namespace=namespace,
                selector=selector_of(kind),
            )
        except NotFoundError:
            if not kind.optional:
                raise
            return
        for instance in self._store.replace(kind, objects, version, namespace):
            if self._primed:
                self._queue.wake(instance)

    def _wake_all(self) -> None:
        """Wake every instance; those first of which something is missing."""
        for instance in sorted(self._store.resources(), key=self._is_whole):
            self._queue.wake(instance, urgent=True)

    def _is_whole(self, instance: Instance) -> bool:
        status = (self._store.resource(instance) or {}).get("status") or {}
        children = self._store.children(instance)
        return all(key in children for key in inventory_of(status, instance.namespace))

    def _mark(self, *, up: bool) -> None:
        self._up = up
        metrics.API_UP.set(int(up))

    def _in_phase(self, phase: Phase) -> int:
        return self._store.phases[phase.value]
