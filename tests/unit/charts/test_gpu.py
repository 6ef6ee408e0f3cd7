"""What GPUs change in the model server's pod: allocation, placement, image and tuning."""

from __future__ import annotations

import pytest


def _pod(stack, gpu=None, **ollama):
    values = {"ollama": ollama | ({"gpu": {"enabled": True} | gpu} if gpu is not None else {})}
    return stack(values).one("StatefulSet", "demo-ollama")["spec"]["template"]["spec"]


def _container(pod):
    return next(c for c in pod["containers"] if c["name"] == "ollama")


def _env(pod):
    return {variable["name"]: variable["value"] for variable in _container(pod)["env"]}


def _tuning(env):
    names = ("OLLAMA_NUM_PARALLEL", "OLLAMA_KEEP_ALIVE", "OLLAMA_MAX_LOADED_MODELS")
    return tuple(env.get(name) for name in names)


@pytest.mark.parametrize(
    "resource", ["nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "nvidia.com/gpu.shared", "amd.com/gpu"]
)
def test_a_gpu_is_requested_as_much_as_limited(stack, resource):
    gpu = {"resourceName": resource}
    container = _container(_pod(stack, gpu, resources={"limits": {"memory": "8Gi"}}))
    assert container["resources"]["limits"] == {"memory": "8Gi", resource: 1}
    assert container["resources"]["requests"][resource] == 1


def test_several_gpus_and_a_runtime(stack):
    pod = _pod(stack, {"count": 2, "runtimeClassName": "nvidia"})
    assert _container(pod)["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert pod["runtimeClassName"] == "nvidia"


@pytest.mark.parametrize(
    ("resource", "void"),
    [("nvidia.com/gpu", False), ("nvidia.com/mig-1g.10gb", False), ("amd.com/gpu", True)],
)
def test_only_gpus_that_are_allocated_are_taken(stack, resource, void):
    env = _env(_pod(stack, {"resourceName": resource}))
    assert (env.get("NVIDIA_VISIBLE_DEVICES") == "void") is void


def test_without_gpu_nothing_of_it_is_left(stack):
    gpu = {
        "enabled": False,
        "runtimeClassName": "nvidia",
        "nodeSelector": {"accelerator": "nvidia"},
        "supplementalGroups": [44],
        "memory": "80Gi",
        "resourceName": "amd.com/gpu",
    }
    pod = _pod(stack, gpu, nodeSelector={"disk": "fast"})
    assert _env(pod)["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert pod["nodeSelector"] == {"disk": "fast"}
    assert not {"runtimeClassName", "tolerations"} & pod.keys()
    assert "supplementalGroups" not in pod["securityContext"]
    assert _container(pod)["image"].endswith(":0.17.4")
    assert _tuning(_env(pod)) == ("1", "30m", None)


@pytest.mark.parametrize(
    ("resource", "taint"),
    [
        ("nvidia.com/gpu", "nvidia.com/gpu"),
        ("nvidia.com/mig-3g.40gb", "nvidia.com/gpu"),
        ("nvidia.com/gpu.shared", "nvidia.com/gpu"),
        ("amd.com/gpu", "amd.com/gpu"),
        ("gpu.intel.com/xe", "gpu.intel.com/xe"),
    ],
)
def test_the_usual_taint_is_tolerated(stack, resource, taint):
    mine = {"key": "team", "operator": "Exists"}
    pod = _pod(stack, {"resourceName": resource}, tolerations=[mine])
    usual = {"key": taint, "operator": "Exists", "effect": "NoSchedule"}
    assert pod["tolerations"] == [mine, usual]


def test_a_toleration_of_one_s_own_for_that_taint_is_enough(stack):
    mine = {"key": "nvidia.com/gpu", "operator": "Equal", "value": "a", "effect": "NoSchedule"}
    assert _pod(stack, {}, tolerations=[mine])["tolerations"] == [mine]


def test_nodes_and_groups_for_gpus_alone(stack):
    gpu = {"nodeSelector": {"accelerator": "amd"}, "supplementalGroups": [44, 109]}
    pod = _pod(stack, gpu, nodeSelector={"disk": "fast"})
    assert pod["nodeSelector"] == {"accelerator": "amd", "disk": "fast"}
    assert pod["securityContext"]["supplementalGroups"] == [44, 109]


@pytest.mark.parametrize(
    ("resource", "image", "expected"),
    [
        ("amd.com/gpu", {}, "ollama/ollama:0.17.4-rocm"),
        ("amd.com/gpu", {"tag": "0.17.4-rocm"}, "ollama/ollama:0.17.4-rocm"),
        ("amd.com/gpu", {"tag": "ours"}, "ollama/ollama:ours"),
        ("amd.com/gpu", {"digest": f"sha256:{'0' * 64}"}, f"ollama/ollama@sha256:{'0' * 64}"),
        ("nvidia.com/gpu", {}, "ollama/ollama:0.17.4"),
        ("gpu.intel.com/i915", {}, "ollama/ollama:0.17.4"),
    ],
)
def test_the_image_has_the_libraries_for_the_maker(stack, resource, image, expected):
    pod = _pod(stack, {"resourceName": resource}, image=image)
    assert _container(pod)["image"] == expected


def test_intel_s_gpus_are_driven_by_vulkan(stack):
    assert _env(_pod(stack, {"resourceName": "gpu.intel.com/xe"}))["OLLAMA_VULKAN"] == "1"
    assert "OLLAMA_VULKAN" not in _env(_pod(stack, {}))


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [
        ({}, ("1", "30m", None)),
        ({"memory": "8Gi"}, ("1", "-1", "2")),
        ({"memory": "16Gi"}, ("2", "-1", "2")),
        ({"memory": "16G"}, ("2", "-1", "2")),
        ({"memory": "24Gi"}, ("4", "-1", "2")),
        ({"memory": "24Gi", "count": 2}, ("8", "-1", "3")),
        ({"memory": "80Gi"}, ("8", "-1", "3")),
        ({"memory": "10Gi", "resourceName": "nvidia.com/mig-1g.10gb"}, ("1", "-1", "2")),
        ({"memory": "24Gi", "resourceName": "nvidia.com/gpu.shared"}, ("4", "30m", "2")),
    ],
)
def test_parallel_requests_and_keep_alive_follow_from_the_memory(stack, gpu, expected):
    assert _tuning(_env(_pod(stack, gpu))) == expected


def test_what_is_given_wins(stack):
    given = {"numParallel": 3, "keepAlive": "5m", "maxLoadedModels": 1}
    assert _tuning(_env(_pod(stack, {"memory": "80Gi"}, **given))) == ("3", "5m", "1")
    assert _tuning(_env(_pod(stack, {}, numParallel=3))) == ("3", "30m", None)


def test_one_model_for_both_uses_is_loaded_once(stack):
    values = {
        "models": {"chat": "both", "embedding": "both"},
        "ollama": {"gpu": {"enabled": True, "memory": "24Gi"}},
    }
    rendered = stack(values).one("StatefulSet", "demo-ollama")["spec"]["template"]["spec"]
    assert _env(rendered)["OLLAMA_MAX_LOADED_MODELS"] == "1"


def test_a_rollout_frees_the_gpu_before_it_takes_it(stack):
    """A StatefulSet deletes a pod before it makes the next one, which a surge would not."""
    rendered = stack({"ollama": {"gpu": {"enabled": True}}})
    found = rendered.one("StatefulSet", "demo-ollama")["spec"]
    assert found["updateStrategy"] == {"type": "RollingUpdate"}
    assert not any("ollama" in d["metadata"]["name"] for d in rendered.kinds("Deployment"))
