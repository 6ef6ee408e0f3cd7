"""The models of a stack: which are wanted, how each arrives, and what that explains.

A Job pulls each model and tells how far it is (``pulls`` asks it). Where nothing is pulled, a model
is there when the model server is ready, as its pods become so by their models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from . import names
from .health import Component
from .manifests import component_of
from .objects import (
    CONFIG_MAP,
    JOB,
    POD,
    Key,
    Object,
    annotations_of,
    is_going,
    labels_of,
    meta_of,
    of_kind,
)
from .pods import Severity, examine, shorten

READY, WAITING, FAILED = "Ready", "Waiting", "Failed"
PULLING_MODELS, PULL_FAILED = "PullingModels", "ModelPullFailed"

_LIST, _PULL = "ollama-models", "pull"
# What moves while a model is pulled; all else is news at once.
_NUMBERS = frozenset({"percent", "size", "bytesPerSecond", "etaSeconds"})
# Seconds between two writes of a status for such numbers alone, and where the percent is the same.
_EVERY, _SELDOM = 3.0, 15.0


def wanted(desired: Mapping[Key, Object]) -> list[str]:
    """The names of all models that the stack is to have, as the spec writes them."""
    for key, obj in desired.items():
        if key.kind is CONFIG_MAP and component_of(obj) == _LIST:
            return [m for m in str((obj.get("data") or {}).get("models", "")).split("\n") if m]
    return []


def jobs(desired: Mapping[Key, Object]) -> dict[str, Key]:
    """The Job that pulls each model."""
    named = {
        annotations_of(obj).get(names.ANNOTATION_MODEL, ""): key
        for key, obj in desired.items()
        if key.kind is JOB and component_of(obj) == _PULL
    }
    return {model: key for model, key in named.items() if model}


def is_complete(job: Mapping[str, Any] | None) -> bool:
    """Whether the Job has done its work."""
    conditions = ((job or {}).get("status") or {}).get("conditions") or ()
    return any((c.get("type"), c.get("status")) == ("Complete", "True") for c in conditions)


def running(desired: Mapping[Key, Object], observed: Mapping[Key, Object]) -> dict[str, str]:
    """The address of the pod that pulls each model, where one runs."""
    found = {}
    for model, key in jobs(desired).items():
        if is_complete(observed.get(key)):
            continue
        for pod in _pods_of(key, observed):
            status = pod.get("status") or {}
            if status.get("phase") == "Running" and status.get("podIP"):
                found[model] = str(status["podIP"])
    return found


def statuses(
    desired: Mapping[Key, Object],
    observed: Mapping[Key, Object],
    told: Mapping[str, Mapping[str, Any]],
    before: Iterable[Mapping[str, Any]],
    *,
    served: bool,
) -> list[dict[str, Any]]:
    """``status.models``. ``told`` is what each pulling pod says; ``served``: Ollama is ready."""
    former = {str(m.get("name")): m for m in before}
    pulls = jobs(desired)
    return [
        _pulled(m, pulls[m], observed, told.get(m), former.get(m, {}))
        if m in pulls
        else _brought(m, former.get(m, {}), served=served)
        for m in wanted(desired)
    ]


def to_write(
    before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]], seconds: float
) -> bool:
    """Whether ``now`` is worth a write, ``seconds`` after the last one that was."""
    if [_lasting(m) for m in before] != [_lasting(m) for m in now]:
        return True
    if [m.get("percent") for m in before] != [m.get("percent") for m in now]:
        return seconds >= _EVERY
    return list(before) != list(now) and seconds >= _SELDOM


def explained(parts: Sequence[Component], models: Sequence[Mapping[str, Any]]) -> list[Component]:
    """``parts``, where a component is not ready for want of a model, with the model's name."""
    missing = [m for m in models if not m.get("ready")]
    failed = [m for m in missing if m.get("state") == FAILED]
    served = all(c.ready for c in parts if c.name == names.OLLAMA)
    if not missing:
        return list(parts)
    if failed:
        reason, severity = PULL_FAILED, Severity.TROUBLE
        message = " ".join(f"{m['name']} cannot be pulled: {m.get('message')}." for m in failed)
    else:
        reason, severity = PULLING_MODELS, Severity.WAITING
        message = f"Waits for {', '.join(str(m['name']) for m in missing)}."

    def judged(part: Component) -> Component:
        concerned = part.name == names.OLLAMA or (part.name == names.APP and served)
        if part.ready or part.reason != "NotReady" or not concerned:
            return part
        return replace(part, reason=reason, severity=severity, message=shorten(message))

    return [judged(c) for c in parts]


