"""The stack by Helm alone, without an operator: in a namespace with a quota and limits of its own,
and in a cluster whose node refuses and counts what leaves it.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack import cluster as kind
from tests.e2e.egress import Watch
from tests.e2e.load.watch import steady_load

ROOT = Path(__file__).parents[2]
NAMESPACE = "solo"
ROTATED = ("mem0-key", "mem0-db", "metis-db")
SSA = ("--server-side", "--force-conflicts", "--field-manager=gitops")
OUTSIDE = "192.0.2.1"  # reserved for documentation: nobody has it
# Every request and limit that a quota can ask for, and defaults too small to work with: what the
# chart leaves out would fail.
QUOTA = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "team"},
    "spec": {
        "hard": {
            "requests.cpu": "2", "requests.memory": "4Gi", "limits.cpu": "40",
            "limits.memory": "64Gi", "pods": "20", "persistentvolumeclaims": "5",
            "requests.storage": "40Gi",
        }
    },
}  # fmt: skip
LIMITS = {
    "apiVersion": "v1",
    "kind": "LimitRange",
    "metadata": {"name": "team"},
    "spec": {
        "limits": [
            {
                "type": "Container",
                "default": {"cpu": "8", "memory": "16Mi"},
                "defaultRequest": {"cpu": "10m", "memory": "16Mi"},
            }
        ]
    },
}


def values(cluster: Any) -> str:
    """The stack and no operator."""
    stack = {**cluster.small, "credentials": {"image": cluster.operator_image}, "enabled": True}
    return yaml.safe_dump(
        {"stack": stack, "operator": {"enabled": False}, "instance": {"create": False}}
    )


@pytest.fixture(scope="module")
def egress(cluster: Any) -> Iterator[Watch]:
    """The node refuses and counts what leaves the cluster."""
    (node,) = cluster.items("nodes")
    service = cluster.get("service", "kubernetes", "-n", "default")["spec"]["clusterIP"]
    services = f"{service.rsplit('.', 2)[0]}.0.0/16"
    own = [a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP"]
    watch = Watch(kind.named(kind.TESTS).node)
    watch.start(node["spec"]["podCIDRs"][:1], [services, *(f"{address}/32" for address in own)])
    yield watch
    watch.stop()


@pytest.fixture(scope="module")
def solo(cluster: Any, egress: Watch) -> Iterator[str]:
    """`helm install solo .` with the stack and no operator."""
    cluster.namespace(NAMESPACE)
    for limit in (QUOTA, LIMITS):
        cluster.kubectl("create", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(limit))
    cluster.helm(
        "install", "solo", str(ROOT), "-n", NAMESPACE, "--wait", "--timeout", "9m",
        "-f", "-", stdin=values(cluster), timeout=570,
    )  # fmt: skip
    yield NAMESPACE
    cluster.drop_namespace(NAMESPACE)


def test_answers_without_an_operator(cluster: Any, solo: str, upload: Any, ask: Any) -> None:
    if cluster.get("crd", "metisrags.metisrag.dev"):
        assert cluster.items("metisrags", "-n", solo) == []
    with cluster.app(solo, "solo") as client:
        upload(client)
        body = ask(client, "How many days of annual leave does an employee have?")
    assert body["sources"]
    assert body["memory"]["status"] == "ok"


def test_no_container_depends_on_the_defaults_of_a_limit_range(cluster: Any, solo: str) -> None:
    filled_in = {
        pod["metadata"]["labels"]["app.kubernetes.io/component"]: note
        for pod in cluster.items("pods", "-n", solo)
        if (note := pod["metadata"]["annotations"].get("kubernetes.io/limit-ranger"))
    }
    # A limit on its processors would slow the model server down many times: see docs/sizing.md.
    assert set(filled_in) == {"ollama"}, filled_in
    assert "memory" not in filled_in["ollama"]


@pytest.mark.timeout(700)
def test_helm_test_uses_the_instance_as_a_user_does_and_leaves_nothing(
    cluster: Any, solo: str
) -> None:
    said = cluster.helm("test", "solo", "-n", solo, "--timeout", "10m", timeout=630)
    assert "Succeeded" in said
    pods = ("pods", "-n", solo, "-l", "app.kubernetes.io/component=test")
    cluster.wait_for(lambda: not cluster.items(*pods), 60, lambda: str(cluster.items(*pods)))
    with cluster.app(solo, "solo") as client:
        names = [d["name"] for d in client.get("/api/documents").json()["documents"]]
        assert not [name for name in names if name.startswith("helm-test-")]


@pytest.mark.full
@pytest.mark.timeout(1500)
def test_helm_test_fails_without_the_memory_server_and_says_so(cluster: Any, solo: str) -> None:
    mem0 = ("deployment/solo-mem0", "-n", solo)
    cluster.kubectl("scale", *mem0, "--replicas=0")
    gone = ("pods", "-n", solo, "-l", "app.kubernetes.io/component=mem0")
    try:
        cluster.wait_for(lambda: not cluster.items(*gone), 90, lambda: str(cluster.items(*gone)))
        with pytest.raises(Exception, match="solo-test failed"):
            cluster.helm("test", "solo", "-n", solo, "--timeout", "10m", timeout=630)
        said = cluster.kubectl("logs", "solo-test", "-n", solo)
        assert "remember: the memory server has not taken" in said
        with cluster.app(solo, "solo") as client:
            names = [d["name"] for d in client.get("/api/documents").json()["documents"]]
            assert not [name for name in names if name.startswith("helm-test-")]
    finally:
        cluster.kubectl("scale", *mem0, "--replicas=1")
        cluster.kubectl("rollout", "status", *mem0, "--timeout=2m", timeout=150)
    cluster.helm("test", "solo", "-n", solo, "--timeout", "10m", timeout=630)


def dns_pods(cluster: Any) -> set[str]:
    """The addresses of the cluster's DNS."""
    found = cluster.items("pods", "-n", "kube-system", "-l", "k8s-app=kube-dns")
    return {pod["status"]["podIP"] for pod in found}


