"""Models that are pulled, from a slow registry in the cluster, by a real Ollama."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.full

NAMESPACE = "pulling"
REGISTRY = "registry"
PORT = 5000
SLOW = 4_000_000  # bytes a second and connection
SCRIPT = Path(__file__).with_name("registry.py").read_text()


def registry_objects(cluster: Any, rate: int) -> list[dict[str, Any]]:
    """A registry with the models of the preload image: a pod, its program, and its Service."""
    small = cluster.small
    image = small["ollama"]["preload"]["image"]
    python = f"ghcr.io/metis-rag/app:{small['app']['image']['tag']}"
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    labels = {"app": REGISTRY}
    spec = {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": 10001, "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [
            {
                "name": "models", "image": image, "securityContext": security,
                "command": ["sh", "-c", "cp -r /models/. /store/"],
                "volumeMounts": [{"name": "store", "mountPath": "/store"}],
            }
        ],
        "containers": [
            {
                "name": REGISTRY, "image": python, "securityContext": security,
                "command": [
                    "python", "/program/registry.py", "/store", "$(POD_IP)", str(PORT), str(rate),
                ],
                "env": [
                    {
                        "name": "POD_IP",
                        "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}},
                    }
                ],
                "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
                "volumeMounts": [
                    {"name": "store", "mountPath": "/store"},
                    {"name": "program", "mountPath": "/program"},
                ],
            }
        ],
        "volumes": [
            {"name": "store", "emptyDir": {"sizeLimit": "1Gi"}},
            {"name": "program", "configMap": {"name": REGISTRY}},
        ],
    }  # fmt: skip
    meta = {"name": REGISTRY, "namespace": NAMESPACE}
    return [
        {
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": meta,
            "data": {"registry.py": SCRIPT},
        },
        {"apiVersion": "v1", "kind": "Pod", "metadata": {**meta, "labels": labels}, "spec": spec},
        {
            "apiVersion": "v1", "kind": "Service", "metadata": meta,
            "spec": {"selector": labels, "ports": [{"port": PORT}]},
        },
    ]  # fmt: skip


def pulling(**ollama: Any) -> dict[str, Any]:
    """The spec of an instance that pulls from the registry."""
    mirror = {"registry": f"{REGISTRY}.{NAMESPACE}.svc:{PORT}", "insecure": True}
    return {"ollama": {"preload": {"image": ""}, "pull": mirror, **ollama}}


@pytest.fixture(scope="module")
def instance(cluster: Any, umbrella: str) -> Iterator[str]:
    """A namespace with the slow registry and an instance that pulls from it."""
    cluster.namespace(NAMESPACE)
    cluster.apply(*registry_objects(cluster, SLOW))
    cluster.kubectl(
        "wait", "pod", REGISTRY, "-n", NAMESPACE, "--for=condition=Ready", "--timeout=120s"
    )
    cluster.metisrag(NAMESPACE, "demo", pulling())
    yield NAMESPACE
    cluster.drop_namespace(NAMESPACE)


def models(cluster: Any, name: str = "demo") -> dict[str, dict[str, Any]]:
    """``status.models`` by name."""
    return {m["name"]: m for m in cluster.status(NAMESPACE, name).get("models", [])}


def chat_of(cluster: Any) -> dict[str, Any]:
    found: dict[str, Any] = models(cluster).get(cluster.small["models"]["chat"], {})
    return found


def until(cluster: Any, check: Callable[[dict[str, Any]], Any], limit: float = 120) -> Any:
    """Wait until the chat model's entry passes."""
    return cluster.wait_for(
        lambda: check(chat_of(cluster)), limit, lambda: f"last: {cluster.status(NAMESPACE, 'demo')}"
    )


