"""What is told of a MetisRAG: its status, its events, and the time it took to be Ready."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from . import events, metrics, pulls
from .cluster import Cluster
from .core import (
    conditions,
    credentials,
    embedding,
    gpu,
    health,
    manifests,
    merge_patch,
    models,
    names,
)
from .core.conditions import Findings, Phase, Stall
from .core.objects import METISRAG, SECRET, WORKLOADS, Key, key_of, of_kind
from .core.pods import EMBEDDING_REFUSED, Severity
from .core.upgrade import Upgrade
from .errors import NotFoundError
from .observe import Store
from .run import Run, gather

log = structlog.get_logger(__name__)


class Reporter:
    """Writes the status of one MetisRAG after the other, each only when it changed.

    ``version`` is that of the operator's rendering.
    """

    def __init__(self, cluster: Cluster, store: Store, upgrade: Upgrade, version: str) -> None:
        self._cluster = cluster
        self._store = store
        self._upgrade = upgrade
        self._version = version

    async def tell(self, run: Run, values: Mapping[str, Any]) -> None:
        """Write the status if it changed, and report what a person wants to know."""
        found = await self._findings(run, values)
        now = datetime.now(UTC)
        after = conditions.status(run.before, found, now.strftime("%Y-%m-%dT%H:%M:%SZ"))
        change = merge_patch.between(run.before, after)
        if not change or run.memory.dropped_fields == change:
            return
        with self._store.writing(key_of(run.resource, METISRAG)):
            try:
                written = await self._cluster.merge_status(
                    run.owner.namespace, run.owner.name, change
                )
            except NotFoundError:
                self._store.drop(METISRAG, run.resource)
                return
            self._store.put(METISRAG, written)
        left = merge_patch.between(written.get("status") or {}, after)
        if left:
            run.memory.dropped_fields = left
            log.error(
                "the CRD in the cluster does not keep all of the status: it is of another version",
                fields=sorted(left),
            )
        self._take_time(run, after)
        if events.is_news(run.before, after, run.memory.told):
            await events.post(self._cluster, run.resource, after, now)

    @staticmethod
    def _take_time(run: Run, after: Mapping[str, Any]) -> None:
        """Count how long it took from the moment when a change was seen until all is Ready."""
        if run.memory.changed and after["phase"] == Phase.READY:
            metrics.READY_SECONDS.observe(time.monotonic() - run.memory.changed[1])
            run.memory.changed = None

    async def _findings(self, run: Run, values: Mapping[str, Any]) -> Findings:
        observed = self._store.children(run.instance)
        # Without a rendering the objects that are there say what the stack consists of.
        shape = run.desired or {
            k: o for k, o in of_kind(observed, *WORKLOADS).items() if run.owner.claims(o)
        }
        suspend = bool(values.get("suspend"))
        parts = health.components(shape, observed, suspend=suspend)
        absent = await self._absent_secrets(run, parts)
        if absent:
            parts = health.components(shape, observed, suspend=suspend, absent_secrets=absent)
        fallback = _fallback(run)
        if fallback:
            parts = gpu.told(parts, fallback)
        served = any(c.ready for c in parts if c.name == names.OLLAMA)
        told = pulls.entries(run, observed, served=served)
        parts = models.explained(parts, told)
        endpoint, url = conditions.addresses(run.owner, shape, observed)
        app = next((c for c in parts if c.name == names.APP), None)
        # While nothing is carried out, what was noted stays noted.
        frozen = run.paused or run.waits or not run.desired
        noted = int(run.before.get("observedGeneration", -1))
        return Findings(
            generation=noted if run.paused else run.generation,
            components=parts,
            inventory=conditions.inventory_of(run.before, run.owner.namespace)
            if frozen
            else list(run.desired),
            stall=_merge_stalls([*run.stalls, *_refusals(parts)]),
            suspend=suspend,
            paused=run.paused,
            endpoint=endpoint or str(run.before.get("endpoint", "")),
            url=url,
            models=told,
            model=conditions.model_of(shape) or str(run.before.get("model", "")),
            replicas=app.replicas if app else 0,
            selector=names.selector_string(run.owner.name, names.APP),
            upgrade=self._upgrade.report(
                run.instance,
                ready=suspend or all(c.ready for c in parts),
                trouble=any(c.severity is Severity.TROUBLE for c in parts),
                now=time.monotonic(),
            ),
            rotation=run.before.get("rotation") or ()
            if run.rotation is None
            else [r.status for r in run.rotation],
            embedding=run.embedding,
            rotation_waits=" ".join(r.trouble for r in run.rotation or () if r.trouble),
            fallback=fallback,
            extra={"gpu": run.before["gpu"]} if run.before.get("gpu") else {},
            version=str(run.before.get("operatorVersion", "")) if frozen else self._version,
        )

    async def _absent_secrets(self, run: Run, parts: Iterable[health.Component]) -> set[str]:
        """Secrets that a person named and that do not exist; asked for only where it matters."""
        unready = {c.name for c in parts if not c.ready and c.replicas}
        mounted = manifests.mounted_secrets(
            o for o in run.desired.values() if manifests.component_of(o) in unready
        )
        brought = sorted(n for n in mounted if credentials.purpose_of(run.owner.name, n) is None)
        found = await gather(
            self._cluster.get(Key(SECRET, run.owner.namespace, n)) for n in brought
        )
        return {n for n, o in zip(brought, found, strict=True) if o is None}


def _fallback(run: Run) -> str:
    """Why the models run on the CPU although GPUs are asked for; as noted while nothing is done."""
    if run.gpu is None:
        return str(conditions.condition(run.before, conditions.FALLBACK).get("message", ""))
    return gpu.words(run.gpu.state, run.wish) if run.gpu.on_cpu else ""


def _refusals(parts: Iterable[health.Component]) -> list[Stall]:
    refused = embedding.refusal(parts)
    return [Stall(EMBEDDING_REFUSED, refused)] if refused else []


def _merge_stalls(stalls: list[Stall]) -> Stall | None:
    if not stalls:
        return None
    # In a fixed order, so that the same trouble always makes the same status.
    ordered = sorted(set(stalls), key=lambda s: (s.reason, s.message))
    return Stall(ordered[0].reason, " ".join(s.message for s in ordered))
