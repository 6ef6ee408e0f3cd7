"""The operator's process: it stands by, leads, serves its health, and ends. It decides nothing."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import structlog

from . import crd, http
from .cluster import Cluster, connect
from .controller import Controller
from .core.objects import LEASE, Key
from .ending import LastResort
from .errors import ClusterError
from .leadership import Leadership
from .settings import Settings
from .watch import Watch

log = structlog.get_logger(__name__)


async def run(
    settings: Settings, last_resort: LastResort, stop: asyncio.Event | None = None
) -> None:
    """Stand by until no other operator leads, then lead until ``stop`` is set or a signal arrives.

    ``last_resort`` is started when this is about to end.

    Raises:
        SettingsError: it cannot work with these settings.
        LeadershipLostError: another operator may be at work by now.
    """
    _end_on_signals()
    asyncio.get_running_loop().set_exception_handler(_note)
    bundled = crd.load(settings.crd_file) if settings.crd_file else None
    async with connect() as cluster:
        key = Key(LEASE, settings.namespace, settings.lease)
        leadership = Leadership(cluster, key, settings.identity)
        controller = Controller(settings, cluster.fenced(leadership.check))
        watch = Watch(settings, controller, last_resort)

        def not_ready() -> str | None:
            if leadership.unanswered:
                return "the API server does not answer"
            return None if leadership.waits_for else watch.trouble or controller.not_ready

        health = http.Health(not_ready=not_ready, not_alive=lambda: watch.trouble)
        async with http.serve(settings.http_host, settings.http_port, health) as port:
            log.info("operator started", port=port, namespaces=settings.watch_namespaces or "all")
            async with leadership.held():
                await _lead(controller, watch, bundled, stop)


async def _lead(
    controller: Controller,
    watch: Watch,
    bundled: dict[str, Any] | None,
    stop: asyncio.Event | None,
) -> None:
    try:
        if bundled is not None:
            await _bring_crd(controller.cluster, bundled)
        await controller.prime()
        await watch.run(stop)
    finally:
        await controller.close()


def _note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Tell of what went wrong where nobody waits for it."""
    if "asyncgen" in context:
        # One of kopf's streams that was in the midst of an event as all was ended.
        log.debug("a stream was not closed in order", exc_info=context.get("exception"))
    else:
        loop.default_exception_handler(context)


def _end_on_signals() -> None:
    """End by a signal also before kopf listens to them; as process 1 we would ignore it."""
    task = asyncio.current_task()
    if task is not None and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)


async def _bring_crd(cluster: Cluster, bundled: dict[str, Any]) -> None:
    delay = 1.0
    while True:
        try:
            return await crd.bring(cluster, bundled)
        except ClusterError as error:
            if error.permanent:
                raise
            log.warning("cannot bring the CRD yet", cause=str(error))
            await asyncio.sleep(delay)
            delay = min(30.0, delay * 2)
