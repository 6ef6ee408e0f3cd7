"""Starts the steady load in a cluster, and reads what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("steady.py")
POD = "steady-load"


@dataclass(frozen=True)
class Sample:
    """One request: when it was sent (seconds since the epoch), how long it took (ms)."""

    sent: float
    target: str
    took: float
    result: str

    @property
    def ended(self) -> float:
        """When it was answered, or given up."""
        return self.sent + self.took / 1000

    @property
    def failed(self) -> bool:
        return self.result != "ok"


@dataclass(frozen=True)
class Load:
    """A running load; ``samples`` reads all that it has sent so far."""

    cluster: Any
    namespace: str

    def samples(self) -> list[Sample]:
        text = self.cluster.kubectl("logs", POD, "-n", self.namespace)
        found = []
        for line in text.splitlines():
            sent, target, took, result = line.split(" ", 3)
            found.append(Sample(float(sent), target, float(took), result))
        return found


@contextmanager
def steady_load(cluster: Any, namespace: str, instance: str, rate: int = 20) -> Iterator[Load]:
    """``rate`` requests a second at each of an instance's servers, while the context lasts."""
    deployment = cluster.get("deployment", f"{instance}-app", "-n", namespace)
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    security = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    volumes = [
        {"name": "script", "configMap": {"name": POD}},
        {"name": "mem0", "secret": {"secretName": f"{instance}-mem0-key"}},
        {"name": "auth", "secret": {"secretName": f"{instance}-auth"}},
    ]
    mounts = [
        {"name": "script", "mountPath": "/load"},
        {"name": "mem0", "mountPath": "/run/secrets/mem0"},
        {"name": "auth", "mountPath": "/run/secrets/auth"},
    ]
    env = [
        {"name": "APP", "value": f"http://{instance}-app:8000"},
        {"name": "MEM0", "value": f"http://{instance}-mem0:8050"},
        {"name": "RATE", "value": str(rate)},
    ]
    container = {
        "name": "load", "image": image, "imagePullPolicy": "IfNotPresent",
        "command": ["python", "/load/steady.py"], "env": env, "volumeMounts": mounts,
        "securityContext": security,
        # Limits too: a namespace may have small ones of its own for who names none. On a busy node
        # it must not be what is slow, so it has more of a right to the processor than any other.
        "resources": {
            "requests": {"cpu": "300m", "memory": "64Mi"},
            "limits": {"cpu": "1", "memory": "256Mi"},
        },
    }  # fmt: skip
    pod_security = {
        "runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    meta = {"name": POD, "namespace": namespace}
    cluster.apply(
        {
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": meta,
            "data": {"steady.py": SCRIPT.read_text(encoding="utf-8")},
        },
        {
            "apiVersion": "v1", "kind": "Pod", "metadata": meta,
            "spec": {
                "containers": [container], "volumes": volumes, "securityContext": pod_security,
                "restartPolicy": "Never", "automountServiceAccountToken": False,
            },
        },
    )  # fmt: skip
    try:
        load = Load(cluster, namespace)
        cluster.kubectl(
            "wait", f"pod/{POD}", "-n", namespace, "--for=condition=Ready", "--timeout=60s"
        )
        cluster.wait_for(
            lambda: len(load.samples()) > 2 * rate, 30, lambda: "the load does not begin"
        )
        yield load
    finally:
        cluster.kubectl("delete", "pod", POD, "-n", namespace, "--grace-period=1")
        cluster.kubectl("delete", "configmap", POD, "-n", namespace)


def p99(samples: Sequence[Sample]) -> float:
    """The latency that 99 of 100 requests stay below, in ms."""
    times = sorted(s.took for s in samples)
    return times[min(len(times) - 1, int(len(times) * 0.99))] if times else 0.0
