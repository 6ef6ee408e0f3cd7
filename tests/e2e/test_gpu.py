"""GPUs on a node that says it has them: scheduled, exclusive, released, missed, and come back to.

No device is behind them, as no model of the tests needs one: what is tried here is the allocation.
A profile of MIG stands for all, so that the tests that need a node without nvidia.com/gpu have it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

RESOURCE = "nvidia.com/mig-1g.10gb"
NAMESPACE = "gpus"
TOLD_WITHIN = 10  # seconds from apply until the MetisRAG says what is missing
GPU = {"enabled": True, "resourceName": RESOURCE, "memory": "10Gi"}

Advertise = Callable[[int], None]


@pytest.fixture
def advertise(cluster: Any, umbrella: str) -> Iterator[Advertise]:
    """``advertise(n)``: the node offers n of the resource, as a device plugin would have it say."""
    (node,) = [n["metadata"]["name"] for n in cluster.items("nodes")]
    key = RESOURCE.replace("/", "~1")

    def offer(count: int) -> None:
        patch = [
            {"op": "add", "path": f"/status/{kind}/{key}", "value": str(count)}
            for kind in ("capacity", "allocatable")
        ]
        cluster.kubectl(
            "patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(patch)
        )

    def withdraw() -> None:
        patch = {"status": {kind: {RESOURCE: None} for kind in ("capacity", "allocatable")}}
        cluster.kubectl("patch", "node", node, "--subresource=status", "-p", json.dumps(patch))

    withdraw()  # what a run that was interrupted left
    cluster.namespace(NAMESPACE)
    yield offer
    cluster.drop_namespace(NAMESPACE)
    withdraw()


def pod_on_gpu(cluster: Any, name: str, *, other_than: str = "") -> dict[str, Any] | None:
    """The model server's pod once it was given a node and the GPU; not the one of that uid."""
    pod = cluster.get("pod", f"{name}-ollama-0", "-n", NAMESPACE)
    if not pod or pod["metadata"]["uid"] == other_than or not pod["spec"].get("nodeName"):
        return None
    limits = next(c for c in pod["spec"]["containers"] if c["name"] == "ollama")["resources"]
    return dict(pod) if RESOURCE in limits.get("limits", {}) else None


def says(cluster: Any, name: str) -> str:
    ready: dict[str, Any] = cluster.conditions(NAMESPACE, name).get("Ready", {})
    return f"{ready.get('reason')}: {ready.get('message')}"


def wait(cluster: Any, name: str, probe: Callable[[], Any], timeout: float = 120) -> Any:
    return cluster.wait_for(probe, timeout, lambda: str(cluster.status(NAMESPACE, name)))


def test_missing_is_told_at_once_and_offered_is_taken(cluster: Any, advertise: Advertise) -> None:
    cluster.metisrag(NAMESPACE, "one", {"ollama": {"gpu": GPU}})
    applied = time.monotonic()
    missing = f"no node offers 1 {RESOURCE}"
    wait(cluster, "one", lambda: missing in says(cluster, "one"), TOLD_WITHIN)
    print(f"a missing GPU stands on the MetisRAG after {time.monotonic() - applied:.1f} s")
    assert "device plugin" in says(cluster, "one")
    advertise(1)
    wait(cluster, "one", lambda: pod_on_gpu(cluster, "one"), 30)


@pytest.mark.full
def test_one_has_it_the_other_runs_on_the_cpu_until_it_is_free(
    cluster: Any, advertise: Advertise, ask: Any
) -> None:
    advertise(1)
    cluster.metisrag(NAMESPACE, "one", {"ollama": {"gpu": GPU}})
    cluster.wait_ready(NAMESPACE, "one")
    first = pod_on_gpu(cluster, "one")
    assert first

    # Released on a rollout: the pod goes before the next one takes the GPU.
    annotate = {"spec": {"ollama": {"podAnnotations": {"rolled": "once"}}}}
    cluster.kubectl(
        "patch", "metisrag", "one", "-n", NAMESPACE, "--type=merge", "-p", json.dumps(annotate)
    )
    uid = first["metadata"]["uid"]
    wait(cluster, "one", lambda: pod_on_gpu(cluster, "one", other_than=uid))
    cluster.wait_ready(NAMESPACE, "one")

    # Exclusive: another instance does not get the same GPU.
    fallback = {"fallback": "cpu", "fallbackAfterSeconds": 15}
    cluster.metisrag(NAMESPACE, "two", {"ollama": {"gpu": GPU | fallback}})
    wait(cluster, "two", lambda: f"no node offers 1 {RESOURCE}" in says(cluster, "two"), 20)

    # The CPU takes over where that is allowed, and says so.
    status = cluster.wait_ready(NAMESPACE, "two")
    assert status["gpu"]["phase"] == "CPU"
    assert "on the CPU" in cluster.conditions(NAMESPACE, "two")["GPUFallback"]["message"]
    said = cluster.metis("status", "two", namespace=NAMESPACE).stdout
    assert "The models run on the CPU" in said
    with cluster.app(NAMESPACE, "two") as client:
        ask(client, "Say something.")

    # It is given back, and the other one takes it.
    cluster.kubectl("delete", "metisrag", "one", "-n", NAMESPACE, "--wait", timeout=60)
    wait(cluster, "two", lambda: pod_on_gpu(cluster, "two"))
    cluster.wait_ready(NAMESPACE, "two")
    assert "GPUFallback" not in cluster.conditions(NAMESPACE, "two")
    assert cluster.get("job", "two-gpu-lookout", "-n", NAMESPACE) is None
