"""kind's description of the cluster, image names, and what the engine's host can do."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from hack import pins, registry, tools
from hack.cache import RECIPES
from hack.cluster import TESTS, Cluster, canonical, description
from hack.engine import lacks_sys_resource, runs
from hack.errors import HackError


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("python:3.13", "docker.io/library/python:3.13"),
        ("ollama/ollama:1", "docker.io/ollama/ollama:1"),
        ("ghcr.io/metis-rag/app:1", "ghcr.io/metis-rag/app:1"),
        ("localhost:5000/app", "localhost:5000/app"),
        ("localhost/app", "localhost/app"),
        ("docker.io/kindest/node:v1", "docker.io/kindest/node:v1"),
    ],
)
def test_image_names_in_full(name: str, full: str) -> None:
    assert canonical(name) == full


def test_the_app_is_reached_on_loopback_only() -> None:
    config = json.loads(description(Cluster("metis"), "node:1", 8000, lacks_cap=False))
    assert config["name"] == "metis"
    [node] = config["nodes"]
    assert node["image"] == "node:1"
    assert node["extraPortMappings"] == [
        {"containerPort": 30080, "hostPort": 8000, "listenAddress": "127.0.0.1"}
    ]
    assert "featureGates" not in config


def test_a_test_cluster_takes_no_port_of_the_machine() -> None:
    config = json.loads(description(Cluster("t"), "node:1", None, lacks_cap=False))
    assert "extraPortMappings" not in config["nodes"][0]


def test_a_host_without_the_capability_is_allowed_for() -> None:
    built = json.loads(description(Cluster("t"), "node:1", None, lacks_cap=True))
    assert built["featureGates"] == {"KubeletInUserNamespace": True}
    assert "containerdConfigPatches" not in built
    published = json.loads(description(Cluster("t"), pins.KINDEST_NODE, None, lacks_cap=True))
    assert "restrict_oom_score_adj = true" in published["containerdConfigPatches"][0]


def test_a_kubeconfig_of_its_own_is_passed_on() -> None:
    assert Cluster("metis").flags == ["--context", "kind-metis"]
    own = Cluster("t", Path("/home/k"))
    assert own.flags == ["--kubeconfig", "/home/k", "--context", "kind-t"]
    assert own.helm_flags == ["--kubeconfig", "/home/k", "--kube-context", "kind-t"]
    assert own.node == "t-control-plane"


@pytest.mark.parametrize(
    ("mask", "lacks"), [("000001fffeffffff", True), ("000001ffffffffff", False)]
)
def test_the_missing_capability_is_seen(mask: str, lacks: bool) -> None:
    assert lacks_sys_resource(f"CapEff:\t0000000000000000\nCapBnd:\t{mask}\n") is lacks


@pytest.mark.parametrize(
    ("stat", "alive"),
    [
        ("12 (dockerd) S 1 12", True),
        ("12 (dockerd) Z 1 12", False),
        ("12 (bash) S 1 12", False),
        ("12 (a) b (c) R 1 12", False),
    ],
)
def test_a_pid_file_counts_only_for_a_live_engine(stat: str, alive: bool) -> None:
    assert runs(stat, "dockerd") is alive


def test_the_runtime_wrapper_asks_for_no_more_than_the_host_gives(tmp_path: Path) -> None:
    wrapper = runpy.run_path(str(RECIPES / "engine" / "runc-caps"))
    file = tmp_path / "config.json"
    capabilities = {
        "bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE"],
        "effective": ["CAP_SYS_RESOURCE"],
    }
    spec = {"process": {"capabilities": capabilities, "oomScoreAdj": -999}, "root": {"path": "x"}}
    file.write_text(json.dumps(spec))
    wrapper["relax"](file, lambda spec: spec["process"])
    process = {"capabilities": {"bounding": ["CAP_CHOWN"], "effective": []}, "oomScoreAdj": 0}
    assert json.loads(file.read_text()) == {"process": process, "root": {"path": "x"}}
    assert wrapper["option"](["--root", "r", "create", "--bundle", "b"], "--bundle", "-b") == "b"
    assert wrapper["option"](["create", "--bundle=b"], "--bundle", "-b") == "b"
    assert wrapper["option"](["create"], "--bundle", "-b") is None


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("v4.3.1+gc0d08d0", (4, 3, 1)),
        ("Client Version: v1.37.1\nKustomize Version: v5.8.1", (1, 37, 1)),
        ("kind v0.30.0 go1.26", (0, 30, 0)),
        ("v3.17", (3, 17)),
        ("none", ()),
    ],
)
def test_versions_are_read(text: str, version: tuple[int, ...]) -> None:
    assert tools.version_of(text) == version


def test_the_registry_setting_wins_and_a_wrong_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_MEMORY", tmp_path / "registry")
    for wish, online in (("offline", False), ("online", True)):
        registry.online.cache_clear()
        monkeypatch.setenv("METIS_REGISTRY", wish)
        assert registry.online() is online
    registry.remember()
    registry.online.cache_clear()
    monkeypatch.delenv("METIS_REGISTRY")
    assert registry.online() is True
    registry.online.cache_clear()
    monkeypatch.setenv("METIS_REGISTRY", "maybe")
    with pytest.raises(HackError, match="maybe"):
        registry.online()
    registry.online.cache_clear()


def test_only_the_cluster_of_the_tests_keeps_an_audit_log() -> None:
    tests = json.loads(description(Cluster(TESTS), "node:1", None, lacks_cap=False))
    (node,) = tests["nodes"]
    (patch,) = map(json.loads, node["kubeadmConfigPatches"])
    (mount,) = node["extraMounts"]
    policy = patch["apiServer"]["extraArgs"]["audit-policy-file"]
    assert mount["containerPath"] == policy
    assert policy in {v["mountPath"] for v in patch["apiServer"]["extraVolumes"]}
    (own,) = json.loads(description(Cluster("metis"), "node:1", None, lacks_cap=False))["nodes"]
    assert set(own) == {"role", "image"}
