"""Two operators on a cluster; one that comes late; and who sets the number of pods."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack import tools

ROOT = Path(__file__).parents[2]
OPERATOR = "metis-operator"
SELECTOR = "app.kubernetes.io/name=metis-operator"
TAKEOVER = 15.0


def leader(cluster: Any, namespace: str) -> str:
    lease = cluster.get("lease", OPERATOR, "-n", namespace)
    return str(lease["spec"].get("holderIdentity", "")) if lease else ""


@pytest.mark.parametrize("comes_back", [True, False], ids=["restarted", "gone with its node"])
def test_a_killed_leader_is_replaced_in_time(cluster: Any, umbrella: str, comes_back: bool) -> None:
    pods = {p["metadata"]["name"] for p in cluster.items("pods", "-n", umbrella, "-l", SELECTOR)}
    assert len(pods) == 2
    first = leader(cluster, umbrella)
    assert first in pods
    started = time.monotonic()
    cluster.kill(cluster.get("pod", first, "-n", umbrella))
    if not comes_back:
        cluster.kubectl("delete", "pod", first, "-n", umbrella, "--force", "--grace-period=0")
    cluster.kubectl("delete", "service", "metis-mem0", "-n", umbrella)
    cluster.wait_for(
        lambda: cluster.get("service", "metis-mem0", "-n", umbrella),
        3 * TAKEOVER,
        lambda: f"nobody repairs; the lease is {leader(cluster, umbrella)}'s",
    )
    took = time.monotonic() - started
    print(f"from the kill to the first repair: {took:.1f} s")
    assert took < TAKEOVER
    if not comes_back:
        assert leader(cluster, umbrella) not in ("", first)
    cluster.kubectl("rollout", "status", f"deployment/{OPERATOR}", "-n", umbrella, timeout=120)
    cluster.wait_ready(umbrella, "metis")


def test_a_volume_that_cannot_grow_is_named_with_the_reason(cluster: Any, umbrella: str) -> None:
    """The cluster's only class does not allow expansion."""

    def change(storage: str) -> None:
        cluster.kubectl(
            "patch", "metisrag", "metis", "-n", umbrella, "--type=merge",
            "-p", f'{{"spec":{{"metisPostgres":{{"storage":{storage}}}}}}}',
        )  # fmt: skip

    change('{"size":"77Gi"}')
    try:
        cluster.wait_for(
            lambda: (
                cluster.conditions(umbrella, "metis")["Stalled"]["reason"]
                == "VolumeExpansionRefused"
            ),
            30,
            lambda: str(cluster.conditions(umbrella, "metis")),
        )
        message = cluster.conditions(umbrella, "metis")["Stalled"]["message"]
        assert "data-metis-metis-postgres-0 stays at" in message
        assert "must support resize" in message
        with pytest.raises(AssertionError, match="a volume cannot shrink"):
            change('{"size":"1Gi"}')
    finally:
        change("null")
    cluster.wait_ready(umbrella, "metis")


def test_helm_upgrade_leaves_what_kubectl_scale_has_set(cluster: Any, umbrella: str) -> None:
    def replicas() -> int:
        return int(cluster.get("deployment", "metis-app", "-n", umbrella)["spec"]["replicas"])

    cluster.kubectl("scale", "metisrag", "metis", "-n", umbrella, "--replicas=2")
    try:
        cluster.wait_for(lambda: replicas() == 2, 30, lambda: f"{replicas()} replicas")
        cluster.helm(
            "upgrade", "metis", ".", "-n", umbrella, "--reuse-values", "--wait", "--timeout", "3m"
        )
        cluster.wait_ready(umbrella, "metis")
        assert replicas() == 2
    finally:
        cluster.kubectl(
            "patch", "metisrag", "metis", "-n", umbrella, "--type=merge",
            "-p", '{"spec":{"app":{"replicas":null}}}',
        )  # fmt: skip
        cluster.wait_for(lambda: replicas() == 1, 30, lambda: f"{replicas()} replicas")
        cluster.wait_ready(umbrella, "metis")


LATE = "late"


@pytest.fixture
def late(cluster: Any) -> Iterator[str]:
    cluster.namespace(LATE)
    yield LATE
    cluster.helm("uninstall", LATE, "-n", LATE, "--ignore-not-found", "--wait")
    cluster.drop_namespace(LATE)


def test_helm_waits_for_an_operator_that_starts_late(
    cluster: Any, umbrella: str, late: str
) -> None:
    """No operator at all when the resource is made: nothing takes it for finished."""
    cluster.kubectl("scale", f"deployment/{OPERATOR}", "-n", umbrella, "--replicas=0")
    cluster.wait_for(
        lambda: not cluster.items("pods", "-n", umbrella, "-l", SELECTOR),
        60,
        lambda: "the operator's pods do not go",
    )
    values = {"operator": {"enabled": False}, "instance": {"spec": {"suspend": False}}}
    command = [
        str(tools.helm()), "install", late, str(ROOT), "-n", late, "--wait", "--timeout", "4m",
        "--skip-crds", "-f", "-",
    ]  # fmt: skip
    helm = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=cluster.environment,
    )
    try:
        assert helm.stdin is not None
        helm.stdin.write(yaml.safe_dump(values))
        helm.stdin.close()
        helm.stdin = None
        cluster.wait_for(
            lambda: cluster.get("metisrag", late, "-n", late), 60, lambda: "no MetisRAG"
        )
        with pytest.raises(subprocess.TimeoutExpired):
            helm.wait(10)
        assert cluster.status(late, late) == {"observedGeneration": -1}
        cluster.kubectl("scale", f"deployment/{OPERATOR}", "-n", umbrella, "--replicas=2")
        out, _ = helm.communicate(timeout=250)
        assert helm.returncode == 0, out
        assert cluster.conditions(late, late)["Ready"]["status"] == "True"
    finally:
        helm.kill()
        helm.wait()
        cluster.kubectl("scale", f"deployment/{OPERATOR}", "-n", umbrella, "--replicas=2")
        cluster.kubectl("rollout", "status", f"deployment/{OPERATOR}", "-n", umbrella, timeout=120)
