"""What a pod suffers from, in words that a person can act on."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .objects import containers_of, is_going, meta_of

_LIMIT = 600

_PULL = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


# How app.prepare ends where documents would have to be embedded anew and nobody asked for it.
_EMBEDDING_REFUSED = 3
EMBEDDING_REFUSED = "EmbeddingChangeRefused"


class Severity(enum.IntEnum):
    """How bad a finding is; the worst one speaks for its component."""

    FINE = 0
    WAITING = 1  # passes by itself
    TROUBLE = 2  # someone should look


@dataclass(frozen=True)
class Finding:
    """One thing seen: a CamelCase reason for machines, a message for people."""

    severity: Severity
    reason: str
    message: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", shorten(self.message))


def scheduling(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """The condition that says whether the pod was given a node; empty until there is one."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c.get("type") == "PodScheduled"), {})


def lacking(said: str) -> list[str]:
    """The resources that no node has enough of, by the scheduler's message."""
    return sorted(set(re.findall(r"Insufficient ([\w./-]+?)[.,]?(?:\s|$)", said)))


def shorten(text: str, limit: int = _LIMIT) -> str:
    """``text`` on one line, cut in the middle where it is longer than ``limit`` characters."""
    text = " ".join(text.split())
    if len(text) <= limit:
        return text
    half = (limit - 3) // 2
    return f"{text[:half]} … {text[-half:]}"


def examine(
    pod: Mapping[str, Any], claims: Iterable[Mapping[str, Any]], values_key: str
) -> Finding | None:
    """The worst thing about ``pod``, or None when it is ready or on its way out.

    ``claims`` are the PersistentVolumeClaims of its component; ``values_key`` is the part of
    the spec where its settings are (``ollama``, ``metisPostgres``).
    """
    if is_going(pod):
        return None
    status = pod.get("status") or {}
    if status.get("phase") == "Failed":
        why = status.get("message") or status.get("reason") or "no reason given"
        return Finding(
            Severity.TROUBLE, status.get("reason") or "PodFailed", f"{_name(pod)}: {why}"
        )
    conditions = {c.get("type"): c for c in status.get("conditions") or ()}
    scheduled = scheduling(pod)
    if scheduled.get("status") == "False":
        return _unscheduled(pod, scheduled, list(claims), values_key)
    found = [
        f for s in _container_statuses(status) if (f := _container(pod, s, values_key)) is not None
    ]
    if found:
        return max(found, key=lambda f: f.severity)
    if (conditions.get("Ready") or {}).get("status") == "True":
        return None
    return Finding(Severity.WAITING, "Starting", f"{_name(pod)} is starting.")


