"""GPUs that are not to be had: told, replaced by the CPU where that is allowed, and taken again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.component.operator.world import World

GPU = "nvidia.com/gpu"
LACK = f"0/1 nodes are available: 1 Insufficient {GPU}. preemption: not helpful."
SPEC = {"ollama": {"gpu": {"enabled": True, "fallback": "cpu", "fallbackAfterSeconds": 5}}}


def limits(world: World) -> dict[str, str]:
    """What the model server's pods are limited to."""
    pod = world.get("StatefulSet", "demo-ollama")["spec"]["template"]["spec"]
    container = next(c for c in pod["containers"] if c["name"] == "ollama")
    return dict(container["resources"].get("limits", {}))


def unschedulable() -> dict[str, Any]:
    """What the scheduler notes on a pod."""
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": LACK,
        "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return {"phase": "Pending", "conditions": [condition]}


def pend(world: World) -> None:
    """The pod that a StatefulSet's controller makes, and that fits no node."""
    resources = {"limits": limits(world), "requests": limits(world)}
    spec = {"containers": [{"name": "ollama", "image": "i", "resources": resources}]}
    world.pod("ollama", spec, unschedulable())


def lookout(world: World) -> dict[str, Any] | None:
    return world.api.get("Job", world.ns, "demo-gpu-lookout")


def give_a_node(world: World) -> None:
    """The lookout's pod, as the Job's controller makes it and the scheduler places it."""
    template = (lookout(world) or {})["spec"]["template"]
    labels = template["metadata"]["labels"]
    pod = {"metadata": {"name": "demo-gpu-lookout-x", "labels": labels}, "spec": template["spec"]}
    world.api.create("Pod", world.ns, pod)
    placed = {"conditions": [{"type": "PodScheduled", "status": "True"}]}
    world.api.patch("Pod", world.ns, "demo-gpu-lookout-x", {"status": placed}, "status")


@pytest.fixture
def on_cpu(world: World, wait: Callable[..., Any]) -> World:
    """A MetisRAG that is Ready on the CPU for want of a GPU."""
    world.create(SPEC)
    world.until_made()
    assert limits(world)[GPU] == "1"
    pend(world)
    wait(lambda: "no node offers 1 nvidia.com/gpu" in world.component("ollama")["message"])
    assert GPU in limits(world), "it waits first"
    wait(lambda: GPU not in limits(world))
    world.api.delete("Pod", world.ns, "demo-ollama-0")
    world.play_kubelet()
    world.until_phase("Ready")
    world.look_again()
    return world


def test_the_cpu_takes_over_and_says_so(on_cpu: World, wait: Callable[..., Any]) -> None:
    told = on_cpu.condition("GPUFallback")
    assert told["status"] == "True"
    for word in ("on the CPU", "1 nvidia.com/gpu", "device plugin", "gpu.enabled", LACK):
        assert word in told["message"]
    assert on_cpu.component("ollama")["reason"] == "GPUFallback"
    assert "GPUFallback" in on_cpu.condition("Ready")["message"]
    assert on_cpu.resource()["status"]["gpu"]["phase"] == "CPU"
    wait(lambda: ("Warning", "GPUFallback") in on_cpu.events())
    # The lookout has the GPUs and the volume that the server would have.
    job = wait(lambda: lookout(on_cpu))
    pod = job["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"][GPU] == "1"
    claims = [v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"]]
    assert claims == ["models-demo-ollama-0"]
    on_cpu.look_again()
    before = on_cpu.writes()
    on_cpu.look_again()
    assert on_cpu.writes() == before


def test_an_operator_that_starts_anew_knows_and_goes_back(
    on_cpu: World, wait: Callable[..., Any]
) -> None:
    wait(lambda: lookout(on_cpu))
    on_cpu.operator.kill()
    before = on_cpu.writes()
    on_cpu.operator.start()
    on_cpu.look_again()
    assert GPU not in limits(on_cpu)
    assert on_cpu.writes() == before
    give_a_node(on_cpu)
    wait(lambda: limits(on_cpu).get(GPU) == "1")
    wait(lambda: lookout(on_cpu) is None)
    wait(lambda: ("Normal", "GPUReturns") in on_cpu.events())
    wait(lambda: not on_cpu.condition("GPUFallback"))
    assert on_cpu.resource()["status"]["gpu"]["phase"] == "Returning"
    on_cpu.play_kubelet()
    on_cpu.until_phase("Ready")


def test_a_changed_spec_is_tried_at_once(on_cpu: World, wait: Callable[..., Any]) -> None:
    wait(lambda: lookout(on_cpu))
    on_cpu.change({"spec": {"ollama": {"gpu": {"resourceName": "amd.com/gpu"}}}})
    wait(lambda: limits(on_cpu).get("amd.com/gpu") == "1")
    wait(lambda: lookout(on_cpu) is None)
    wait(lambda: "gpu" not in on_cpu.resource()["status"])


def test_without_leave_it_waits(world: World, wait: Callable[..., Any]) -> None:
    gpu = SPEC["ollama"]["gpu"] | {"fallback": "none"}
    world.create({"ollama": {"gpu": gpu}})
    world.until_made()
    stale = unschedulable()
    stale["conditions"][0]["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    resources = {"limits": limits(world), "requests": limits(world)}
    spec = {"containers": [{"name": "ollama", "image": "i", "resources": resources}]}
    world.pod("ollama", spec, stale)
    wait(lambda: world.component("ollama")["reason"] == "Unschedulable")
    assert "spec.ollama.gpu.fallback to cpu" in world.component("ollama")["message"]
    world.look_again()
    assert GPU in limits(world)
    assert lookout(world) is None
