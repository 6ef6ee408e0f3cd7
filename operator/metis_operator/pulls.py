"""What the Jobs that pull models tell, asked of each of their pods while one runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx2
import structlog

from .alarm import Alarm
from .cluster import Cluster
from .core import models
from .core.objects import Key, Object, uid_of
from .observe import Instance, Store
from .rotation_report import moment
from .run import Run

log = structlog.get_logger(__name__)

_TIMEOUT = httpx2.Timeout(2.0, connect=1.0)
_PORT = 8080
_AGAIN = 2.0
# A server that has its models is ready a few seconds after its start.
_PATIENCE = 20.0


class Pulls:
    """Asks how far each model of a MetisRAG is; ``wake`` asks for a reconcile."""

    def __init__(self, cluster: Cluster, store: Store, wake: Callable[[Instance], None]) -> None:
        self._cluster = cluster
        self._store = store
        self._alarm = Alarm(wake)
        self._http = httpx2.AsyncClient(timeout=_TIMEOUT, trust_env=False)

    async def look(self, run: Run) -> None:
        """Note what each pulling pod tells, and have models brought again that a server lost."""
        if not models.jobs(run.desired):
            return
        observed = self._store.children(run.instance)
        await self._repeat(run, observed)
        addresses = models.running(run.desired, observed)
        if not addresses:
            return
        answers = await asyncio.gather(*(self._ask(a) for a in addresses.values()))
        run.pulls = {m: a for m, a in zip(addresses, answers, strict=True) if a is not None}
        self._alarm.set(run.instance, _AGAIN)

    def forget(self, instance: Instance) -> None:
        """The MetisRAG has gone."""
        self._alarm.forget(instance)

    async def close(self) -> None:
        """Wake nobody any more, and close the connections to pods."""
        self._alarm.close()
        await self._http.aclose()

    async def _ask(self, address: str) -> Mapping[str, Any] | None:
        """What a pod tells; None when it does not, as it may just begin or end."""
        host = f"[{address}]" if ":" in address else address
        try:
            answer = await self._http.get(f"http://{host}:{_PORT}/")
            found = answer.json()
        except (httpx2.HTTPError, OSError, ValueError):
            return None
        return found if isinstance(found, dict) and answer.status_code == 200 else None

    async def _repeat(self, run: Run, observed: Mapping[Key, Object]) -> None:
        """Delete Jobs whose work is undone, as by a new volume; they are then made anew."""
        now = datetime.now(UTC).timestamp()
        for key, job, pod in models.to_repeat(run.desired, observed):
            since = moment(models.started_at(pod))
            left = _PATIENCE if since is None else since + _PATIENCE - now
            if left > 0:
                self._alarm.set(run.instance, left)
                continue
            await self._cluster.delete(key, uid_of(job))
            run.acted += 1
            log.info("a model server lacks its models: the pull begins again", object=str(key))
            self._alarm.set(run.instance, _AGAIN)


def entries(run: Run, observed: Mapping[Key, Object], *, served: bool) -> list[dict[str, Any]]:
    """``status.models`` as it is to be written; as it was while there is too little news."""
    before = list(run.before.get("models") or ())
    if not run.desired:
        return before
    now = models.statuses(run.desired, observed, run.pulls, before, served=served)
    seconds = time.monotonic() - run.memory.models_told
    if not models.to_write(before, now, seconds):
        return before
    run.memory.models_told = time.monotonic()
    return now