def _container_statuses(status: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    init = [{**s, "init": True} for s in status.get("initContainerStatuses") or ()]
    return [*init, *(status.get("containerStatuses") or ())]


def _unscheduled(
    pod: Mapping[str, Any],
    condition: Mapping[str, Any],
    claims: Sequence[Mapping[str, Any]],
    values_key: str,
) -> Finding:
    said = str(condition.get("message") or "the scheduler has not said why")
    if "PersistentVolumeClaim" in said or "persistentvolumeclaim" in said or "storageclass" in said:
        for claim in claims:
            if (claim.get("status") or {}).get("phase") != "Bound":
                return pending_claim(claim, said)
    resources = lacking(said)
    if resources:
        return Finding(
            Severity.TROUBLE,
            "Unschedulable",
            f"{_name(pod)}: no node offers {_amounts(pod, resources)}. "
            f"{_advice(resources, values_key)} Scheduler: {said}",
        )
    if "untolerated taint" in said:
        help_ = f"Set spec.{values_key}.tolerations, or remove the taint."
    elif "node affinity" in said or "node selector" in said:
        where = f"spec.{values_key}.nodeSelector{_more(pod, values_key)}"
        help_ = f"No node has the labels asked for: check {where}."
    elif condition.get("reason") == "Unschedulable":
        help_ = f"Check the nodes: kubectl describe pod {meta_of(pod).get('name')}."
    else:
        return Finding(Severity.WAITING, "Scheduling", f"{_name(pod)} waits for a node: {said}")
    return Finding(
        Severity.TROUBLE, "Unschedulable", f"{_name(pod)} fits no node. {help_} Scheduler: {said}"
    )


def pending_claim(claim: Mapping[str, Any], said: str = "") -> Finding:
    """Why a PersistentVolumeClaim is not bound; ``said`` is the scheduler's word on it."""
    spec = claim.get("spec") or {}
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage", "?")
    storage_class = spec.get("storageClassName")
    name = meta_of(claim).get("name")
    if not storage_class:
        message = (
            f"Volume {name} ({size}) has no storage class and the cluster has no default one: "
            "set storage.className in the spec, or mark a StorageClass as default."
        )
        return Finding(Severity.TROUBLE, "PendingVolume", message)
    message = f"Volume {name} ({size}) waits for storage class {storage_class}."
    if not said:
        return Finding(Severity.WAITING, "PendingVolume", message)
    help_ = (
        f"Does it exist (kubectl get storageclass {storage_class}), and does its provisioner run? "
        f"If the spec names another class by now: kubectl delete pvc {name}, which holds nothing."
    )
    return Finding(Severity.TROUBLE, "PendingVolume", f"{message} {help_} Scheduler: {said}")


def _container(
    pod: Mapping[str, Any], status: Mapping[str, Any], values_key: str
) -> Finding | None:
    state = status.get("state") or {}
    waiting = state.get("waiting") or {}
    reason = waiting.get("reason", "")
    name = f"{_name(pod)}, container {status.get('name')}"
    if reason in _PULL:
        return Finding(
            Severity.TROUBLE,
            "ImagePullError",
            f"{name}: cannot pull image {status.get('image')}: {waiting.get('message') or reason}",
        )
    if reason in _CONFIG:
        return Finding(Severity.TROUBLE, reason, f"{name}: {waiting.get('message') or reason}")
    last = (status.get("lastState") or {}).get("terminated") or {}
    if reason == "CrashLoopBackOff":
        return _crash(name, last, status, values_key)
    terminated = state.get("terminated")
    if terminated:
        if terminated.get("exitCode") == 0 and status.get("init"):
            return None
        return _crash(name, terminated, status, values_key)
    if "running" in state:
        return _running(pod, name, status, last, values_key)
    return None


def _crash(
    name: str, ended: Mapping[str, Any], status: Mapping[str, Any], values_key: str
) -> Finding:
    code, times = ended.get("exitCode", "?"), status.get("restartCount", 0)
    if ended.get("reason") == "OOMKilled":
        return Finding(
            Severity.TROUBLE,
            "OutOfMemory",
            f"{name} was killed because it used more memory than its limit ({times} restarts): "
            f"raise spec.{values_key}.resources.limits.memory.",
        )
    kind = "InitFailed" if status.get("init") else "CrashLoop"
    said = _last_line(str(ended.get("message") or ""))
    if code == _EMBEDDING_REFUSED and status.get("name") == "prepare":
        # Its pods do not start; those of the settings before go on.
        _, _, why = said.partition(": ")
        return Finding(Severity.TROUBLE, EMBEDDING_REFUSED, f"{why or said or name}.")
    message = f"{name} ended with exit code {code} ({times} restarts)"
    return Finding(Severity.TROUBLE, kind, f"{message}: {said}" if said else f"{message}.")


def _running(
    pod: Mapping[str, Any],
    name: str,
    status: Mapping[str, Any],
    last: Mapping[str, Any],
    values_key: str,
) -> Finding | None:
    if status.get("init"):
        # A sidecar (an init container that stays) is as good as started once it is ready.
        if status.get("started") and status.get("ready"):
            return None
        if last.get("exitCode", 0) != 0:
            return _crash(name, last, status, values_key)
        return Finding(Severity.WAITING, "Initializing", f"{name} is running.")
    if status.get("ready"):
        return None
    if last.get("exitCode", 0) != 0 and not status.get("started"):
        return _crash(name, last, status, values_key)
    if not status.get("started"):
        return Finding(
            Severity.WAITING,
            "Starting",
            f"{name} is starting{_probe(pod, status, 'startupProbe')}.",
        )
    return Finding(
        Severity.WAITING,
        "NotReady",
        f"{name} runs, but its readiness probe{_probe(pod, status, 'readinessProbe')} fails.",
    )


def _probe(pod: Mapping[str, Any], status: Mapping[str, Any], kind: str) -> str:
    for container in containers_of(pod.get("spec") or {}):
        probe = container.get(kind)
        if container.get("name") == status.get("name") and probe:
            http, exec_ = probe.get("httpGet"), probe.get("exec")
            if http:
                return f" (GET {http.get('path', '/')})"
            if exec_:
                return f" ({' '.join(exec_.get('command') or ())})"
    return ""


def _amounts(pod: Mapping[str, Any], resources: Sequence[str]) -> str:
    asked: dict[str, str] = {}
    for container in (pod.get("spec") or {}).get("containers") or ():
        given = container.get("resources") or {}
        asked |= {**(given.get("limits") or {}), **(given.get("requests") or {})}
    return ", ".join(f"{asked[r]} {r}" if r in asked else r for r in resources)


def _more(pod: Mapping[str, Any], values_key: str) -> str:
    devices = any("/" in r for c in containers_of(pod.get("spec") or {}) for r in _limits(c))
    return f" and spec.{values_key}.gpu.nodeSelector" if devices else ""


def _limits(container: Mapping[str, Any]) -> Mapping[str, Any]:
    return (container.get("resources") or {}).get("limits") or {}


def _advice(resources: Sequence[str], values_key: str) -> str:
    if any("/" in r for r in resources):
        return (
            "Install the device plugin on a node that has GPUs, or free one that another pod has; "
            f"to run on the CPU, set spec.{values_key}.gpu.enabled to false, or, until a GPU is "
            f"there, spec.{values_key}.gpu.fallback to cpu."
        )
    return f"Free or add capacity, or lower spec.{values_key}.resources.requests."


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _name(pod: Mapping[str, Any]) -> str:
    return f"Pod {meta_of(pod).get('name')}"
