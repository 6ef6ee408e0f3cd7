"""Whether the models run on the GPUs that are asked for, or meanwhile on the CPU.

A pod that has waited long enough for GPUs that no node has free is replaced by one that runs on
the CPU, if the spec allows it (``ollama.gpu.fallback: cpu``). A lookout then waits in its place:
a pod that asks for the same GPUs, near the same volume, and does nothing. When the scheduler has
found a node for that, the models go back to the GPUs. So nobody is interrupted for a try in vain;
and where the GPUs are lost again at once, the next lookout starts later and later.

Times are seconds since the epoch.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import names
from .conditions import FALLBACK
from .health import Component
from .manifests import component_of, digest
from .objects import JOB, Object, Owner, containers_of, is_going, labels_of, meta_of, pod_spec_of
from .pods import lacking, scheduling
from .values import get, merge

LOOKOUT = "gpu-lookout"
# Seconds on the GPUs after which former failures no longer count.
STEADY = 900.0
# After the second failure in a row the lookout starts so many seconds later, then twice that.
_DELAY, _LONGEST = 60.0, 3600.0
_PLACEMENT = ("gpu", "nodeSelector", "tolerations", "affinity")
_POD_FIELDS = (
    "serviceAccountName",
    "securityContext",
    "imagePullSecrets",
    "runtimeClassName",
    "priorityClassName",
    "nodeSelector",
    "tolerations",
    "affinity",
)
_CONTAINER_FIELDS = ("image", "imagePullPolicy", "securityContext")


class Phase(enum.StrEnum):
    """What is the case because GPUs were not to be had."""

    CPU = "CPU"
    RETURNING = "Returning"


@dataclass(frozen=True)
class Wish:
    """The GPUs that a spec asks for, where it also allows the CPU."""

    resource: str
    count: int
    patience: float
    """Seconds that a pod may wait for them."""
    labelled: bool
    """Whether only certain nodes are meant to have them."""
    digest: str
    """Changes with all that decides about the place of the pod."""

    @classmethod
    def of(cls, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> Wish | None:
        """From the values, under them the chart's own; None where there is nothing to decide."""
        ollama = merge(get(defaults, "ollama", {}), get(values, "ollama", {}))
        gpu = ollama.get("gpu") or {}
        if not gpu.get("enabled") or gpu.get("fallback") != "cpu":
            return None
        return cls(
            resource=str(gpu["resourceName"]),
            count=int(gpu["count"]),
            patience=float(gpu["fallbackAfterSeconds"]),
            labelled=bool(gpu.get("nodeSelector")),
            digest=digest({k: ollama.get(k) for k in _PLACEMENT}),
        )


@dataclass(frozen=True)
class State:
    """What is remembered, in the status, from one reconcile to the next."""

    phase: Phase
    since: float
    wish: str
    """Digest of the wish that it is about."""
    failures: int
    """How often in a row the GPUs were not to be had."""
    said: str = ""
    """The scheduler's words on it."""

    @property
    def lookout_from(self) -> float:
        """When to begin to look for GPUs."""
        if self.failures < 2:
            return self.since
        return self.since + min(_DELAY * 2.0 ** min(self.failures - 2, 16), _LONGEST)


@dataclass(frozen=True)
class Seen:
    """What pods tell of GPUs."""

    lack: str = ""
    """The scheduler's words on a pod of the model server that waits for them."""
    lacking_since: float = 0.0
    placed: bool = False
    """Whether a pod of the model server has them."""
    offered: bool = False
    """Whether the lookout was given a node."""


@dataclass(frozen=True)
class Decision:
    """What is the case now."""

    state: State | None
    look_out: bool = False
    again: float | None = None
    """Seconds after which to decide anew."""

    @property
    def on_cpu(self) -> bool:
        """Whether the models are to run on the CPU although GPUs are asked for."""
        return self.state is not None and self.state.phase is Phase.CPU


def decide(before: State | None, wish: Wish | None, seen: Seen, now: float) -> Decision:
    """The next state. A changed wish is tried on the GPUs at once, as if nothing had been."""
    if wish is None:
        return Decision(None)
    state = before if before is not None and before.wish == wish.digest else None
    if state is not None and state.phase is Phase.CPU:
        return _on_cpu(state, seen, now)
    if seen.lack:
        waited = now - seen.lacking_since
        if waited < wish.patience:
            return Decision(state, again=wish.patience - waited)
        failures = 1 + (state.failures if state else 0)
        return _on_cpu(State(Phase.CPU, now, wish.digest, failures, seen.lack), Seen(), now)
    if state is None:
        return Decision(None)
    if not seen.placed:
        return Decision(state)
    left = state.since + STEADY - now
    return Decision(state, again=left) if left > 0 else Decision(None)


def _on_cpu(state: State, seen: Seen, now: float) -> Decision:
    if now < state.lookout_from:
        return Decision(state, again=state.lookout_from - now)
    if seen.offered:
        return Decision(replace(state, phase=Phase.RETURNING, since=now))
    return Decision(state, look_out=True)