def test_nobody_speaks_outside_the_cluster(cluster: Any, solo: str, egress: Watch) -> None:
    """From the first hook of the installation on, any pod of the cluster."""
    names = {
        pod["status"].get("podIP"): f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for pod in cluster.items("pods", "-A")
        if not pod["spec"].get("hostNetwork")
    }
    # A name whose Service is just gone is asked outside in the end, by tests before this one too.
    sent = [p for p in egress.outside() if p.source not in dns_pods(cluster)]
    assert [f"{names.get(p.source, p.source)} -> {p.target}: {p.count}" for p in sent] == []


def test_no_name_is_asked_outside_while_it_is_used(
    cluster: Any, solo: str, egress: Watch, ask: Any
) -> None:
    """Offline a telemetry's name leads to no packet of its own, but to one of the DNS."""

    def asked() -> int:
        own = dns_pods(cluster)
        return sum(p.count for p in egress.outside() if p.source in own)

    before = asked()
    with cluster.app(solo, "solo") as client:
        ask(client, "How many days of annual leave does an employee have?")
    assert asked() == before


def test_a_pod_that_does_is_refused_and_counted(cluster: Any, solo: str, egress: Watch) -> None:
    before = {(p.source, p.target) for p in egress.outside()}
    address, refusal = cluster.kubectl(
        "exec", "-n", solo, "deployment/solo-app", "-c", "app", "--", "python", "-c",
        "import socket\n"
        "try:\n"
        f"    socket.create_connection(('{OUTSIDE}', 443), 5)\n"
        "except OSError as error:\n"
        "    print(socket.gethostbyname(socket.gethostname()), type(error).__name__)\n"
        "try:\n"
        "    socket.gethostbyname('telemetry.example')\n"
        "except OSError:\n"
        "    pass\n",
    ).split()  # fmt: skip
    assert refusal == "ConnectionRefusedError"
    after = {(p.source, p.target) for p in egress.outside()} - before
    assert (address, OUTSIDE) in after
    others = {source for source, _ in after} - {address}
    assert others, "the DNS asked outside for the name"
    assert others <= dns_pods(cluster)


def _enforces(cluster: Any) -> bool:
    """Whether the cluster's network is known to enforce policies: kind's own one does."""
    return bool(cluster.get("daemonset", "kindnet", "-n", "kube-system"))


@pytest.mark.parametrize(
    ("source", "target", "port", "through"),
    [
        ("app", "metis-postgres", 5432, True),
        ("app", "mem0", 8050, True),
        ("app", "mem0-postgres", 5432, False),
        ("mem0", "mem0-postgres", 5432, True),
        ("mem0", "metis-postgres", 5432, False),
        ("mem0", "app", 8000, False),
    ],
)
def test_the_network_refuses_what_no_policy_lists(
    cluster: Any, solo: str, source: str, target: str, port: int, through: bool
) -> None:
    if not _enforces(cluster):
        pytest.skip("the network of this cluster does not enforce policies")
    tried = cluster.kubectl(
        "exec", "-n", solo, f"deployment/solo-{source}", "-c", source, "--", "python", "-c",
        "import socket\n"
        "try:\n"
        f"    socket.create_connection(('solo-{target}', {port}), 5)\n"
        "    print('through')\n"
        "except OSError as error:\n"
        "    print(type(error).__name__)\n",
    )  # fmt: skip
    assert (tried.strip() == "through") is through, tried


def held(cluster: Any) -> dict[str, dict[str, str]]:
    """What each Secret that rotates holds."""
    return {c: cluster.secret(NAMESPACE, f"solo-{c}") for c in ROTATED}


