"""GPUs as a part of the reconcile: where the models run, and the lookout for GPUs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from . import events
from .alarm import Alarm
from .cluster import Cluster
from .core import gpu, manifests, names
from .core.gpu import Decision, Phase, State, Wish
from .core.objects import JOB, METISRAG, POD, STATEFUL_SET, Key, labels_of, of_kind, uid_of
from .errors import ClusterError, ManifestError, RenderError
from .observe import Instance, Store
from .render import Renderer
from .rotation_report import moment, stamp
from .run import Run

log = structlog.get_logger(__name__)

_AFTER_FAILURE = 5.0


def state_of(status: Mapping[str, Any]) -> State | None:
    """What a former reconcile noted in the status."""
    noted = status.get("gpu") or {}
    if noted.get("phase") not in set(Phase):
        return None
    return State(
        phase=Phase(noted["phase"]),
        since=moment(noted.get("since")) or 0.0,
        wish=str(noted.get("wish", "")),
        failures=int(noted.get("failures", 1)),
        said=str(noted.get("scheduler", "")),
    )


def status_of(state: State | None) -> dict[str, Any]:
    """What the status is to note; nothing where all is as asked for."""
    if state is None:
        return {}
    noted = {
        "phase": state.phase.value,
        "since": stamp(datetime.fromtimestamp(state.since, UTC)),
        "wish": state.wish,
        "failures": state.failures,
        "scheduler": state.said,
    }
    return {"gpu": noted}


class Gpus:
    """Decides for one MetisRAG after the other; ``wake`` asks for a reconcile.

    ``defaults`` are the chart's own values, which hold where a spec says nothing.
    """

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        renderer: Renderer,
        defaults: Mapping[str, Any],
        wake: Callable[[Instance], None],
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._renderer = renderer
        self._defaults = defaults
        self._alarm = Alarm(wake)

    async def choose(self, run: Run, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Decide, and note it; gives the values to render.

        Raises:
            ClusterError: it cannot be noted.
        """
        before = state_of(run.before)
        run.wish = wish = Wish.of(values, self._defaults)
        decision = Decision(None)
        if wish is not None:
            pods = list(of_kind(self._store.children(run.instance), POD).values())
            decision = gpu.decide(before, wish, gpu.look(pods, wish, moment), time.time())
        run.gpu, run.gpu_turns = decision, decision.state != before
        if run.gpu_turns:
            await self._note(run, before, decision)
        if decision.again is not None:
            self._alarm.set(run.instance, decision.again)
        return gpu.on_cpu(values) if decision.on_cpu else values

    async def _note(self, run: Run, before: State | None, decision: Decision) -> None:
        """Into the status first: an operator that is killed now goes on from there."""
        owner, noted = run.owner, {"gpu": None, **status_of(decision.state)}
        written = await self._cluster.merge_status(owner.namespace, owner.name, noted)
        self._store.put(METISRAG, written)
        run.resource = {**run.resource, "status": written.get("status") or {}}
        news = gpu.news(before, decision, run.wish)
        if news is not None:
            await events.tell(self._cluster, run.resource, *news, datetime.now(UTC))
            log.info("GPUs", metisrag=str(run.instance), reason=news[1], message=news[2])

    async def look_out(self, run: Run, values: Mapping[str, Any]) -> None:
        """Have the lookout while it is wanted, and only then. ``values`` are those with GPUs."""
        if run.stalls or run.waits:
            return
        try:
            if run.wish and run.gpu and run.gpu.look_out and not values.get("suspend"):
                await self._make(run, run.wish, values)
            elif self._pod(run) is not None or run.gpu_turns:
                await self._remove(run)
        except (ClusterError, RenderError, ManifestError) as error:
            log.warning("no lookout for GPUs yet", metisrag=str(run.instance), cause=str(error))
            self._alarm.set(run.instance, _AFTER_FAILURE)

    def forget(self, instance: Instance) -> None:
        """The MetisRAG has gone."""
        self._alarm.forget(instance)

    def close(self) -> None:
        """Wake nobody any more."""
        self._alarm.close()

    def _pod(self, run: Run) -> Mapping[str, Any] | None:
        children = self._store.children(run.instance)
        return manifests.find_component(children, gpu.LOOKOUT, POD)

    async def _make(self, run: Run, wish: Wish, values: Mapping[str, Any]) -> None:
        pod = self._pod(run)
        if pod is not None and labels_of(pod).get(names.LABEL_WISH) == wish.digest:
            return
        key = self._key(run)
        found = await self._cluster.get(key)
        if found is not None and labels_of(found).get(names.LABEL_WISH) != wish.digest:
            await self._cluster.delete(key, uid_of(found))
            found = None
            run.acted += 1
        if found is not None:
            return
        rendered = await self._renderer.render(run.owner.name, run.owner.namespace, values)
        desired = manifests.build(rendered, run.owner)
        server = manifests.find_component(desired, names.OLLAMA, STATEFUL_SET)
        if server is None:
            return
        await self._cluster.create(key, gpu.lookout(server, wish, run.owner))
        run.acted += 1
        log.info("looks out for GPUs", metisrag=str(run.instance), resource=wish.resource)

    async def _remove(self, run: Run) -> None:
        key = self._key(run)
        found = await self._cluster.get(key)
        if found is not None and run.owner.claims(found):
            await self._cluster.delete(key, uid_of(found))
            run.acted += 1

    @staticmethod
    def _key(run: Run) -> Key:
        return Key(JOB, run.owner.namespace, gpu.lookout_name(run.owner.name))
