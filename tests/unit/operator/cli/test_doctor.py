"""Each fault that ``doctor`` knows, made of facts, is found and explained; a whole one is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from metis_operator.cli.diagnosis import Severity, diagnose
from metis_operator.cli.doctor import CHECKS, verdict
from metis_operator.cli.facts import Facts

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STAMP = "2025-12-31T23:59:55Z"
DEFAULT = {"storageclass.kubernetes.io/is-default-class": "true"}
LABELS = {
    "app.kubernetes.io/name": "metis-rag",
    "app.kubernetes.io/instance": "demo",
    "app.kubernetes.io/component": "app",
}


def named(name: str, namespace: str = "", **more: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace, **more.pop("metadata", {})}
    return {"metadata": meta, **more}


def node(name: str = "n1", *, ready: str = "True", **allocatable: str) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready, "message": "kubelet is gone"}]
    return named(name, status={"conditions": conditions, "allocatable": allocatable})


def metisrag(spec: dict[str, Any] | None = None, phase: str = "Ready") -> dict[str, Any]:
    ready = {"type": "Ready", "status": str(phase == "Ready"), "reason": "r", "message": "why"}
    status = {"phase": phase, "observedGeneration": 1, "conditions": [ready]}
    return named("demo", "ns", metadata={"generation": 1}, spec=spec or {}, status=status)


def operator(version: str = "0.1.0", watch: str = "", ready: int = 1) -> dict[str, Any]:
    env = [{"name": "METIS_WATCH_NAMESPACE", "value": watch}]
    return named(
        "metis-operator",
        "metis",
        metadata={"labels": {"app.kubernetes.io/version": version}},
        spec={
            "replicas": 1,
            "template": {"spec": {"containers": [{"name": "operator", "env": env}]}},
        },
        status={"readyReplicas": ready},
    )


def crd(version: str = "0.1.0") -> dict[str, Any]:
    status = {"conditions": [{"type": "Established", "status": "True"}]}
    annotations = {"metisrag.dev/crd-version": version}
    return named("metisrags.metisrag.dev", metadata={"annotations": annotations}, status=status)


def lease(holder: str = "pod-1", renewed: str = STAMP) -> dict[str, Any]:
    return {"spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 9}}


WHOLE = Facts(
    place="here",
    namespace=None,
    now=NOW,
    server_now=NOW,
    version="v1.34.4",
    crd=crd(),
    nodes=[node()],
    node_leases=[named("n1", spec={"renewTime": STAMP})],
    storage_classes=[named("standard", metadata={"annotations": DEFAULT})],
    daemon_sets=[named("calico-node", "kube-system")],
    dns=[{"endpoints": [{"conditions": {"ready": True}}]}],
    operators=[operator()],
    operator_pods=[],
    leases={"metis/metis-operator": lease()},
    defaults={"metis/metis-operator": {}},
    resources=[metisrag()],
    pods=[],
    claims=[],
    quotas=[],
    events=[],
    rights={"list metisrags: status": True},
)


def found(facts: Facts, severity: Severity = Severity.TROUBLE) -> dict[str, str]:
    """The findings of one severity: what and what to do, by check."""
    return {
        f.check: f"{f.what} | {f.todo}" for f in diagnose(facts, CHECKS) if f.severity is severity
    }


def test_a_whole_cluster_has_no_fault() -> None:
    everything = diagnose(WHOLE, CHECKS)
    assert [f for f in everything if f.severity in (Severity.TROUBLE, Severity.WARNING)] == []
    assert verdict(everything) == "No trouble found."


def test_models_that_run_on_the_cpu_meanwhile_are_no_fault_and_are_said() -> None:
    resource = metisrag({"ollama": {"gpu": {"enabled": True, "fallback": "cpu"}}})
    told = {"type": "GPUFallback", "status": "True", "reason": "NoGPU", "message": "free a GPU"}
    resource["status"]["conditions"].append(told)
    facts = replace(WHOLE, resources=[resource])
    assert "gpu" not in found(facts)
    said = found(facts, Severity.WARNING)["gpu"]
    assert said == "ns/demo asks for 1 nvidia.com/gpu and runs on the CPU meanwhile. | free a GPU"


def test_it_works_without_anything_installed() -> None:
    bare = replace(WHOLE, crd=None, operators=[], resources=[], leases={}, defaults={})
    assert set(found(bare)) == {"crd", "operator"}
    assert "helm install" in found(bare)["operator"]


def test_what_one_may_not_see_is_no_fault_and_is_said() -> None:
    blind = Facts("here", "ns", NOW, unseen=["crd", "nodes"], rights={"get pods/log: logs": False})
    assert found(blind) == {}
    assert "You may not get pods/log in namespace ns" in found(blind, Severity.WARNING)["rights"]
    assert "crd, nodes" in found(blind, Severity.INFO)["rights"]


GPU = {"ollama": {"gpu": {"enabled": True, "count": 2}}}
PULL = named(
    "demo-app-1",
    "ns",
    metadata={"labels": LABELS},
    status={
        "containerStatuses": [
            {
                "name": "app",
                "image": "nope:1",
                "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}},
            }
        ]
    },
)
REFUSED = {
    "metadata": {"namespace": "ns"},
    "involvedObject": {"kind": "ReplicaSet", "namespace": "ns", "name": "demo-app-5f"},
    "message": 'pods "x" is forbidden: exceeded quota: small',
}


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        ({"storage_classes": []}, "storage", ["no default storage class", "Install a provisioner"]),
        (
            {"storage_classes": [named("slow")]},
            "storage",
            ["ns/demo relies on it", "kubectl patch storageclass slow"],
        ),
        (
            {"resources": [metisrag({"ollama": {"storage": {"className": "gone"}}})]},
            "storage",
            ["asks for storage class gone", "spec.ollama.storage.className", "standard"],
        ),
        ({"resources": [metisrag(GPU)]}, "gpu", ["no node offers any", "device plugin"]),
        (
            {"resources": [metisrag(GPU)], "nodes": [node(**{"nvidia.com/gpu": "1"})]},
            "gpu",
            ["no node offers more than 1", "gpu.count"],
        ),
        (
            {"defaults": {"metis/metis-operator": GPU}},
            "gpu",
            ["ns/demo asks for 2 nvidia.com/gpu"],
        ),
        ({"pods": [PULL]}, "pods", ["cannot pull image nope:1: not found", "pullSecrets"]),
        ({"dns": [{"endpoints": []}]}, "dns", ["No DNS server", "k8s-app=kube-dns"]),
        ({"events": [REFUSED]}, "quota", ["ReplicaSet/demo-app-5f", "exceeded quota: small"]),
        ({"nodes": [node(ready="False")]}, "nodes", ["Node n1 is not ready: kubelet is gone"]),
        ({"nodes": []}, "nodes", ["no node"]),
        ({"now": NOW + timedelta(minutes=5)}, "clock", ["5m ahead", "NTP"]),
        (
            {"node_leases": [named("n1", spec={"renewTime": "2026-01-01T00:01:00Z"})]},
            "clock",
            ["node n1", "60s ahead"],
        ),
        ({"version": "v1.29.3"}, "cluster", ["older than 1.30"]),
        ({"operators": [operator("0.2.0")]}, "crd", ["CRD is of version 0.1.0", "dropped"]),
        ({"operators": [operator(ready=0)]}, "operator", ["does not run", "logs"]),
        ({"operators": [operator(watch="other")]}, "operator", ["No operator looks after", "ns"]),
        (
            {"operators": [operator(), operator()]},
            "operator",
            ["is looked after by", "watchNamespace"],
        ),
        ({"leases": {"metis/metis-operator": lease(holder="")}}, "operator", ["leads"]),
        (
            {"leases": {"metis/metis-operator": lease(renewed="2025-12-31T23:00:00Z")}},
            "operator",
            ["not been heard of for 60m"],
        ),
        (
            {"resources": [metisrag(phase="Degraded")]},
            "instance",
            ["not ready: why", "status demo"],
        ),
    ],
)
def test_a_fault_is_found_and_explained(
    change: dict[str, Any], check: str, words: list[str]
) -> None:
    faults = found(replace(WHOLE, **change))
    assert list(faults) == [check]
    for word in words:
        assert word in faults[check]


def test_what_is_nearly_used_up_is_a_warning() -> None:
    quota = named("small", "ns", status={"hard": {"pods": "10"}, "used": {"pods": "9"}})
    full = replace(WHOLE, quotas=[quota])
    assert "used up to 9 of 10 pods" in found(full, Severity.WARNING)["quota"]
    assert found(replace(full, resources=[]), Severity.WARNING) == {}


def test_a_network_that_enforces_nothing_is_worth_knowing() -> None:
    facts = replace(WHOLE, daemon_sets=[named("kube-proxy", "kube-system")])
    assert "no effect" in found(facts, Severity.INFO)["network"]
