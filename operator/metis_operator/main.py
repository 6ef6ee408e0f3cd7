"""What kopf is told: which objects to watch, and whom to hand their events to. Nothing else."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import threading
from collections.abc import Callable
from typing import Any, cast

import kopf
import structlog

from . import crd, http
from .cluster import Cluster, connect
from .controller import Controller
from .core import names
from .core.objects import LEASE, Key, Kind
from .errors import ClusterError
from .leadership import Leadership
from .observe import WATCHED, selector_of
from .settings import Settings

log = structlog.get_logger(__name__)

# Streams give up after about half an hour without the API server; a supervisor then restarts us.
_BACKOFFS = (0.2, 0.5, 1, 1, 2, 3, 5, 8, 13, 21, *((30,) * 60))


def registry_of(controller: Controller) -> kopf.OperatorRegistry:
    """Handlers that hand each event of a watched kind to the controller.

    A registry of its own, with a login of its own, so that what kopf does depends neither on
    what was imported before nor on which client libraries happen to be installed.
    """
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_login)
    for kind in WATCHED:
        kopf.on.event(
            kind.group,
            kind.version,
            kind.plural,
            id=kind.plural,
            registry=registry,
        )(_handler(controller, kind))
    return registry


def kopf_settings(*, scanning: bool) -> kopf.OperatorSettings:
    """Kopf as a mere watcher: it writes nothing and does not give up early.

    With ``scanning`` it watches for the CRD to go and come, which takes a role in the cluster.
    """
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = not scanning
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.persistence.diffbase_storage = kopf.StatusDiffBaseStorage()
    settings.networking.error_backoffs = _BACKOFFS
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


async def run(settings: Settings, stop: asyncio.Event | None = None) -> None:
    """Stand by until no other operator leads, then lead until ``stop`` is set or a signal arrives.

    Raises:
        SettingsError: it cannot work with these settings.
        LeadershipLostError: another operator may be at work by now.
    """
    _end_on_signals()
    bundled = crd.load(settings.crd_file) if settings.crd_file else None
    async with connect() as cluster:
        key = Key(LEASE, settings.namespace, settings.lease)
        leadership = Leadership(cluster, key, settings.identity)
        controller = Controller(settings, cluster.fenced(leadership.check))

        def not_ready() -> str | None:
            if leadership.unanswered:
                return "the API server does not answer"
            return None if leadership.waits_for else controller.not_ready

        async with http.serve(settings.http_host, settings.http_port, not_ready) as port:
            log.info("operator started", port=port, namespaces=settings.watch_namespaces or "all")
            async with leadership.held():
                await _lead(settings, controller, bundled, stop)


async def _lead(
    settings: Settings,
    controller: Controller,
    bundled: dict[str, Any] | None,
    stop: asyncio.Event | None,
) -> None:
    try:
        if bundled is not None:
            await _bring_crd(controller.cluster, bundled)
        await controller.prime()
        await _watch(settings, controller, stop)
    finally:
        await controller.close()


async def _watch(settings: Settings, controller: Controller, stop: asyncio.Event | None) -> None:
    clusterwide = not settings.watch_namespaces
    upkeep = asyncio.create_task(controller.run())
    # Let it start its own tasks: kopf takes for its own, and waits for, all that begin after it.
    await asyncio.sleep(0)
    try:
        await kopf.operator(
            registry=registry_of(controller),
            settings=kopf_settings(scanning=clusterwide and settings.crd_file is not None),
            # Given, because kopf would ask for a user name, and a pod's user id often has none.
            identity=cast("Any", names.FIELD_MANAGER),
            clusterwide=clusterwide,
            namespaces=settings.watch_namespaces,
            standalone=True,
            stop_flag=stop,
        )
    except Exception as error:
        # Whatever ends the streams, all there is to do is to start afresh, which costs nothing.
        log.debug("the watch streams ended", exc_info=True)
        raise ClusterError(f"Cannot watch the cluster any longer: {error!r}") from error
    finally:
        upkeep.cancel()
        await asyncio.gather(upkeep, return_exceptions=True)


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


def _handler(controller: Controller, kind: Kind) -> Callable[..., Any]:
    async def on_event(event: kopf.RawEvent, **_: Any) -> None:
        controller.seen(kind, event["type"], event["object"])

    return on_event


async def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    info = kopf.login_with_service_account(**kwargs)
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{k}", "") for k in ("HOST", "PORT"))
    if info is not None and host and port:
        # By address, as the cluster's DNS may be one of the things that are not up yet.
        host = f"[{host}]" if ":" in host else host
        return dataclasses.replace(info, server=f"https://{host}:{port}")
    return info or kopf.login_with_kubeconfig(**kwargs)
