"""One reconcile: observe, plan, act, and tell. It holds no decision of its own."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from . import events, metrics
from .cluster import Cluster
from .core import conditions, credentials, health, manifests, names, volumes
from .core.compare import Difference
from .core.conditions import Findings, Stall
from .core.objects import (
    METISRAG,
    SECRET,
    Key,
    Object,
    Owner,
    annotations_of,
    is_going,
    labels_of,
    meta_of,
    uid_of,
)
from .core.plan import Action, Apply, Conflict, Prune, Replace, plan, remaining
from .core.values import get, merge
from .credentials import ensure
from .errors import (
    ClusterError,
    ConflictError,
    ManifestError,
    MetisOperatorError,
    NotFoundError,
    RenderError,
)
from .observe import Instance, Store, selector_of
from .render import Renderer
from .volumes import Refusals, grow

log = structlog.get_logger(__name__)

# Objects of one wave that are written at the same time.
_PARALLEL = 8
# So many repairs of one object in so many seconds are a fight with somebody.
_FIGHT, _FIGHT_SECONDS = 6, 60.0
# Answers that mean "not now": nothing is said about what was asked for.
_NOT_NOW = frozenset({0, 429, 502, 503, 504})


@dataclass
class _Memory:
    """What is remembered of one MetisRAG between two reconciles; losing it costs a few calls."""

    uid: str
    tolerated: dict[Key, tuple[str, frozenset[Difference]]] = field(default_factory=dict)
    dropped_fields: Mapping[str, Any] = field(default_factory=dict)
    repairs: dict[Key, deque[float]] = field(default_factory=dict)
    told: set[events.Topic] = field(default_factory=set)
    refusals: Refusals = field(default_factory=Refusals)


@dataclass
class _Run:
    """What is known in the course of one reconcile."""

    instance: Instance
    resource: Object
    owner: Owner
    memory: _Memory
    desired: dict[Key, Object] = field(default_factory=dict)
    foreign: dict[Key, Object] = field(default_factory=dict)
    stalls: list[Stall] = field(default_factory=list)
    acted: int = 0

    @property
    def before(self) -> Mapping[str, Any]:
        return self.resource.get("status") or {}

    @property
    def generation(self) -> int:
        return int(meta_of(self.resource).get("generation", 0))

    @property
    def paused(self) -> bool:
        return annotations_of(self.resource).get(names.ANNOTATION_PAUSED) == "true"


class Reconciler:
    """Brings one MetisRAG after the other to what its spec says. Safe to call concurrently."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        renderer: Renderer,
        defaults: Mapping[str, Any],
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._renderer = renderer
        self._defaults = defaults
        self._memories: dict[Instance, _Memory] = {}

    async def __call__(self, instance: Instance) -> bool:
        """One run; True when nothing is left to be tried again. Raises only what is a bug."""
        started = time.monotonic()
        bound = log.bind(metisrag=str(instance))
        try:
            outcome = await self._reconcile(instance)
        except ConflictError as error:
            bound.info("someone was faster, looking again", cause=str(error))
            outcome = "conflict"
        except MetisOperatorError as error:
            bound.warning("reconcile failed, trying again later", cause=str(error))
            outcome = "failed"
        metrics.RECONCILES.labels(outcome).inc()
        metrics.RECONCILE_SECONDS.observe(time.monotonic() - started)
        return outcome in ("settled", "acted")

    async def _reconcile(self, instance: Instance) -> str:
        resource = self._store.resource(instance)
        if resource is None or is_going(resource):
            self._memories.pop(instance, None)
            return "settled"
        memory = self._memories.get(instance)
        if memory is None or memory.uid != uid_of(resource):
            memory = self._memories[instance] = _Memory(uid_of(resource))
        run = _Run(instance, resource, Owner.of(resource), memory)
        values = merge(self._defaults, resource.get("spec") or {})
        if not run.paused:
            await self._converge(run, values)
        await self._tell(run, values)
        if run.stalls:
            return "stalled" if self._worth_retrying(run) else "settled"
        return "acted" if run.acted else "settled"

    @staticmethod
    def _worth_retrying(run: _Run) -> bool:
        # What the chart or a volume refuses it refuses again; anything else may be lifted without
        # a word.
        lasting = ("RenderFailed", volumes.EXPANSION_REFUSED, volumes.CLASS_IMMUTABLE)
        return any(s.reason not in lasting for s in run.stalls)

    async def _converge(self, run: _Run, values: Mapping[str, Any]) -> None:
        try:
            rendered = await self._renderer.render(run.owner.name, run.owner.namespace, values)
            run.desired = manifests.build(rendered, run.owner)
        except (RenderError, ManifestError) as error:
            run.stalls.append(Stall("RenderFailed", str(error)))
            return
        await self._credentials(run, tie=get(values, "deletionPolicy") == "Delete")
        await self._look_up(run)
        await self._volumes(run)
        actions = plan(
            run.desired,
            self._observed(run),
            conditions.inventory_of(run.before, run.owner.namespace),
            run.owner,
            run.memory.tolerated,
        )
        await self._carry_out(run, actions)

    def _observed(self, run: _Run) -> dict[Key, Object]:
        return {**run.foreign, **self._store.children(run.instance)}

    async def _look_up(self, run: _Run) -> None:
        """See whether what seems to be missing is there all the same, as somebody else's."""
        known = self._store.children(run.instance)
        missing = [k for k in run.desired if k not in known]
        found = await _gather(self._cluster.get(k) for k in missing)
        for key, obj in zip(missing, found, strict=True):
            if obj is None:
                continue
            run.foreign[key] = obj
            if selector_of(key.kind).items() <= labels_of(obj).items():
                self._store.put(key.kind, obj)  # Ours after all: a watch has not told yet.

    async def _volumes(self, run: _Run) -> None:
        """Have volumes grow; what they cannot become is told, and the rest carried out."""
        spec = run.resource.get("spec") or {}
        observed = self._observed(run)
        run.stalls += volumes.immovable(run.desired, observed, spec)
        wanted = volumes.growth(run.desired, observed)
        refused = await grow(self._cluster, self._store, wanted, run.memory.refusals)
        run.stalls += [e.refused(why) for e, why in refused if volumes.is_asked_for(e, spec)]
        run.acted += len(wanted) - len(refused)
        run.desired = volumes.pinned(run.desired, self._observed(run))

    async def _credentials(self, run: _Run, *, tie: bool) -> None:
        """Make the generated Secrets that the pods mount, and complete what is incomplete."""
        instance, namespace = run.owner.name, run.owner.namespace
        mounted = manifests.mounted_secrets(run.desired.values())
        purposes = [p for p in credentials.ALL if credentials.secret_name(instance, p) in mounted]
        known = {
            k.name: o
            for k, o in self._store.children(run.instance).items()
            if k.kind is SECRET and not is_going(o)
        }
        for written in await ensure(
            self._cluster, instance, namespace, purposes, known, owner=run.owner, tie=tie
        ):
            run.acted += 1
            self._store.put(SECRET, written)

    async def _carry_out(self, run: _Run, actions: list[Action]) -> None:
        """Wave by wave: a workload is written after what its pods need."""
        waves: dict[int, list[Action]] = {}
        for action in actions:
            late = isinstance(action, Prune)
            waves.setdefault(9 if late else action.key.kind.order, []).append(action)
        for wave in sorted(waves):
            await _gather(self._act(run, action) for action in waves[wave])

    async def _act(self, run: _Run, action: Action) -> None:
        if isinstance(action, Conflict):
            run.stalls.append(
                Stall(
                    "NameConflict",
                    f"{action.key} exists and belongs to {action.holder}: it is left alone. "
                    "Delete or rename it, or give this MetisRAG another name.",
                )
            )
            return
        try:
            await self._write(run, action)
        except ConflictError:
            raise
        except NotFoundError:
            if not action.key.kind.optional:
                raise
            run.stalls.append(Stall("ApiMissing", _api_missing(action.key)))
        except ClusterError as error:
            if error.code in _NOT_NOW:
                raise
            run.stalls.append(Stall("Rejected", str(error)))

    async def _write(self, run: _Run, action: Apply | Prune | Replace) -> None:
        bound = log.bind(metisrag=str(run.instance), object=str(action.key))
        if isinstance(action, Apply):
            self._stall_a_fight(run, action)
            applied = await self._cluster.apply(action.key, action.obj)
            self._store.put(action.key.kind, applied)
            left = remaining(action.obj, applied)
            if left:
                run.memory.tolerated[action.key] = (manifests.digest_of(action.obj), left)
                bound.warning(
                    "the API server keeps fields other than applied",
                    fields=sorted(d.path for d in left),
                )
            bound.info("applied", because=action.reason)
        elif isinstance(action, Prune):
            await self._cluster.delete(action.key, action.uid)
            bound.info("pruned: the spec no longer asks for it")
        else:
            await self._cluster.delete(action.key, action.uid, orphan=True)
            bound.info(
                "deleted without its pods, to be made anew",
                because=[str(d) for d in action.differences],
            )
        run.acted += 1
        metrics.REPAIRS.labels(type(action).__name__.lower()).inc()

    @staticmethod
    def _stall_a_fight(run: _Run, action: Apply) -> None:
        """Say so, and come back ever more slowly, when someone keeps undoing what is applied."""
        times = run.memory.repairs.setdefault(action.key, deque(maxlen=_FIGHT))
        now = time.monotonic()
        if len(times) == _FIGHT and now - times[0] < _FIGHT_SECONDS:
            message = (
                f"{action.key} has been changed and put back {_FIGHT} times in a row: something "
                f"else manages it too. Stop that, or pause this MetisRAG. Last: {action.reason}"
            )
            run.stalls.append(Stall("Contested", message))
        times.append(now)

    async def _tell(self, run: _Run, values: Mapping[str, Any]) -> None:
        """Write the status if it changed, and report what a person wants to know."""
        found = await self._findings(run, values)
        now = datetime.now(UTC)
        after = conditions.status(run.before, found, now.strftime("%Y-%m-%dT%H:%M:%SZ"))
        change = conditions.patch(run.before, after)
        if not change or run.memory.dropped_fields == change:
            return
        try:
            written = await self._cluster.merge_status(run.owner.namespace, run.owner.name, change)
        except NotFoundError:
            self._store.drop(METISRAG, run.resource)
            return
        self._store.put(METISRAG, written)
        left = conditions.patch(written.get("status") or {}, after)
        if left:
            run.memory.dropped_fields = left
            log.error(
                "the CRD in the cluster does not keep all of the status: it is of another version",
                fields=sorted(left),
            )
        if events.is_news(run.before, after, run.memory.told):
            await events.post(self._cluster, run.resource, after, now)

    async def _findings(self, run: _Run, values: Mapping[str, Any]) -> Findings:
        observed = dict(self._store.children(run.instance))
        # Without a rendering the objects that are there say what the stack consists of.
        shape = run.desired or {
            k: o for k, o in observed.items() if k.kind.is_workload and run.owner.claims(o)
        }
        suspend = bool(values.get("suspend"))
        parts = health.components(shape, observed, suspend=suspend)
        absent = await self._absent_secrets(run, parts)
        if absent:
            parts = health.components(shape, observed, suspend=suspend, absent_secrets=absent)
        endpoint, url = conditions.addresses(run.owner, shape, observed)
        app = next((c for c in parts if c.name == names.APP), None)
        # While nothing is carried out, what was noted stays noted.
        frozen = run.paused or not run.desired
        noted = int(run.before.get("observedGeneration", -1))
        return Findings(
            generation=noted if run.paused else run.generation,
            components=parts,
            inventory=conditions.inventory_of(run.before, run.owner.namespace)
            if frozen
            else list(run.desired),
            stall=_merge_stalls(run.stalls),
            suspend=suspend,
            paused=run.paused,
            endpoint=endpoint or str(run.before.get("endpoint", "")),
            url=url,
            model=conditions.model_of(shape) or str(run.before.get("model", "")),
            replicas=app.replicas if app else 0,
            selector=names.selector_string(run.owner.name, names.APP),
        )

    async def _absent_secrets(self, run: _Run, parts: Iterable[health.Component]) -> set[str]:
        """Secrets that a person named and that do not exist; asked for only where it matters."""
        unready = {c.name for c in parts if not c.ready and c.replicas}
        mounted = manifests.mounted_secrets(
            o for o in run.desired.values() if manifests.component_of(o) in unready
        )
        brought = sorted(n for n in mounted if credentials.purpose_of(run.owner.name, n) is None)
        found = await _gather(
            self._cluster.get(Key(SECRET, run.owner.namespace, n)) for n in brought
        )
        return {n for n, o in zip(brought, found, strict=True) if o is None}


def _api_missing(key: Key) -> str:
    kind = key.kind
    return (
        f"{key} cannot be made: this cluster does not know {kind.api_version} {kind.kind}. "
        f"Install what brings {kind.group}, or switch off in the spec what asks for it."
    )


def _merge_stalls(stalls: list[Stall]) -> Stall | None:
    if not stalls:
        return None
    # In a fixed order, so that the same trouble always makes the same status.
    ordered = sorted(set(stalls), key=lambda s: (s.reason, s.message))
    return Stall(ordered[0].reason, " ".join(s.message for s in ordered))


async def _gather(awaitables: Iterable[Any]) -> list[Any]:
    """All results in order, a few calls at a time; the first failure is raised, none is lost."""
    slots = asyncio.Semaphore(_PARALLEL)

    async def one(awaitable: Any) -> Any:
        async with slots:
            return await awaitable

    results = await asyncio.gather(*(one(a) for a in awaitables), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
