"""One reconcile: observe, plan, act, and tell. It holds no decision of its own."""

from __future__ import annotations

import time
from collections import ChainMap
from collections.abc import Mapping, MutableMapping
from typing import Any, cast

import structlog

from . import metrics
from .cluster import Cluster
from .core import conditions, credentials, manifests, volumes
from .core.conditions import Phase, Stall
from .core.gpu import has_turned
from .core.names import OLLAMA
from .core.objects import (
    SECRET,
    STATEFUL_SET,
    Key,
    Object,
    Owner,
    is_going,
    labels_of,
    uid_of,
)
from .core.plan import Action, Apply, Conflict, Keep, Prune, Replace, plan, remaining
from .core.upgrade import Upgrade, is_rolled_by, while_waiting
from .core.values import get, merge
from .credentials import ensure
from .embedding import Embeddings
from .errors import (
    ClusterError,
    ConflictError,
    ManifestError,
    MetisOperatorError,
    NotFoundError,
    RenderError,
)
from .gpu import Gpus
from .observe import Instance, Store, selector_of
from .pulls import Pulls
from .render import Renderer
from .report import Reporter
from .rotation_subject import follows_of
from .rotations import Rotations, own_secrets
from .run import Memory, Run, gather
from .volumes import grow

log = structlog.get_logger(__name__)

# So many repairs of one object in so many seconds are a fight with somebody.
_FIGHT, _FIGHT_SECONDS = 6, 60.0
# Answers that mean "not now": nothing is said about what was asked for.
_NOT_NOW = frozenset({0, 429, 502, 503, 504})


