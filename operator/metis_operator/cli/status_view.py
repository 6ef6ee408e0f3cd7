"""A MetisRAG's status for people and for programs. Pure: a resource and the time go in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from ..core import embedding, names
from ..core.conditions import PROGRESSING, READY, STALLED, Phase, condition
from ..core.objects import Object, annotations_of, meta_of
from .layout import Node, age, since, size, until

# Reasons of a component that pass by themselves.
_PASSING = frozenset(
    {
        "Creating",
        "Starting",
        "Initializing",
        "RollingOut",
        "NoPods",
        "WaitingForDependency",
        "Scheduling",
        "Suspending",
        "Recreating",
        "PullingModels",
    }
)
# Reasons that are trouble or not, as the whole MetisRAG says.
_EITHER = frozenset({"PendingVolume", "NotReady"})
_RANK = {"bad": 0, "wait": 1, "idle": 2, "good": 3}
_PHASE_STYLE = {
    Phase.READY: "good",
    Phase.DEGRADED: "bad",
    Phase.FAILED: "bad",
    Phase.PROGRESSING: "warn",
    Phase.PENDING: "warn",
    Phase.SUSPENDED: "dim",
}


def summary(resource: Object) -> dict[str, Any]:
    """What a program wants to know, in the words of the status."""
    meta, status = meta_of(resource), resource.get("status") or {}
    ready = condition(status, READY)
    return {
        "namespace": meta.get("namespace"),
        "name": meta.get("name"),
        "phase": _phase(status),
        "ready": ready.get("status") == "True" and is_current(resource),
        "reason": ready.get("reason", ""),
        "message": ready.get("message", ""),
        "since": ready.get("lastTransitionTime"),
        "created": meta.get("creationTimestamp"),
        "paused": is_paused(resource),
        "seen": is_current(resource),
        "components": list(status.get("components") or ()),
        "models": models(resource),
        "pulls": list(status.get("models") or ()),
        "endpoint": status.get("endpoint", ""),
        "url": status.get("url", ""),
        "upgrade": status.get("upgrade") or None,
        "gpu": status.get("gpu") or None,
        "embedding": status.get("embedding") or None,
        "rotation": list(status.get("rotation") or ()),
    }


def needs_attention(resource: Object) -> bool:
    """Whether it is anything else than what its owner asked for."""
    status = resource.get("status") or {}
    if not is_current(resource):
        return not is_paused(resource)
    return _phase(status) not in (Phase.READY, Phase.SUSPENDED)


def is_paused(resource: Object) -> bool:
    """Whether the operator was told to keep its hands off."""
    return annotations_of(resource).get(names.ANNOTATION_PAUSED) == "true"


def is_current(resource: Object) -> bool:
    """Whether the status is about the spec as it is now."""
    status = resource.get("status") or {}
    return bool(status.get("observedGeneration", -1) == meta_of(resource).get("generation"))


def trees(resources: Sequence[Object], now: datetime, *, whole: bool) -> list[Node]:
    """A tree for each, trouble first. Unless ``whole``, of what is well only the first line."""
    ordered = sorted(resources, key=lambda r: not needs_attention(r))
    return [_tree(r, now, whole=whole or needs_attention(r)) for r in ordered]


def models(resource: Object) -> dict[str, Any]:
    """The models in use, as far as they are known."""
    spec = (resource.get("spec") or {}).get("models") or {}
    status = resource.get("status") or {}
    found = {"chat": status.get("model") or spec.get("chat"), "embedding": spec.get("embedding")}
    return {k: v for k, v in found.items() if v}


def _tree(resource: Object, now: datetime, *, whole: bool) -> Node:
    meta, status = meta_of(resource), resource.get("status") or {}
    phase = _phase(status)
    ready = condition(status, READY)
    lasting = since(ready.get("lastTransitionTime"), now)
    created = since(str(meta.get("creationTimestamp") or ""), now)
    words = [f"for {lasting}" if lasting else "", f"made {created} ago" if created else ""]
    cells = [f"{meta.get('namespace')}/{meta.get('name')}", phase, ", ".join(w for w in words if w)]
    return Node(
        cells=cells,
        mark=_mark_of_phase(phase),
        note=_headline(resource) if whole else "",
        children=[*_components(status), *_facts(resource, now)] if whole else (),
        styles=("strong", _PHASE_STYLE[Phase(phase)], "dim"),
    )


def _headline(resource: Object) -> str:
    """What is to be said of the whole that no component says."""
    status = resource.get("status") or {}
    said = []
    if is_paused(resource):
        said.append("Paused: the operator changes nothing until `resume`.")
    elif not is_current(resource):
        seen = int(status.get("observedGeneration", -1)) > 0
        what = "the latest change of the spec" if seen else "it"
        said.append(f"The operator has not looked at {what} yet. If this lasts: doctor")
    stalled = condition(status, STALLED)
    if stalled.get("status") == "True":
        said.append(f"{stalled.get('reason')}: {stalled.get('message')}")
    if not said and _phase(status) == Phase.SUSPENDED:
        said.append("Suspended by its spec: nothing runs, the data stays.")
    return "\n".join(said)


def _components(status: Mapping[str, Any]) -> list[Node]:
    trouble = condition(status, READY).get("reason") not in (PROGRESSING, None)
    marked = [(_mark(c, trouble=trouble), c) for c in status.get("components") or ()]
    marked.sort(key=lambda pair: _RANK[pair[0]])
    return [
        Node(
            cells=[
                str(c.get("name")),
                f"{c.get('readyReplicas', 0)}/{c.get('replicas', 0)}",
                "" if mark == "good" and not c.get("message") else str(c.get("reason") or ""),
            ],
            mark=mark,
            note=str(c.get("message") or ""),
            styles=("", "dim" if mark == "good" else "", _STYLE_OF_MARK[mark]),
        )
        for mark, c in marked
    ]


_STYLE_OF_MARK = {"bad": "bad", "wait": "warn", "idle": "dim", "good": "dim"}


def _mark(component: Mapping[str, Any], *, trouble: bool) -> str:
    reason = component.get("reason")
    if component.get("ready"):
        return "good"
    if reason == "Suspended":
        return "idle"
    if reason in _PASSING or (reason in _EITHER and not trouble):
        return "wait"
    return "bad"


def _facts(resource: Object, now: datetime) -> list[Node]:
    status = resource.get("status") or {}
    upgrade = status.get("upgrade") or {}
    facts = [
        ("models", ", ".join(_models(resource))),
        ("endpoint", str(status.get("endpoint") or "")),
        ("url", str(status.get("url") or "")),
        ("upgrade", ": ".join(str(upgrade[k]) for k in ("state", "message") if upgrade.get(k))),
        ("embedding", embedding.told(status.get("embedding") or {})),
        ("rotation", "; ".join(_rotations(status, now))),
    ]
    return [Node(cells=[k, v], mark="fact", styles=("dim",)) for k, v in facts if v]


def _models(resource: Object) -> Iterator[str]:
    """Each model with its use, and how far it has been pulled while it is not all there."""
    pulled = {m.get("name"): m for m in (resource.get("status") or {}).get("models") or ()}
    named = {name: f"{use} {name}" for use, name in models(resource).items()}
    # Those whose use nobody tells, such as ollama.pull.also, while there is something to say.
    named |= {n: str(n) for n, m in pulled.items() if n not in named and not m.get("ready")}
    for name, text in named.items():
        state = pulled.get(name) or {}
        far = "" if state.get("ready") else ", ".join(_progress(state))
        said = f": {state['message']}" if state.get("message") else ""
        yield f"{text}{f' ({far})' if far else ''}{said}"


def _progress(model: Mapping[str, Any]) -> Iterator[str]:
    """How much there is of a model, how fast it comes, and how long it takes."""
    if model.get("percent") is not None:
        of = f" of {size(model['size'])}" if model.get("size") else ""
        yield f"{model['percent']} %{of}"
    if model.get("bytesPerSecond") is not None:
        yield f"{size(model['bytesPerSecond'])}/s"
    if model.get("etaSeconds") is not None:
        yield f"{age(model['etaSeconds'])} left"


def _rotations(status: Mapping[str, Any], now: datetime) -> Iterator[str]:
    """Each rotation under way or with something to say; when there is none, which is the next."""
    rotations = list(status.get("rotation") or ())
    for rotation in rotations:
        active, message = rotation.get("phase") != "Idle", rotation.get("message")
        lasting = since(rotation.get("phaseSince"), now) if active else ""
        words = [str(rotation.get("component"))]
        words += [str(rotation.get("phase"))] if active else []
        words += [f"for {lasting}"] if lasting else []
        if active or message:
            yield " ".join(words) + (f": {message}" if message else "")
            rotations = []
    planned = [r for r in rotations if r.get("next")]
    if planned:
        soonest = min(planned, key=lambda r: str(r["next"]))
        yield f"next {soonest.get('component')}, in {until(soonest['next'], now)}"


def _phase(status: Mapping[str, Any]) -> str:
    phase = status.get("phase")
    return phase if phase in set(Phase) else Phase.PENDING.value


def _mark_of_phase(phase: str) -> str:
    if phase == Phase.READY:
        return "good"
    if phase == Phase.SUSPENDED:
        return "idle"
    return "bad" if phase in (Phase.DEGRADED, Phase.FAILED) else "wait"
