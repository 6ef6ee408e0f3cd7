"""Mem0 with two replicas under 20 appends a second, while its parts are killed.

Every acknowledged message is there once and in order; nothing is answered with a 500.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

ROOT = Path(__file__).parents[2]
APPENDER = (Path(__file__).parent / "appender.py").read_text()
NAMESPACE = "mem0-faults"
SECONDS = 60
RATE = 20

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def instance(cluster: Any) -> Iterator[str]:
    """The stack by Helm alone, with two replicas of Mem0."""
    cluster.namespace(NAMESPACE)
    small = cluster.small
    stack = {
        **small,
        "mem0": {**small["mem0"], "replicas": 2},
        "credentials": {"image": cluster.operator_image},
    }
    cluster.helm(
        "install", "faults", str(ROOT), "-n", NAMESPACE, "--wait", "--timeout", "8m",
        "--set", "stack.enabled=true,operator.enabled=false,instance.create=false",
        "-f", "-", stdin=yaml.safe_dump({"stack": stack}), timeout=510,
    )  # fmt: skip
    yield NAMESPACE
    cluster.drop_namespace(NAMESPACE)


def pods(cluster: Any, component: str) -> list[dict[str, Any]]:
    label = f"app.kubernetes.io/component={component}"
    found: list[dict[str, Any]] = cluster.items("pods", "-n", NAMESPACE, "-l", label)
    return found


def kill(cluster: Any, pod: dict[str, Any]) -> None:
    """``kill -9`` of the pod's main process; returns when it was started again."""
    (status,) = pod["status"]["containerStatuses"]
    cluster.kill(pod)

    def restarted() -> bool:
        name = pod["metadata"]["name"]
        (now,) = cluster.get("pod", name, "-n", NAMESPACE)["status"]["containerStatuses"]
        return bool(now["restartCount"] > status["restartCount"])

    cluster.wait_for(restarted, 60, lambda: f"{pod['metadata']['name']} was not restarted")


def appender(cluster: Any, name: str) -> dict[str, Any]:
    """A pod that appends; as the app it may speak to Mem0, and mounts its key."""
    (mem0, *_) = pods(cluster, "mem0")
    (container,) = mem0["spec"]["containers"]
    labels = {**mem0["metadata"]["labels"], "app.kubernetes.io/component": "app"}
    labels.pop("pod-template-hash")
    url = "http://faults-mem0:8050"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": labels,
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": mem0["spec"]["securityContext"],
            "containers": [
                {
                    "name": "appender",
                    "image": container["image"],
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python", "-c", APPENDER, url, name, str(SECONDS), str(RATE)],
                    "securityContext": container["securityContext"],
                    "volumeMounts": [{"name": "key", "mountPath": "/run/secrets/mem0"}],
                }
            ],
            "volumes": [{"name": "key", "secret": {"secretName": "faults-mem0-key"}}],
        },
    }


def lines(cluster: Any, name: str) -> list[str]:
    text: str = cluster.kubectl("logs", name, "-n", NAMESPACE)
    return text.splitlines()


@pytest.mark.timeout(420, func_only=True)
@pytest.mark.parametrize("victim", ["mem0", "mem0-postgres"])
def test_no_acknowledged_message_is_lost_or_doubled(
    cluster: Any, instance: str, victim: str
) -> None:
    name = f"appender-{victim}"
    assert len(pods(cluster, "mem0")) == 2
    cluster.apply(appender(cluster, name))
    cluster.wait_for(
        lambda: cluster.get("pod", name, "-n", instance)["status"]["phase"] == "Running",
        60,
        lambda: "the appender does not run",
    )
    cluster.wait_for(lambda: "begun" in lines(cluster, name), 60, lambda: "nothing was appended")
    begun = time.monotonic()
    cluster.wait_for(
        lambda: len(lines(cluster, name)) > 10 * RATE, 60, lambda: "too few were appended"
    )
    kill(cluster, pods(cluster, victim)[0])
    killed = time.monotonic() - begun
    cluster.wait_for(
        lambda: cluster.get("pod", name, "-n", instance)["status"]["phase"] != "Running",
        SECONDS + 180,
        lambda: "the appender does not end",
    )
    said = [json.loads(line) for line in lines(cluster, name) if line.startswith("[")]
    stored = {human: messages for word, human, messages in (s for s in said if s[0] == "stored")}
    sent = [one for one in said if one[0] != "stored"]
    outcomes = Counter(outcome for _, _, tries, _ in sent for outcome in tries)
    longest = max(late for *_, late in sent)
    report = f"{victim} killed after {killed:.0f} s: {dict(outcomes)}, longest wait {longest:.1f} s"
    print(report)
    assert len(sent) == SECONDS * RATE
    assert all(tries[-1] in (200, 201) for _, _, tries, _ in sent), report
    assert {o for o in outcomes if isinstance(o, int)} <= {200, 201, 503}, report
    assert outcomes[201] + outcomes[200] == len(sent)
    assert outcomes[201] > 0.9 * len(sent), report  # 200: stored, but the answer was lost
    assert any(outcome not in (200, 201) for outcome in outcomes), f"nothing was hit: {report}"
    for human, messages in stored.items():
        wanted = [f"{human}:{number}" for h, number, *_ in sent if h == human]
        assert [message["content"] for message in messages] == wanted
        ids = [message["id"] for message in messages]
        assert ids == sorted(set(ids))


def test_records_are_embedded_anew_from_within_a_pod(cluster: Any, instance: str) -> None:
    (pod, *_) = pods(cluster, "mem0")
    key = cluster.secret(instance, "faults-mem0-key")["current"]
    with (
        cluster.port_forward(instance, f"pod/{pod['metadata']['name']}", 8050) as url,
        httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=60) as client,
    ):
        client.put("/agents/keeper", json={"name": "K", "persona": ""})
        client.put("/humans/ada", json={})
        base = "/agents/keeper/humans/ada/archival"
        for number in range(20):
            record = {"kind": "note", "data": {"text": f"train {number} leaves at nine"}}
            assert client.post(base, json=record).status_code == 201
        done = subprocess.run(
            [
                *(cluster.kubectl_path, "-n", instance, "exec", pod["metadata"]["name"], "--"),
                *("python", "-m", "mem0_server", "reindex"),
            ],
            env=cluster.environment,
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stderr
        print(done.stderr)
        assert "reindex: 20 of 20 records (100%)" in done.stderr
        found = client.post(f"{base}/search", json={"query": "when does train 7 leave?"})
        assert len(found.json()["records"]) == 10