def test_the_plugin_rotates_everything_and_no_request_fails(cluster: Any, solo: str) -> None:
    before = held(cluster)
    with steady_load(cluster, solo, "solo", rate=5) as load:
        for component in ROTATED:
            told = cluster.metis(
                "rotate", "--release", "solo", "--component", component, "--wait",
                "--timeout", "90", namespace=solo,
            )  # fmt: skip
            assert told.stdout == f"solo/solo has new credentials: {component}\n"
        samples = load.samples()
    after = held(cluster)
    for component in ROTATED:
        assert after[component].keys() == before[component].keys()
        changed = {k for k, v in after[component].items() if before[component][k] != v}
        assert changed == ({"current"} if component == "mem0-key" else {"username", "password"})
    failed = [s for s in samples if s.failed]
    assert failed == [], failed[:20]
    reasons = [e["reason"] for e in cluster.items("events", "-n", solo)]
    assert reasons.count("RotationFinished") == 3


@contextmanager
def applied_over_and_over(cluster: Any) -> Iterator[list[str]]:
    """What a GitOps tool does: it compares and applies what it rendered; gives the differences."""
    rendered = cluster.helm("template", "solo", str(ROOT), "-n", NAMESPACE, "--skip-tests",
                            "-f", "-", stdin=values(cluster))  # fmt: skip
    kinds = {document["kind"] for document in yaml.safe_load_all(rendered) if document}
    assert "CronJob" in kinds
    assert "Secret" not in kinds
    drift: list[str] = []
    trouble: list[BaseException] = []
    stop, rounds = threading.Event(), 0

    def go_on() -> None:
        nonlocal rounds
        try:
            while not stop.is_set():
                for flags in (SSA, ()):
                    target = ("-n", NAMESPACE, "-f", "-")
                    cluster.kubectl("apply", *flags, *target, stdin=rendered)
                    done = subprocess.run(
                        [cluster.kubectl_path, "diff", *flags, *target],
                        input=rendered, capture_output=True, text=True, timeout=60,
                        env=cluster.environment, check=False,
                    )  # fmt: skip
                    if done.returncode:
                        drift.append(done.stdout + done.stderr)
                rounds += 1
        except BaseException as error:  # noqa: BLE001 - told by the test, not by its thread
            trouble.append(error)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        cluster.wait_for(lambda: rounds or trouble, 180, lambda: "nothing was applied")
        yield drift
        seen = rounds
        cluster.wait_for(lambda: rounds > seen or trouble, 180, lambda: "no round after it")
    finally:
        stop.set()
        thread.join(180)
    assert trouble == []


def test_the_cron_job_rotates_what_is_due_and_git_ops_does_not_mind(
    cluster: Any, solo: str
) -> None:
    before = held(cluster)
    cluster.kubectl(
        "annotate", "secret", "solo-mem0-key", "-n", solo, "--overwrite",
        "rotation.metisrag.dev/rotated=2020-01-01T00:00:00Z",
    )  # fmt: skip
    with applied_over_and_over(cluster) as drift:
        cluster.kubectl("create", "job", "today", "--from=cronjob/solo-rotator", "-n", solo)
        cluster.kubectl(
            "wait", "job/today", "-n", solo, "--for=condition=Complete", "--timeout=120s"
        )
        after = held(cluster)
    assert "mem0-key rotated" in cluster.kubectl("logs", "job/today", "-n", solo)
    assert drift == []
    assert {c for c in ROTATED if after[c] != before[c]} == {"mem0-key"}
    assert after["mem0-key"].keys() == {"current"}
    assert held(cluster) == after, "what was applied has overwritten it"
    assert cluster.admin_key(solo, "solo")


def test_upgrade_keeps_credentials_and_uninstall_keeps_data(cluster: Any, solo: str) -> None:
    key = cluster.admin_key(solo, "solo")
    cluster.helm(  # From the GitOps tool of the test before, which owns what it has applied.
        "upgrade", "solo", str(ROOT), "-n", solo, "--reuse-values", "--wait", "--timeout", "3m",
        "--force-conflicts",
    )  # fmt: skip
    assert cluster.admin_key(solo, "solo") == key
    cluster.helm("uninstall", "solo", "-n", solo, "--wait", "--timeout", "2m")
    assert len(cluster.items("pvc", "-n", solo)) == 3
    assert cluster.admin_key(solo, "solo") == key
    # Jobs that a CronJob made go after it, as the cluster gets round to it.
    kinds = "deployments,statefulsets,services,jobs,roles"
    cluster.wait_for(
        lambda: not cluster.items(kinds, "-n", solo), 60,
        lambda: cluster.kubectl("get", kinds, "-n", solo),
    )  # fmt: skip
