"""From what was found to the status of a MetisRAG: phase, conditions, and what changed.

``Ready`` says whether everything the spec asks for runs; ``Reconciling`` whether the stack is
still on its way there; ``Stalled`` whether it will not get there without a change by a person.
``Reconciling`` and ``Stalled`` are True only while there is something to say (the kstatus way).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import embedding, names
from .health import Component
from .manifests import environment, find_component
from .objects import (
    DEPLOYMENT,
    INGRESS,
    POD,
    SERVICE,
    Key,
    Object,
    Owner,
    kind_by_name,
    labels_of,
    of_kind,
)
from .pods import Severity, shorten
from .upgrade import MESSAGES, State

# Reasons of a component on its way that say too little without their message.
_TELLING = frozenset({"NotReady", "PullingModels"})

READY, RECONCILING, STALLED = "Ready", "Reconciling", "Stalled"
# There only while a rotation of credentials is under way.
ROTATING = "Rotating"
# There only while the models run on the CPU although the spec asks for GPUs.
FALLBACK = "GPUFallback"
# There only while documents are embedded anew for another model.
REINDEXING = "Reindexing"
# Reasons of Ready that name no trouble: it is on its way, or there.
PROGRESSING, ALL_READY = "Progressing", "AllComponentsReady"


class Phase(enum.StrEnum):
    """The state of a MetisRAG in one word."""

    PENDING = "Pending"
    PROGRESSING = "Progressing"
    READY = "Ready"
    DEGRADED = "Degraded"
    SUSPENDED = "Suspended"
    FAILED = "Failed"


@dataclass(frozen=True)
class Stall:
    """Why nothing more can be done without a person."""

    reason: str
    message: str


@dataclass(frozen=True)
class Findings:
    """All that one reconcile learned; ``status`` turns it into what is written."""

    generation: int
    components: Sequence[Component] = ()
    inventory: Sequence[Key] = ()
    stall: Stall | None = None
    suspend: bool = False
    paused: bool = False
    endpoint: str = ""
    url: str = ""
    model: str = ""
    models: Sequence[Mapping[str, Any]] = ()
    """What the status tells of each model."""
    replicas: int = 0
    selector: str = ""
    upgrade: State | None = None
    version: str = ""
    rotation: Sequence[Mapping[str, Any]] = ()
    """What the status tells of each credential's rotation."""
    embedding: Mapping[str, Any] = field(default_factory=dict)
    """How far a change of the embedding model is, where one is wanted."""
    rotation_waits: str = ""
    """Why a rotation does not go on."""
    fallback: str = ""
    """Why the models run on the CPU although the spec asks for GPUs."""
    extra: Mapping[str, Any] = field(default_factory=dict)


def status(before: Mapping[str, Any], found: Findings, now: str) -> dict[str, Any]:
    """The status to write. Equal to ``before`` when nothing changed, times included.

    ``now`` (RFC 3339) becomes the transition time of those conditions whose status changed.
    """
    phase = _phase(before, found)
    written: dict[str, Any] = {
        "observedGeneration": found.generation,
        "phase": phase.value,
        "conditions": _conditions(before, found, phase, now),
        "components": [c.as_status() for c in found.components],
        "replicas": found.replicas,
        "inventory": [_entry(k) for k in sorted(found.inventory, key=_place)],
        **found.extra,
    }
    optional = {
        "endpoint": found.endpoint,
        "url": found.url,
        "model": found.model,
        "models": [dict(m) for m in found.models],
        "selector": found.selector,
        "rotation": [dict(r) for r in found.rotation],
        "embedding": dict(found.embedding),
        "operatorVersion": found.version,
        "upgrade": _upgrade(found.upgrade),
    }
    return written | {k: v for k, v in optional.items() if v}


def inventory_of(status: Mapping[str, Any], namespace: str) -> list[Key]:
    """The objects that a former run noted as applied."""
    keys = []
    for entry in status.get("inventory") or ():
        kind = kind_by_name(entry.get("group", ""), entry.get("kind", ""))
        if kind is not None:
            keys.append(Key(kind, entry.get("namespace", namespace), entry["name"]))
    return keys


def condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """The condition of that type; empty when the status has none."""
    return next((c for c in status.get("conditions") or () if c.get("type") == kind), {})


def addresses(
    owner: Owner, desired: Mapping[Key, Object], observed: Mapping[Key, Object]
) -> tuple[str, str]:
    """``(endpoint, url)``: where the app answers inside the cluster, and from outside.

    ``url`` is empty for a ClusterIP Service, and until an address is known.
    """
    service = find_component(desired, names.APP, SERVICE)
    if service is None:
        return "", ""
    name = service["metadata"]["name"]
    live = observed.get(Key(SERVICE, owner.namespace, name)) or service
    spec = live.get("spec") or {}
    port: Mapping[str, Any] = next(iter(spec.get("ports") or ()), {})
    endpoint = f"http://{name}.{owner.namespace}.svc:{port.get('port', 8000)}"
    return endpoint, _published(desired) or _outside(live, spec, port, observed)


def model_of(desired: Mapping[Key, Object]) -> str:
    """The chat model that the app is told to use."""
    app = find_component(desired, names.APP, DEPLOYMENT)
    return environment(app, "DEFAULT_MODEL") if app else ""


def _upgrade(state: State | None) -> dict[str, str]:
    return {} if state is None else {"state": state.value, "message": MESSAGES[state]}


def _published(desired: Mapping[Key, Object]) -> str:
    """The URL by the Ingress; empty without one. (An HTTPRoute does not tell whether TLS is on.)"""
    ingress = find_component(desired, names.APP, INGRESS)
    if ingress is None:
        return ""
    spec = ingress["spec"]
    return f"{'https' if spec.get('tls') else 'http'}://{spec['rules'][0]['host']}"


