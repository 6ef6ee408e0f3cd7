"""`kubectl apply` of a MetisRAG: a second, independent instance, kept right by the operator."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

EXAMPLE = Path(__file__).parents[2] / "examples" / "metisrag.yaml"
READY_WITHIN = 90  # seconds from apply to Ready, images and models present
NAMESPACE = "second"


@pytest.fixture(scope="module")
def demo(cluster: Any, umbrella: str) -> Iterator[str]:
    """The example, applied in a namespace of its own."""
    cluster.namespace(NAMESPACE)
    started = time.monotonic()
    cluster.kubectl("apply", "-n", NAMESPACE, "-f", str(EXAMPLE))
    cluster.wait_ready(NAMESPACE, "demo")
    took = time.monotonic() - started
    print(f"kubectl apply to Ready: {took:.0f} s")
    assert took < READY_WITHIN
    yield NAMESPACE
    cluster.drop_namespace(NAMESPACE)


def workload(cluster: Any, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = cluster.get(kind, name, "-n", NAMESPACE)
    return found


def test_two_instances_do_not_see_each_other(cluster: Any, demo: str, app: Any, ask: Any) -> None:
    ask(app, "My secret word is heliotrope.")
    with cluster.app(demo, "demo") as other:
        assert other.get("/api/documents").json()["documents"] == []
        memory = other.get("/api/memory").json()
        assert "heliotrope" not in str(memory)
        own = ask(other, "What is my secret word?")
        assert "heliotrope" not in str(own["memory"])
        key = app.headers["Authorization"]
        assert other.get("/api/me", headers={"Authorization": key}).status_code == 401


def test_spec_change_rolls_out(cluster: Any, demo: str) -> None:
    patch = yaml.safe_dump({"spec": {"app": {"replicas": 2, "podLabels": {"team": "search"}}}})
    cluster.kubectl("patch", "metisrag", "demo", "-n", demo, "--type=merge", "-p", patch)
    cluster.wait_ready(demo, "demo")
    deployment = workload(cluster, "deployment", "demo-app")
    assert deployment["status"]["readyReplicas"] == 2
    assert deployment["spec"]["template"]["metadata"]["labels"]["team"] == "search"
    undo = yaml.safe_dump({"spec": {"app": {"replicas": 1, "podLabels": None}}})
    cluster.kubectl("patch", "metisrag", "demo", "-n", demo, "--type=merge", "-p", undo)
    cluster.wait_ready(demo, "demo")
    assert workload(cluster, "deployment", "demo-app")["spec"]["replicas"] == 1


def test_drift_is_repaired(cluster: Any, demo: str) -> None:
    cluster.kubectl(
        "patch", "service", "demo-mem0", "-n", demo, "--type=merge",
        "-p", '{"spec":{"selector":{"app.kubernetes.io/component":"nobody"}}}',
    )  # fmt: skip

    def repaired() -> bool:
        selector = workload(cluster, "service", "demo-mem0")["spec"]["selector"]
        return bool(selector["app.kubernetes.io/component"] == "mem0")

    cluster.wait_for(repaired, 20, lambda: "the Service's selector was not put back")
    cluster.kubectl("delete", "deployment", "demo-mem0", "-n", demo)
    cluster.wait_for(
        lambda: cluster.get("deployment", "demo-mem0", "-n", demo), 20, lambda: "not made again"
    )
    cluster.wait_ready(demo, "demo")


def test_trouble_of_a_child_stands_on_the_resource(cluster: Any, demo: str) -> None:
    def trouble(spec: str, word: str) -> None:
        cluster.kubectl("patch", "metisrag", "demo", "-n", demo, "--type=merge", "-p", spec)
        cluster.wait_for(
            lambda: word in str(cluster.conditions(demo, "demo")),
            60,
            lambda: f"{word!r} is not on the resource: {cluster.status(demo, 'demo')}",
        )
        assert cluster.conditions(demo, "demo")["Ready"]["status"] == "False"

    trouble('{"spec":{"app":{"image":{"tag":"no-such-tag"}}}}', "no-such-tag")
    trouble('{"spec":{"app":{"image":null},"ollama":{"gpu":{"enabled":true}}}}', "nvidia.com/gpu")
    cluster.kubectl(
        "patch", "metisrag", "demo", "-n", demo, "--type=merge", "-p", '{"spec":{"ollama":null}}'
    )
    cluster.wait_ready(demo, "demo")


def test_nonsense_is_refused_with_the_field(cluster: Any, demo: str) -> None:
    for spec, word in (
        ({"ollama": {"gpu": {"count": 0}}}, "count"),
        ({"auth": {"mode": "maybe"}}, "auth.mode"),
        ({"ollamas": {}}, "ollamas"),
    ):
        with pytest.raises(AssertionError, match=word):
            cluster.metisrag(demo, "nonsense", spec)
    assert cluster.get("metisrag", "nonsense", "-n", demo) is None


def test_delete_keeps_the_data_and_a_new_one_adopts_it(cluster: Any, demo: str, ask: Any) -> None:
    with cluster.app(demo, "demo") as client:
        ask(client, "Remember the number 4711.")
    key = cluster.admin_key(demo, "demo")
    cluster.kubectl("delete", "metisrag", "demo", "-n", demo, "--wait", timeout=60)

    def gone() -> bool:
        left = cluster.items(
            "pods,services,deployments,statefulsets,configmaps,serviceaccounts,networkpolicies",
            "-n", demo, "-l", "app.kubernetes.io/instance=demo",
        )  # fmt: skip
        return not left

    cluster.wait_for(gone, 120, lambda: "children of the deleted MetisRAG are still there")
    assert len(cluster.items("pvc", "-n", demo)) == 3
    assert cluster.admin_key(demo, "demo") == key

    cluster.kubectl("apply", "-n", demo, "-f", str(EXAMPLE))
    cluster.wait_ready(demo, "demo")
    with cluster.app(demo, "demo") as client:
        assert "4711" in str(client.get("/api/memory").json()["history"])


def test_delete_with_the_policy_delete_leaves_nothing(cluster: Any, demo: str) -> None:
    patch = '{"spec":{"deletionPolicy":"Delete"}}'
    cluster.kubectl("patch", "metisrag", "demo", "-n", demo, "--type=merge", "-p", patch)
    cluster.wait_ready(demo, "demo")
    cluster.kubectl("delete", "metisrag", "demo", "-n", demo, "--wait", timeout=60)
    cluster.wait_for(
        lambda: (
            not cluster.items(
                "all,pvc,secrets,configmaps", "-n", demo, "-l", "app.kubernetes.io/instance=demo"
            )
        ),
        120,
        lambda: cluster.kubectl("get", "all,pvc,secrets,configmaps", "-n", demo),
    )
