"""The watch over the cluster, which kopf keeps: how it is set up, and how it ends.

Kopf hands each event of a watched kind to the controller, and writes nothing. When one of its
tasks has failed it ends them all, but a stream can lose the cancellation and try on, half an hour
long, over a session that is closed. So its end is waited for as long as an end may take, and no
longer; and a stream that is not open is noticed though kopf says nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable, Collection
from typing import Any, cast

import kopf
import structlog

from .controller import Controller
from .core import names
from .core.objects import Kind
from .ending import LastResort
from .errors import ClusterError
from .observe import WATCHED, selector_of
from .settings import Settings
from .streams import LIMIT, Streams

log = structlog.get_logger(__name__)

# Streams give up after about half an hour without the API server; a supervisor then restarts us.
BACKOFFS = (0.2, 0.5, 1, 1, 2, 3, 5, 8, *((10,) * 180))
# Kopf waits 5 s for what is under way, then cancels it.
_END = 7.0


class _NothingHandled(kopf.DiffBaseStorage):
    """No memory of what an object was like before: our handlers take events as they come.

    Kopf would copy every object of every event to compare it with that.
    """

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Of an object nothing is of interest."""
        return cast("kopf.BodyEssence", {})

    def fetch(self, **_: Any) -> None:
        """Nothing was handled before."""

    def store(self, **_: Any) -> None:
        """Nothing is written."""


class Watch:
    """Watches on behalf of ``controller``; ``run`` until it is to end.

    ``last_resort`` is started when an end has begun.
    """

    def __init__(self, settings: Settings, controller: Controller, last_resort: LastResort) -> None:
        self._settings = settings
        self._controller = controller
        self._last_resort = last_resort
        self._kinds = {k.path(n): k for k in WATCHED for n in controller.namespaces}
        expected = (path for path, kind in self._kinds.items() if not kind.optional)
        self._streams = Streams(expected, self._on_list)
        self.trouble: str | None = None  # why nothing is seen any more

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Watch until ``stop`` is set or a signal arrives.

        Raises:
            ClusterError: the cluster cannot be watched any longer; all there is to do is to
                start afresh, which costs nothing.
        """
        # These begin first: kopf takes for its own, and ends, all that begin after it.
        upkeep = asyncio.create_task(self._controller.run())
        guard = asyncio.create_task(self._guard())
        await asyncio.sleep(0)
        try:
            others = asyncio.all_tasks()
            roots = await self._spawn(stop)
            whole = asyncio.create_task(kopf.run_tasks(roots, ignored=others))
            try:
                await asyncio.wait([*roots, guard], return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not any(task.done() for task in roots):
                    whole.cancel()
                await self._end(whole)
        finally:
            for task in (upkeep, guard):
                task.cancel()
            await asyncio.gather(upkeep, guard, return_exceptions=True)

    async def _end(self, whole: asyncio.Task[None]) -> None:
        """Wait for kopf's end, and tell how it came to it."""
        reason = self.trouble
        self.trouble = reason or "the watch has ended"
        self._last_resort.start()
        await asyncio.wait([whole], timeout=_END)
        if not whole.done():
            raise ClusterError("Cannot watch the cluster any longer: a stream does not end.")
        if reason:
            raise ClusterError(f"Cannot watch the cluster any longer: {reason}.")
        error = None if whole.cancelled() else whole.exception()
        if error is not None:
            log.debug("the watch streams ended", exc_info=error)
            raise ClusterError(f"Cannot watch the cluster any longer: {error!r}") from error

    def _on_list(self, path: str) -> None:
        kind = self._kinds.get(path)
        if kind is not None:
            self._controller.begun(kind)

    async def _guard(self) -> None:
        """Return when a stream is dead."""
        while True:
            path = self._streams.dead(up=self._controller.up)
            if path is not None:
                self.trouble = f"{path} has not been watched for {LIMIT:.0f} s"
                return
            await asyncio.sleep(1.0)

    async def _spawn(self, stop: asyncio.Event | None) -> Collection[asyncio.Task[Any]]:
        clusterwide = not self._settings.watch_namespaces
        return await kopf.spawn_tasks(
            registry=self._registry(),
            settings=kopf_settings(scanning=clusterwide and self._settings.crd_file is not None),
            # Given, because kopf would ask for a user name, and a pod's user id often has none.
            identity=cast("Any", names.FIELD_MANAGER),
            clusterwide=clusterwide,
            namespaces=self._settings.watch_namespaces,
            standalone=True,
            stop_flag=stop,
        )

    def _registry(self) -> kopf.OperatorRegistry:
        """Handlers that hand each event of a watched kind to the controller.

        A registry of its own, with a login of its own, so that what kopf does depends neither on
        what was imported before nor on which client libraries happen to be installed.
        """
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        for kind in WATCHED:
            kopf.on.event(
                kind.group,
                kind.version,
                kind.plural,
                id=kind.plural,
                registry=registry,
            )(self._handler(kind))
        return registry

    def _handler(self, kind: Kind) -> Callable[..., Any]:
        async def on_event(event: kopf.RawEvent, **_: Any) -> None:
            self._controller.seen(kind, event["type"], event["object"])

        return on_event

    async def _login(self, **kwargs: Any) -> kopf.AiohttpSession | None:
        info = kopf.login_with_service_account(**kwargs)
        host, port = (os.environ.get(f"KUBERNETES_SERVICE_{k}", "") for k in ("HOST", "PORT"))
        if info is not None and host and port:
            # By address, as the cluster's DNS may be one of the things that are not up yet.
            host = f"[{host}]" if ":" in host else host
            info = dataclasses.replace(info, server=f"https://{host}:{port}")
        info = info or kopf.login_with_kubeconfig(**kwargs)
        return None if info is None else self._streams.session(info)


def kopf_settings(*, scanning: bool) -> kopf.OperatorSettings:
    """Kopf as a mere watcher: it writes nothing and does not give up early.

    With ``scanning`` it watches for the CRD to go and come, which takes a role in the cluster.
    """
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = not scanning
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.persistence.diffbase_storage = _NothingHandled()
    settings.networking.error_backoffs = BACKOFFS
    settings.networking.connect_timeout = 5
    settings.networking.request_timeout = 60
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 5
    # Thousands of objects come at once when a stream begins: they pass through in pages, and what
    # kopf keeps for each is let go at once.
    settings.watching.chunk_size = 100
    settings.queueing.idle_timeout = 0.1
    settings.queueing.error_delays = (1, 1, 2, 3, 5, 8, 13, 21, 30)
    for kind in WATCHED:
        selector = selector_of(kind)
        if selector:
            text = ",".join(f"{k}={v}" for k, v in selector.items())
            settings.watching.label_selectors[kind.group, kind.version, kind.plural] = text
    return settings