def _outside(
    live: Mapping[str, Any],
    spec: Mapping[str, Any],
    port: Mapping[str, Any],
    observed: Mapping[Key, Object],
) -> str:
    if spec.get("type") == "LoadBalancer":
        for ingress in ((live.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
            host = ingress.get("hostname") or ingress.get("ip")
            if host:
                return f"http://{host}:{port.get('port')}"
    if spec.get("type") in ("NodePort", "LoadBalancer") and port.get("nodePort"):
        selector = spec.get("selector") or {}
        hosts = sorted(
            (pod.get("status") or {}).get("hostIP", "")
            for pod in of_kind(observed, POD).values()
            if selector.items() <= labels_of(pod).items()
        )
        host = next((h for h in hosts if h), "")
        if host:
            return f"http://{host}:{port['nodePort']}"
    return ""


def _phase(before: Mapping[str, Any], found: Findings) -> Phase:
    if found.stall is not None:
        return Phase.FAILED
    if found.suspend:
        return Phase.SUSPENDED
    if not found.components:
        return Phase.PENDING
    if all(c.ready for c in found.components):
        return Phase.READY
    if any(c.severity is Severity.TROUBLE for c in found.components):
        return Phase.DEGRADED
    # What was whole, or in trouble, in this very generation is degraded while too little of it
    # runs. A rollout that keeps enough pods ready degrades nothing.
    former = before.get("phase") in (Phase.READY, Phase.DEGRADED)
    same = before.get("observedGeneration") == found.generation
    short = any(c.ready_replicas < c.replicas for c in found.components if not c.ready)
    return Phase.DEGRADED if former and same and short else Phase.PROGRESSING


def _conditions(
    before: Mapping[str, Any], found: Findings, phase: Phase, now: str
) -> list[dict[str, Any]]:
    wanted = [_ready(found, phase), _reconciling(found, phase), _stalled(found)]
    wanted += [*_rotating(found), *_on_cpu(found), *_reindexing(found)]
    return [_dated(condition(before, c["type"]), c, found.generation, now) for c in wanted]


def _dated(
    former: Mapping[str, Any], wanted: Mapping[str, Any], generation: int, now: str
) -> dict[str, Any]:
    changed = former.get("status") != wanted["status"]
    return {
        **wanted,
        "observedGeneration": generation,
        "lastTransitionTime": now if changed else former.get("lastTransitionTime", now),
    }


def _ready(found: Findings, phase: Phase) -> dict[str, Any]:
    if phase is Phase.READY:
        but = "; the models run on the CPU, see the condition GPUFallback" if found.fallback else ""
        return _condition(READY, "True", ALL_READY, f"All components are ready{but}.")
    if found.stall is not None:
        return _condition(READY, "False", found.stall.reason, found.stall.message)
    if phase is Phase.SUSPENDED:
        return _condition(READY, "False", "Suspended", "The MetisRAG is suspended by its spec.")
    if not found.components:
        return _condition(READY, "False", PROGRESSING, "Nothing has been made yet.")
    worst = _worst(found.components)
    reason = worst.reason if worst.severity is Severity.TROUBLE else PROGRESSING
    return _condition(READY, "False", reason, _summary(found.components))


def _reconciling(found: Findings, phase: Phase) -> dict[str, Any]:
    if found.paused:
        message = f"The annotation {names.ANNOTATION_PAUSED} holds: changes are not carried out."
        return _condition(RECONCILING, "False", "Paused", message)
    if found.stall is not None:
        return _condition(RECONCILING, "False", "Stalled", "Waits for a change by a person.")
    if found.upgrade is not None:
        reason = f"Upgrade{found.upgrade.value}"
        return _condition(RECONCILING, "True", reason, MESSAGES[found.upgrade])
    if phase is Phase.READY:
        return _condition(RECONCILING, "False", "Settled", "The cluster is as the spec says.")
    if phase is Phase.SUSPENDED and all(c.severity is Severity.FINE for c in found.components):
        return _condition(RECONCILING, "False", "Settled", "All workloads are scaled to zero.")
    return _condition(RECONCILING, "True", PROGRESSING, _summary(found.components))


def _stalled(found: Findings) -> dict[str, Any]:
    if found.stall is None:
        return _condition(STALLED, "False", "NotStalled", "")
    return _condition(STALLED, "True", found.stall.reason, found.stall.message)


def _rotating(found: Findings) -> list[dict[str, Any]]:
    under_way = [r for r in found.rotation if r["phase"] != "Idle"]
    if found.rotation_waits:
        return [_condition(ROTATING, "True", "NotConfirmed", found.rotation_waits)]
    if not under_way:
        return []
    what = ", ".join(str(r["component"]) for r in under_way)
    return [_condition(ROTATING, "True", str(under_way[0]["phase"]), f"Rotates {what}.")]


def _on_cpu(found: Findings) -> list[dict[str, Any]]:
    if not found.fallback:
        return []
    return [_condition(FALLBACK, "True", "NoGPU", found.fallback)]


def _reindexing(found: Findings) -> list[dict[str, Any]]:
    said = embedding.told(found.embedding)
    state = embedding.state(found.embedding)
    return [_condition(REINDEXING, "True", state, said)] if said else []


def _condition(kind: str, state: str, reason: str, message: str) -> dict[str, Any]:
    return {
        "type": kind,
        "status": state,
        "reason": reason,
        "message": shorten(message, 1000),
    }


def _worst(components: Iterable[Component]) -> Component:
    return max((c for c in components if not c.ready), key=lambda c: c.severity)


def _summary(components: Sequence[Component]) -> str:
    """What is not ready: trouble in full, what is only on its way by name."""
    missing = [c for c in components if not c.ready]
    said = [f"{len(components) - len(missing)} of {len(components)} components are ready."]
    troubled = [c for c in missing if c.severity is Severity.TROUBLE]
    said += [f"{c.name}: {c.message.rstrip('.')}." for c in troubled]
    waiting = [
        # A probe that fails may pass or not: whoever waits for it wants to know which.
        f"{c.name} ({c.message.rstrip('.') if c.reason in _TELLING else c.reason})"
        for c in missing
        if c.severity is not Severity.TROUBLE
    ]
    if waiting:
        said.append(f"On the way: {', '.join(waiting)}.")
    return " ".join(said)


def _entry(key: Key) -> dict[str, str]:
    return {
        "group": key.kind.group,
        "version": key.kind.version,
        "kind": key.kind.kind,
        "namespace": key.namespace,
        "name": key.name,
    }


def _place(key: Key) -> tuple[str, str, str, str]:
    return (key.kind.group, key.kind.kind, key.namespace, key.name)