def metis(cluster: Any, *arguments: str) -> str:
    """``kubectl metis``."""
    done = subprocess.run(
        [sys.executable, "-m", "metis_operator", *arguments],
        env=cluster.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout


def test_a_model_arrives_visibly_and_is_resumed(cluster: Any, instance: str) -> None:
    until(cluster, lambda m: m.get("percent", 0) >= 5 and m.get("bytesPerSecond"))
    seen = chat_of(cluster)
    assert seen["state"] == "Pulling"
    assert seen["size"] > 50_000_000
    assert 0 < seen["etaSeconds"] < 600
    shown = metis(cluster, "status", "demo", "-n", instance)
    assert "%" in shown, shown
    ready = cluster.conditions(instance, "demo")["Ready"]
    assert ready["status"] == "False"
    assert cluster.small["models"]["chat"] in ready["message"], ready

    until(cluster, lambda m: m["percent"] >= 20)
    reached = chat_of(cluster)["percent"]
    cluster.kubectl(
        "delete", "pod", "-n", instance, "-l", "app.kubernetes.io/component=pull", "--wait=false"
    )
    cluster.kubectl("delete", "pod", "demo-ollama-0", "-n", instance)
    begun = time.monotonic()
    until(cluster, lambda m: m["state"] == "Pulling" and m.get("size"))
    print(f"interrupted at {reached} %, went on at {chat_of(cluster)['percent']} % "
          f"after {time.monotonic() - begun:.0f} s")  # fmt: skip
    assert chat_of(cluster)["percent"] >= reached - 10  # what was whole in parts is not lost

    cluster.wait_ready(instance, "demo", timeout=200)
    assert all(m["ready"] and m["percent"] == 100 for m in models(cluster).values())
    table = cluster.kubectl(
        "exec", "demo-ollama-0", "-n", instance, "-c", "ollama", "--", "ollama", "list"
    )
    listed = [line.split()[0] for line in table.splitlines()[1:] if line.strip()]
    # The mirror's name does not stay.
    assert all(not name.startswith(REGISTRY) for name in listed), listed
    assert len(listed) == 2


def test_an_unknown_model_is_told_with_the_registrys_reason(cluster: Any, instance: str) -> None:
    cluster.wait_ready(instance, "demo", timeout=200)
    patch = {"spec": {"models": {"chat": "nobody-has-this:1b"}}}
    cluster.kubectl(
        "patch", "metisrag", "demo", "-n", instance, "--type=merge", "-p", json.dumps(patch)
    )
    cluster.wait_for(
        lambda: models(cluster).get("nobody-has-this:1b", {}).get("state") == "Failed",
        60,
        lambda: f"{cluster.status(instance, 'demo')}",
    )
    entry = models(cluster)["nobody-has-this:1b"]
    assert "file does not exist" in entry["message"], entry
    # The server that works is left alone: it still answers with the former model.
    stateful = cluster.get("statefulset", "demo-ollama", "-n", instance)
    assert stateful["status"]["readyReplicas"] == 1
    cluster.wait_for(
        lambda: "file does not exist" in cluster.conditions(instance, "demo")["Ready"]["message"],
        60,
        lambda: f"{cluster.conditions(instance, 'demo')}",
    )
    undo = {"spec": {"models": None}}
    cluster.kubectl(
        "patch", "metisrag", "demo", "-n", instance, "--type=merge", "-p", json.dumps(undo)
    )
    cluster.wait_ready(instance, "demo", timeout=120)


def test_a_second_server_has_the_models_before_it_gets_requests(
    cluster: Any, instance: str
) -> None:
    cluster.wait_ready(instance, "demo", timeout=200)
    patch = {"spec": {"ollama": {"replicas": 2}}}
    cluster.kubectl(
        "patch", "metisrag", "demo", "-n", instance, "--type=merge", "-p", json.dumps(patch)
    )

    def addresses() -> list[str]:
        found = cluster.get("endpoints", "demo-ollama", "-n", instance)
        return [a["ip"] for s in found.get("subsets", []) for a in s.get("addresses", [])]

    def second_runs() -> Any:
        pod = cluster.get("pod", "demo-ollama-1", "-n", instance)
        return pod and pod["status"].get("phase") == "Running"

    cluster.wait_for(second_runs, 60, lambda: "no second pod")
    assert len(addresses()) == 1
    assert cluster.get("deployment", "demo-app", "-n", instance)["status"]["readyReplicas"] == 1
    cluster.wait_ready(instance, "demo", timeout=240)
    assert len(addresses()) == 2
