"""How each component of a stack is, from the objects that run it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import names
from .manifests import component_of, mounted_secrets
from .objects import DEPLOYMENT, POD, PVC, Key, Object, is_going, meta_of, of_kind
from .pods import Finding, Severity, examine, pending_claim

# In which order components are reported: what others wait for comes first.
_ORDER = (names.METIS_POSTGRES, names.MEM0_POSTGRES, names.OLLAMA, names.MEM0, names.APP)
_VALUES_KEYS = {
    names.METIS_POSTGRES: "metisPostgres",
    names.MEM0_POSTGRES: "mem0Postgres",
}


@dataclass(frozen=True)
class Component:
    """One component: whether all it should run is rolled out and ready, and if not, why."""

    name: str
    ready: bool
    reason: str
    message: str
    replicas: int
    ready_replicas: int
    severity: Severity

    def as_status(self) -> dict[str, Any]:
        """The entry of ``status.components``."""
        return {
            "name": self.name,
            "ready": self.ready,
            "reason": self.reason,
            "message": self.message,
            "replicas": self.replicas,
            "readyReplicas": self.ready_replicas,
        }


def components(
    desired: Mapping[Key, Object],
    observed: Mapping[Key, Object],
    *,
    suspend: bool = False,
    absent_secrets: Collection[str] = (),
) -> list[Component]:
    """The components that ``desired`` describes, as ``observed`` shows them.

    ``absent_secrets`` are Secrets that pods mount and nobody has made; a pod tells of that
    nowhere but in events.
    """
    found = [
        _without(absent_secrets, obj, _component(component_of(obj), key, observed, suspend=suspend))
        for key, obj in desired.items()
        if key.kind.is_workload and component_of(obj)
    ]
    found.sort(key=lambda c: (_rank(c.name), c.name))
    states = {c.name: c for c in found}
    return [_with_dependencies(c, states) for c in found]


def values_key(component: str) -> str:
    """The key of the spec that holds the settings of ``component``."""
    return _VALUES_KEYS.get(component, component)


def _component(name: str, key: Key, observed: Mapping[Key, Object], *, suspend: bool) -> Component:
    live = observed.get(key)
    if live is None or is_going(live):
        return _judged(name, 1, 0, Finding(Severity.WAITING, "Creating", f"{key} is being made."))
    want, ready, done = _rollout(key, live)
    if want == 0:
        return _scaled_down(name, live, suspend=suspend)
    if done:
        return Component(name, True, "Ready", "", want, ready, Severity.FINE)
    pods = _of(observed, POD, name)
    claims = _of(observed, PVC, name)
    return _judged(name, want, ready, _why(name, key, live, pods, claims))


def _without(absent_secrets: Collection[str], workload: Object, component: Component) -> Component:
    missing = sorted(mounted_secrets([workload]) & set(absent_secrets))
    if component.ready or not missing:
        return component
    finding = Finding(
        Severity.TROUBLE,
        "SecretMissing",
        f"{component.name} cannot start: Secret {', '.join(missing)} is not there. Create it, "
        "or correct its name in the spec.",
    )
    return _judged(component.name, component.replicas, component.ready_replicas, finding)


def _rollout(key: Key, live: Mapping[str, Any]) -> tuple[int, int, bool]:
    """Replicas wanted, replicas ready, and whether all of them run the newest template."""
    spec, status = live.get("spec") or {}, live.get("status") or {}
    want = int(spec.get("replicas", 1))
    ready = int(status.get("readyReplicas", 0))
    seen = int(status.get("observedGeneration", 0)) >= int(meta_of(live).get("generation", 0))
    updated = int(status.get("updatedReplicas", 0)) == want
    total = int(status.get("replicas", 0)) == want
    done = seen and updated and total and ready == want
    if key.kind is DEPLOYMENT:
        done = done and int(status.get("availableReplicas", 0)) == want
    return want, ready, done


def _scaled_down(name: str, live: Mapping[str, Any], *, suspend: bool) -> Component:
    left = int((live.get("status") or {}).get("replicas", 0))
    if not suspend:
        message = f"{name} is scaled to zero: scale it up, or set its replicas in the spec."
        return _judged(name, 0, 0, Finding(Severity.TROUBLE, "ScaledToZero", message))
    if left:
        message = f"{left} pod(s) are still stopping."
        return _judged(name, 0, left, Finding(Severity.WAITING, "Suspending", message))
    return Component(name, False, "Suspended", "", 0, 0, Severity.FINE)


def _why(
    name: str,
    key: Key,
    live: Mapping[str, Any],
    pods: Sequence[Object],
    claims: Sequence[Object],
) -> Finding:
    found = [f for p in pods if (f := examine(p, claims, values_key(name))) is not None]
    if found:
        return max(found, key=lambda f: f.severity)
    for condition in (live.get("status") or {}).get("conditions") or ():
        kind, state = condition.get("type"), condition.get("status")
        failed = (kind, state) in (("ReplicaFailure", "True"), ("Progressing", "False"))
        if failed:
            reason = condition.get("reason") or kind
            return Finding(Severity.TROUBLE, reason, f"{key}: {condition.get('message')}")
    for claim in claims:
        if (claim.get("status") or {}).get("phase") != "Bound":
            return pending_claim(claim)
    if not pods:
        command = f"kubectl describe {key.kind.kind.lower()} {key.name}"
        message = f"{key} has no pod yet. If this lasts: {command}"
        return Finding(Severity.WAITING, "NoPods", message)
    return Finding(Severity.WAITING, "RollingOut", f"{key} is rolling out.")


def _with_dependencies(component: Component, states: Mapping[str, Component]) -> Component:
    """While an init container runs, or a probe fails, say which component it is waiting for."""
    if component.reason not in ("Initializing", "NotReady"):
        return component
    needs = names.DEPENDENCIES.get(component.name, ())
    if component.reason == "NotReady":
        needs = tuple(n for n in needs if n not in names.OPTIONAL)
    waits = [d for d in needs if not _is_up(states.get(d))]
    if not waits:
        return component
    return _judged(
        component.name,
        component.replicas,
        component.ready_replicas,
        Finding(
            Severity.WAITING,
            "WaitingForDependency",
            f"Waiting for {', '.join(waits)}. {component.message}",
        ),
    )


def _is_up(component: Component | None) -> bool:
    return component is None or component.ready


def _judged(name: str, want: int, ready: int, finding: Finding) -> Component:
    return Component(name, False, finding.reason, finding.message, want, ready, finding.severity)


def _of(observed: Mapping[Key, Object], kind: Any, component: str) -> list[Object]:
    return [o for o in of_kind(observed, kind).values() if component_of(o) == component]


def _rank(component: str) -> int:
    return _ORDER.index(component) if component in _ORDER else len(_ORDER)
