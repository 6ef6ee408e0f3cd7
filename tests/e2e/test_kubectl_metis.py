"""``kubectl metis``, every command, as a plugin of kubectl on a real cluster."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

COMPONENTS = {"metis-postgres", "mem0-postgres", "mem0", "ollama", "app"}
ATTENTION = 2

Metis = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def metis(cluster: Any, umbrella: str) -> Metis:
    """``metis("status", code=0)`` runs ``kubectl metis status -n <the umbrella's namespace>``."""

    def run(*words: str, code: int = 0, namespace: str = umbrella) -> Any:
        return cluster.metis(*words, code=code, namespace=namespace)

    return run


def test_status(metis: Metis, cluster: Any, umbrella: str) -> None:
    cluster.wait_ready(umbrella, "metis")
    lines = metis("status").stdout.splitlines()
    assert lines[0].startswith("✓ metis/metis  Ready")
    assert {line.split()[2] for line in lines[1:]} >= COMPONENTS
    (item,) = json.loads(metis("status", "metis", "-o", "json").stdout)["items"]
    assert item["ready"] is True
    assert item["endpoint"] == f"http://metis-app.{umbrella}.svc:8000"


def test_status_inside_of_the_operator(cluster: Any, umbrella: str) -> None:
    told = cluster.kubectl(
        "exec", "-n", umbrella, "deploy/metis-operator", "--", "metis", "status", "metis"
    )
    assert told.startswith("✓ metis/metis  Ready")


def test_doctor_finds_a_healthy_cluster_healthy(metis: Metis) -> None:
    told = metis("doctor")
    assert "✗" not in told.stdout
    assert "✓ storage" in told.stdout
    assert "✓ operator  metis/metis-operator" in told.stdout


def test_doctor_explains_faults(metis: Metis, cluster: Any) -> None:
    cluster.namespace("faulty")
    spec = {
        "suspend": True,
        "ollama": {"gpu": {"enabled": True, "count": 2}, "storage": {"className": "gone"}},
    }
    try:
        cluster.metisrag("faulty", "demo", spec)
        found = json.loads(
            metis("doctor", "-o", "json", namespace="faulty", code=ATTENTION).stdout
        )["findings"]
        faults = {f["check"]: f for f in found if f["severity"] == "trouble"}
        assert "faulty/demo asks for 2 nvidia.com/gpu" in faults["gpu"]["what"]
        assert "device plugin" in faults["gpu"]["todo"]
        assert "storage class gone, which is not there" in faults["storage"]["what"]
    finally:
        cluster.drop_namespace("faulty")


def test_logs_of_all_pods(metis: Metis) -> None:
    lines = [json.loads(line) for line in metis("logs", "-o", "json").stdout.splitlines()]
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    pods = {line["pod"] for line in lines}
    for component in COMPONENTS:
        assert any(pod.startswith(f"metis-{component}-") for pod in pods), component
    of_app = metis("logs", "metis", "app", "--tail", "3").stdout.splitlines()
    assert 0 < len(of_app) <= 6
    assert all(line.startswith("app-") for line in of_app)


def test_ask(metis: Metis, documents: Any) -> None:
    told = metis("ask", "How many days of annual leave does an employee have?")
    answer, _, sources = told.stdout.rpartition("\n\n")
    assert answer.strip()
    assert sources.startswith("[1] ")
    assert "leave-policy.md" in sources


def test_plan_tells_what_then_happens(metis: Metis, cluster: Any, umbrella: str) -> None:
    assert "Nothing would change." in metis("plan", "metis").stdout
    told = metis("plan", "--set", "networkPolicy.enabled=false", "-o", "json", code=ATTENTION)
    planned = {c["name"] for c in json.loads(told.stdout)["changes"] if c["action"] == "remove"}

    def policies() -> set[str]:
        own = ("-l", "app.kubernetes.io/name=metis-rag")  # The operator's is the release's.
        found = cluster.items("networkpolicies", "-n", umbrella, *own)
        return {p["metadata"]["name"] for p in found}

    before = policies()
    assert planned == before
    assert planned

    def spec(value: str) -> None:
        patch = f'{{"spec":{{"networkPolicy":{value}}}}}'
        cluster.kubectl("patch", "metisrag", "metis", "-n", umbrella, "--type=merge", "-p", patch)
        cluster.wait_ready(umbrella, "metis")

    spec('{"enabled":false}')
    assert policies() == set()
    assert "Nothing would change." in metis("plan", "metis").stdout
    spec("null")
    assert policies() == before


def test_pause_and_resume(metis: Metis, cluster: Any, umbrella: str) -> None:
    cluster.wait_ready(umbrella, "metis")
    assert metis("pause").stdout == "metis/metis is paused\n"
    cluster.kubectl("delete", "networkpolicy", "metis-mem0", "-n", umbrella)
    assert "Paused" in metis("status", "metis").stdout
    told = metis("plan", "metis", code=ATTENTION)
    assert "NetworkPolicy/metis-mem0" in told.stdout
    assert cluster.get("networkpolicy", "metis-mem0", "-n", umbrella) is None
    assert metis("resume").stdout == "metis/metis is resumed\n"
    cluster.wait_for(
        lambda: cluster.get("networkpolicy", "metis-mem0", "-n", umbrella),
        20,
        lambda: "the NetworkPolicy was not made again",
    )


def test_restart(metis: Metis, cluster: Any, umbrella: str) -> None:
    def pods() -> dict[str, str]:
        found = cluster.items("pods", "-n", umbrella, "-l", "app.kubernetes.io/instance=metis")
        return {
            p["metadata"]["uid"]: p["metadata"]["labels"].get("app.kubernetes.io/component", "")
            for p in found
            if "deletionTimestamp" not in p["metadata"]
        }

    cluster.wait_ready(umbrella, "metis")
    before = pods()
    assert "restarts mem0" in metis("restart", "mem0").stdout

    def replaced() -> bool:
        now = pods()
        gone, new = before.keys() - now.keys(), now.keys() - before.keys()
        return {before[u] for u in gone} == {"mem0"} == {now[u] for u in new}

    cluster.wait_for(replaced, 120, lambda: f"{before} became {pods()}")
    cluster.wait_ready(umbrella, "metis")