def look(pods: Iterable[Object], wish: Wish, moment: Any) -> Seen:
    """What ``pods`` of one instance tell; ``moment`` reads an RFC 3339 time, None for none."""
    seen = Seen()
    for pod in pods:
        component = component_of(pod)
        if is_going(pod) or component not in (names.OLLAMA, LOOKOUT):
            continue
        condition = scheduling(pod)
        has_node = condition.get("status") == "True"
        if component == LOOKOUT:
            asked_for = labels_of(pod).get(names.LABEL_WISH) == wish.digest
            seen = replace(seen, offered=seen.offered or (has_node and asked_for))
        elif asks_for(pod.get("spec") or {}, wish.resource):
            said = str(condition.get("message") or "")
            if has_node:
                seen = replace(seen, placed=True)
            elif _is_lack(said, wish):
                since = moment(condition.get("lastTransitionTime")) or 0.0
                seen = replace(seen, lack=said, lacking_since=since)
    return seen


def _is_lack(said: str, wish: Wish) -> bool:
    # Where only labelled nodes have GPUs, and there is none, the scheduler speaks of labels.
    return wish.resource in lacking(said) or (wish.labelled and "node affinity/selector" in said)


def asks_for(pod_spec: Mapping[str, Any], resource: str) -> bool:
    """Whether a container of the pod asks for the resource."""
    return any(
        resource in ((c.get("resources") or {}).get("limits") or {})
        for c in containers_of(pod_spec)
    )


def on_cpu(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with the GPUs off."""
    return merge(values, {"ollama": {"gpu": {"enabled": False}}})


def has_turned(wanted: Object | None, live: Object | None, resource: str) -> bool:
    """Whether the model server goes over from GPUs to the CPU, or back."""
    if wanted is None or live is None:
        return False
    return asks_for(pod_spec_of(wanted), resource) != asks_for(pod_spec_of(live), resource)


def words(state: State | None, wish: Wish | None) -> str:
    """What a person reads while the models run on the CPU."""
    if state is None or wish is None:
        return ""
    return (
        f"The models run on the CPU: in {wish.patience:.0f} s no node had {wish.count} "
        f"{wish.resource} free. They go back to the GPU by themselves as soon as a node has. "
        "Install the device plugin on a node that has GPUs, or free one; to keep the CPU, set "
        f"spec.ollama.gpu.enabled to false. Scheduler: {state.said}"
    )


def news(before: State | None, after: Decision, wish: Wish | None) -> tuple[str, str, str] | None:
    """Kind, reason and message of the event that the change is worth; None for no change."""
    was_on_cpu = before is not None and before.phase is Phase.CPU
    if wish is None or after.on_cpu == was_on_cpu:
        return None
    if after.on_cpu:
        return "Warning", FALLBACK, words(after.state, wish)
    message = f"A node has {wish.count} {wish.resource} free: the models go back to the GPU."
    return "Normal", "GPUReturns", message


def told(components: Iterable[Component], message: str) -> list[Component]:
    """``components``, the model server's with that message where it has none of its own."""
    return [
        replace(c, reason=FALLBACK, message=message) if c.ready and c.name == names.OLLAMA else c
        for c in components
    ]


def lookout_name(instance: str) -> str:
    """The name of the lookout's Job."""
    return f"{instance}-{LOOKOUT}"


def lookout(statefulset: Mapping[str, Any], wish: Wish, owner: Owner) -> Object:
    """The Job that is given a node when the model server on GPUs would be.

    ``statefulset`` is that of the model server on GPUs. The Job has its place, its volume (which
    may tie it to some nodes) and its GPUs, and a command that ends at once.
    """
    template = pod_spec_of(statefulset)
    main = next(c for c in template["containers"] if c["name"] == names.OLLAMA)
    labels = {
        **names.selector_labels(owner.name, LOOKOUT),
        names.LABEL_PART_OF: names.PRODUCT,
        names.LABEL_WISH: wish.digest,
    }
    gpus = {wish.resource: str(wish.count)}
    container = {k: main[k] for k in _CONTAINER_FIELDS if k in main} | {
        "name": LOOKOUT,
        "command": ["true"],
        "resources": {
            "requests": {"cpu": "10m", "memory": "16Mi", **gpus},
            "limits": {"cpu": "100m", "memory": "64Mi", **gpus},
        },
    }
    claims = (statefulset.get("spec") or {}).get("volumeClaimTemplates") or ()
    workload = meta_of(statefulset)["name"]
    volumes = [
        {
            "name": meta_of(c)["name"],
            "persistentVolumeClaim": {"claimName": f"{meta_of(c)['name']}-{workload}-0"},
        }
        for c in claims
    ]
    return {
        "apiVersion": JOB.api_version,
        "kind": JOB.kind,
        "metadata": {
            "name": lookout_name(owner.name),
            "namespace": owner.namespace,
            "labels": labels,
            "ownerReferences": [owner.reference],
        },
        "spec": {
            "backoffLimit": 0,
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    **{k: template[k] for k in _POD_FIELDS if k in template},
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 0,
                    "containers": [container],
                    "volumes": volumes,
                },
            },
        },
    }