def to_repeat(
    desired: Mapping[Key, Object], observed: Mapping[Key, Object]
) -> list[tuple[Key, Object, Object]]:
    """Jobs that are done, and a pod of the server that began after and does not become ready.

    Its volume may be new: a Job that has run will not look again. As ``(key, job, pod)``; whether
    the pod had its time is for the caller, who has a clock.
    """
    found, pods = [], of_kind(observed, POD).values()
    for key in jobs(desired).values():
        job = observed.get(key)
        done = str(((job or {}).get("status") or {}).get("completionTime") or "")
        if job is None or not done or is_going(job):
            continue
        for pod in pods:
            late = str(meta_of(pod).get("creationTimestamp") or "") > done
            if component_of(pod) == names.OLLAMA and late and _is_unready(pod):
                found.append((key, job, pod))
                break
    return found


def started_at(pod: Mapping[str, Any]) -> str:
    """Since when the pod's containers run (RFC 3339); empty when they do not."""
    statuses_ = (pod.get("status") or {}).get("containerStatuses") or ()
    times = [((s.get("state") or {}).get("running") or {}).get("startedAt") for s in statuses_]
    return max((str(t) for t in times if t), default="")


def _is_unready(pod: Mapping[str, Any]) -> bool:
    found = (pod.get("status") or {}).get("containerStatuses") or ()
    return bool(found) and all(s.get("started") and not s.get("ready") for s in found)


def _pulled(
    model: str,
    key: Key,
    observed: Mapping[Key, Object],
    told: Mapping[str, Any] | None,
    former: Mapping[str, Any],
) -> dict[str, Any]:
    if is_complete(observed.get(key)):
        kept = {"size": former["size"]} if former.get("size") else {}
        return {"name": model, "ready": True, "state": READY, "percent": 100, **kept}
    former = {} if former.get("ready") else former
    if told is None:
        return _entry(model, {"state": WAITING, "message": _why(key, observed)}, former)
    return _entry(model, told, former)


def _entry(model: str, told: Mapping[str, Any], former: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of a model that is on its way. What was reached before stays while none knows."""
    known = bool(told.get("total"))
    found = {
        "name": model,
        "ready": False,
        "state": told.get("state"),
        # Each pod says 100 before its Job is done.
        "percent": min(99, int((told if known else former).get("percent") or 0)),
        "size": told.get("total") if known else former.get("size"),
        "bytesPerSecond": told.get("bytesPerSecond"),
        "etaSeconds": told.get("etaSeconds"),
        "message": shorten(str(told.get("message") or "")),
    }
    return {k: v for k, v in found.items() if v not in (None, "")}


def _brought(model: str, former: Mapping[str, Any], *, served: bool) -> dict[str, Any]:
    if served or former.get("ready"):
        return {"name": model, "ready": True, "state": READY, "percent": 100}
    return {"name": model, "ready": False, "state": WAITING, "percent": 0}


def _why(key: Key, observed: Mapping[Key, Object]) -> str:
    """Why no pod tells of a pull."""
    for pod in _pods_of(key, observed):
        finding = examine(pod, (), names.APP)
        if finding is not None and finding.severity is Severity.TROUBLE:
            return finding.message
        return f"{key} is starting."
    suspended = ((observed.get(key) or {}).get("spec") or {}).get("suspend")
    return "Suspended." if suspended else f"{key} has no pod yet."


def _pods_of(key: Key, observed: Mapping[Key, Object]) -> list[Object]:
    return [
        pod
        for pod in of_kind(observed, POD).values()
        if labels_of(pod).get(names.LABEL_JOB) == key.name and not is_going(pod)
    ]


def _lasting(model: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in model.items() if k not in _NUMBERS}