class Reconciler:
    """Brings one MetisRAG after the other to what its spec says. Safe to call concurrently."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        renderer: Renderer,
        defaults: Mapping[str, Any],
        upgrade: Upgrade,
        rotations: Rotations,
        gpus: Gpus,
        pulls: Pulls,
        embeddings: Embeddings,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._renderer = renderer
        self._defaults = defaults
        self._upgrade = upgrade
        self._rotations = rotations
        self._gpus = gpus
        self._pulls = pulls
        self._embeddings = embeddings
        self._reporter = Reporter(cluster, store, upgrade, renderer.version)
        self._memories: dict[Instance, Memory] = {}

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
            self._upgrade.leave(instance)
            self._rotations.forget(instance)
            self._gpus.forget(instance)
            self._pulls.forget(instance)
            self._embeddings.forget(instance)
            return "settled"
        memory = self._memories.get(instance)
        if memory is None or memory.uid != uid_of(resource):
            memory = self._memories[instance] = Memory(uid_of(resource))
        run = Run(instance, resource, Owner.of(resource), memory)
        if not run.is_seen and (memory.changed is None or memory.changed[0] != run.generation):
            memory.changed = (run.generation, time.monotonic())
        values = merge(self._defaults, resource.get("spec") or {})
        if run.paused:
            self._upgrade.leave(instance)
        else:
            await self._converge(run, await self._gpus.choose(run, values))
            await self._gpus.look_out(run, values)
            await self._rotations.carry_on(run, values)
            await self._pulls.look(run)
        run.embedding = await self._embeddings.look(run, values)
        await self._reporter.tell(run, values)
        if run.stalls:
            return "stalled" if self._worth_retrying(run) else "settled"
        return "acted" if run.acted else "settled"

    @staticmethod
    def _worth_retrying(run: Run) -> bool:
        # What the chart or a volume refuses it refuses again; anything else may be lifted without
        # a word.
        lasting = ("RenderFailed", volumes.EXPANSION_REFUSED, volumes.CLASS_IMMUTABLE)
        return any(s.reason not in lasting for s in run.stalls)

    async def _converge(self, run: Run, values: Mapping[str, Any]) -> None:
        try:
            rendered = await self._renderer.render(run.owner.name, run.owner.namespace, values)
            run.desired = manifests.build(rendered, run.owner)
        except (RenderError, ManifestError) as error:
            run.stalls.append(Stall("RenderFailed", str(error)))
            return
        await self._credentials(run, values)
        await self._look_up(run)
        await self._volumes(run)
        observed = self._observed(run)
        inventory = conditions.inventory_of(run.before, run.owner.namespace)
        digests = {k: manifests.digest_of(o) for k, o in run.desired.items()}
        settled = {k for k, digest in digests.items() if self._store.is_settled(k, digest)}
        actions = plan(
            run.desired,
            observed,
            inventory,
            run.owner,
            run.memory.tolerated,
            keep_data=get(values, "deletionPolicy") != "Delete",
            settled=settled,
        )
        for key in digests.keys() - settled - {action.key for action in actions}:
            self._settle(key, digests[key], observed[key])
        if self._must_wait(run, actions, observed):
            run.waits = True
            actions = while_waiting(actions, observed, inventory)
        await self._carry_out(run, actions)

    def _settle(self, key: Key, digest: str, looked_at: Object) -> None:
        """Look at the object no more until it or what is wanted of it changes."""
        if key.kind is not STATEFUL_SET:  # What is wanted of it depends on its volumes too.
            self._store.settle(key, digest, looked_at)

    def _must_wait(self, run: Run, actions: list[Action], observed: Mapping[Key, Object]) -> bool:
        """Whether pods would roll though nobody changed this MetisRAG, and it is not its turn."""
        turns = run.wish and self._goes_over(run, run.wish.resource, observed)
        if turns or not run.is_seen or not is_rolled_by(actions, observed):
            self._upgrade.wait_no_more(run.instance)
            return False
        was_ready = run.before.get("phase") == Phase.READY
        return not self._upgrade.admit(run.instance, was_ready=was_ready, now=time.monotonic())

    @staticmethod
    def _goes_over(run: Run, resource: str, observed: Mapping[Key, Object]) -> bool:
        """Whether the model server goes over from GPUs to the CPU, or back."""
        wanted = manifests.find_component(run.desired, OLLAMA, STATEFUL_SET)
        live = manifests.find_component(observed, OLLAMA, STATEFUL_SET)
        return has_turned(wanted, live, resource)

    def _observed(self, run: Run) -> Mapping[Key, Object]:
        """What is there; a view, as most of it needs no look."""
        children = cast("MutableMapping[Key, Object]", self._store.children(run.instance))
        return ChainMap(children, run.foreign)

    async def _look_up(self, run: Run) -> None:
        """Look again at what was in the way before: what seems to be missing, and is not."""
        known = self._store.children(run.instance)
        memory = run.memory.in_the_way
        memory &= run.desired.keys() - known.keys()
        await gather(self._find(run, key) for key in memory)

    async def _find(self, run: Run, key: Key) -> Object | None:
        """Ask for an object that the watches do not tell of; None when it is not there."""
        found = await self._cluster.get(key)
        run.memory.in_the_way.discard(key)
        if found is None:
            return None
        if selector_of(key.kind).items() <= labels_of(found).items():
            self._store.put(key.kind, found)  # Ours after all: a watch has not told yet.
        else:
            run.memory.in_the_way.add(key)
        run.foreign[key] = found
        return found

    async def _volumes(self, run: Run) -> None:
        """Have volumes grow; what they cannot become is told, and the rest carried out."""
        spec = run.resource.get("spec") or {}
        observed = self._observed(run)
        run.stalls += volumes.immovable(run.desired, observed, spec)
        wanted = volumes.growth(run.desired, observed)
        refused = await grow(self._cluster, self._store, wanted, run.memory.refusals)
        run.stalls += [e.refused(why) for e, why in refused if volumes.is_asked_for(e, spec)]
        run.acted += len(wanted) - len(refused)
        run.desired = volumes.pinned(run.desired, self._observed(run))

    async def _credentials(self, run: Run, values: Mapping[str, Any]) -> None:
        """Make the generated Secrets that the pods mount, and complete what is incomplete."""
        instance, namespace = run.owner.name, run.owner.namespace
        mounted = manifests.mounted_secrets(run.desired.values())
        wanted = credentials.wanted(instance, mounted)
        follows = {p: name for p, name in follows_of(values).items() if p in wanted}
        names = (credentials.secret_name(instance, purpose) for purpose in wanted)
        with self._store.writing(*(Key(SECRET, namespace, name) for name in names)):
            for written in await ensure(
                self._cluster,
                instance,
                namespace,
                wanted,
                own_secrets(self._store, run.instance),
                owner=run.owner,
                tie=get(values, "deletionPolicy") == "Delete",
                follows=follows,
            ):
                run.acted += 1
                self._store.put(SECRET, written)
        there = own_secrets(self._store, run.instance)
        for purpose, name in follows.items():
            if credentials.secret_name(instance, purpose) not in there:
                entry = credentials.BROUGHT_ENTRY[purpose]
                message = f"Secret/{name} is not there or has no entry {entry}: create it."
                run.stalls.append(Stall("SecretMissing", message))

    async def _carry_out(self, run: Run, actions: list[Action]) -> None:
        """Wave by wave: a workload is written after what its pods need."""
        waves: dict[int, list[Action]] = {}
        for action in actions:
            late = isinstance(action, Prune | Keep)
            waves.setdefault(9 if late else action.key.kind.order, []).append(action)
        for wave in sorted(waves):
            await gather(self._act(run, action) for action in waves[wave])
        if run.made:
            log.info("made what was missing", metisrag=str(run.instance), objects=run.made)

    async def _act(self, run: Run, action: Action) -> None:
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
            if isinstance(action, Apply) and action.key not in self._observed(run):
                await self._make(run, action)
            else:
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

    async def _make(self, run: Run, action: Apply) -> None:
        """Make what is not known to be there; when it is there after all, see whose it is."""
        try:
            await self._write(run, action, new=True)
        except ConflictError:
            found = await self._find(run, action.key)
            if found is None:
                raise
            wanted, tolerated = {action.key: action.obj}, run.memory.tolerated
            for other in plan(wanted, {action.key: found}, (), run.owner, tolerated):
                await self._act(run, other)

    async def _write(
        self, run: Run, action: Apply | Prune | Replace | Keep, *, new: bool = False
    ) -> None:
        bound = log.bind(metisrag=str(run.instance), object=str(action.key))
        if isinstance(action, Apply):
            self._stall_a_fight(run, action)
            with self._store.writing(action.key):
                applied = await self._cluster.apply(action.key, action.obj, new=new)
                self._store.put(action.key.kind, applied)
            digest, left = manifests.digest_of(action.obj), remaining(action.obj, applied)
            self._settle(action.key, digest, applied)
            if left:
                run.memory.tolerated[action.key] = (digest, left)
                bound.warning(
                    "the API server keeps fields other than applied",
                    fields=sorted(d.path for d in left),
                )
            if new:  # told of in one line for all: a line each is a twentieth of all the work
                run.made += 1
            else:
                bound.info("applied", because=action.reason)
        elif isinstance(action, Prune):
            await self._cluster.delete(action.key, action.uid)
            bound.info("pruned: the spec no longer asks for it")
        elif isinstance(action, Keep):
            self._store.put(action.key.kind, await self._cluster.merge(action.key, action.patch))
            bound.info("its volumes are let go of, before it is pruned")
        else:
            await self._cluster.delete(action.key, action.uid, orphan=True)
            bound.info(
                "deleted without its pods, to be made anew",
                because=[str(d) for d in action.differences],
            )
        run.acted += 1
        metrics.REPAIRS.labels(type(action).__name__.lower()).inc()

    @staticmethod
    def _stall_a_fight(run: Run, action: Apply) -> None:
        """Say so, and come back ever more slowly, when someone keeps undoing what is applied."""
        now = time.monotonic()
        repairs = run.memory.repairs
        times = [t for t in repairs.get(action.key, ()) if now - t < _FIGHT_SECONDS][-_FIGHT:]
        if len(times) == _FIGHT:
            message = (
                f"{action.key} has been changed and put back {_FIGHT} times in a row: something "
                f"else manages it too. Stop that, or pause this MetisRAG. Last: {action.reason}"
            )
            run.stalls.append(Stall("Contested", message))
        repairs[action.key] = [*times, now]


def _api_missing(key: Key) -> str:
    kind = key.kind
    return (
        f"{key} cannot be made: this cluster does not know {kind.api_version} {kind.kind}. "
        f"Install what brings {kind.group}, or switch off in the spec what asks for it."
    )
