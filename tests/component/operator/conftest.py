"""A real API server, and a real operator process that works against it with its real role.

There is no kubelet and no controller: what those would report is written by the tests, as they
would write it. Everything else is what a cluster does.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml

from hack import control_plane, tools
from tests.component.operator.harness import (
    ADMIN,
    OPERATOR,
    OPERATOR_NAMESPACE,
    ROOT,
    WRITES,
    Api,
    Operator,
    Wire,
    eventually,
)
from tests.component.operator.world import World


def binary(name: str) -> Path:
    """A control plane binary, or a failure that says how to get it."""
    folder = Path(os.environ.get("METIS_KUBE_BIN", control_plane.FOLDER))
    path = folder / name
    if not path.is_file():
        pytest.fail(
            f"{path} is missing: run `make test-tools`, which gets it, or set METIS_KUBE_BIN to a "
            "folder with kube-apiserver and etcd."
        )
    return path


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Api]:
    """A running etcd and kube-apiserver, the product's CRD and the operator's role in them."""
    folder = tmp_path_factory.mktemp("control-plane")
    client, peer, port = free_port(), free_port(), free_port()
    etcd = [
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        "--unsafe-no-fsync",
        "--log-level=error",
    ]
    key = folder / "sa.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    (folder / "tokens.csv").write_text(
        f"{ADMIN},admin,1,system:masters\n"
        f"{OPERATOR},system:serviceaccount:{OPERATOR_NAMESPACE}:op-operator,2,"
        f'"system:serviceaccounts,system:authenticated"\n'
    )
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {
                "level": "Metadata",
                "users": [f"system:serviceaccount:{OPERATOR_NAMESPACE}:op-operator"],
                "verbs": sorted(WRITES),
            },
            {"level": "None"},
        ],
    }
    (folder / "audit.yaml").write_text(yaml.safe_dump(policy))
    audit = folder / "audit.log"
    audit.touch()
    server = [
        f"--etcd-servers=http://127.0.0.1:{client}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder}",
        "--service-cluster-ip-range=10.99.0.0/16",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        # Pods of tests name accounts that nobody mints tokens for.
        "--disable-admission-plugins=ServiceAccount",
        f"--audit-policy-file={folder / 'audit.yaml'}",
        f"--audit-log-path={audit}",
        "--audit-log-mode=blocking",
    ]
    with (
        running([str(binary("etcd")), *etcd], folder / "etcd.log"),
        running([str(binary("kube-apiserver")), *server], folder / "kube-apiserver.log") as process,
    ):
        ca = folder / "apiserver.crt"

        def is_ready() -> bool:
            if process.poll() is not None:
                pytest.fail((folder / "kube-apiserver.log").read_text()[-3000:])
            if not ca.is_file():
                return False
            answer = httpx.get(
                f"https://127.0.0.1:{port}/readyz",
                verify=False,  # noqa: S501  only asks whether someone is there
                headers={"Authorization": f"Bearer {ADMIN}"},
            )
            return answer.status_code == 200

        eventually(is_ready, timeout=90, what="kube-apiserver becomes ready")
        cluster = Api(f"https://127.0.0.1:{port}", ca, audit)
        make_namespace(cluster, OPERATOR_NAMESPACE)
        install_role(cluster)
        yield cluster


@contextlib.contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A child process that does not outlive the context."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def make_namespace(api: Api, name: str) -> str:
    api.call("POST", "/api/v1/namespaces", json={"metadata": {"name": name}})
    return name


def install_role(api: Api) -> None:
    """The role that the operator's chart gives it, and no more."""
    rendered = subprocess.run(
        [
            str(tools.helm()),
            "template",
            "op",
            str(ROOT / "charts/operator"),
            "-n",
            OPERATOR_NAMESPACE,
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for document in yaml.safe_load_all(rendered):
        if not document or "rbac.authorization.k8s.io" not in document["apiVersion"]:
            continue
        kind, meta = document["kind"], document["metadata"]
        base = "/apis/rbac.authorization.k8s.io/v1"
        if meta.get("namespace"):
            base += f"/namespaces/{meta['namespace']}"
        plural = {"RoleBinding": "rolebindings", "ClusterRoleBinding": "clusterrolebindings"}.get(
            kind, f"{kind.lower()}s"
        )
        api.apply(f"{base}/{plural}/{meta['name']}", document)


@pytest.fixture
def ns(api: Api) -> str:
    """A namespace of the test's own."""
    return make_namespace(api, f"t-{uuid4().hex[:8]}")


@pytest.fixture(scope="session")
def operator(
    api: Api, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[Operator]:
    """The operator, running; a test that stops it starts it again."""
    process = Operator(
        api,
        Wire(int(api.url.rsplit(":", 1)[1])),
        tmp_path_factory.mktemp("operator"),
        free_port(),
        defaults={"models": {"chat": "small-chat"}, "ollama": {"storage": {"size": "2Gi"}}},
    ).start()
    yield process
    assert process.process is not None
    if process.process.poll() is None:
        process.stop()
    text = process.log.read_text()
    assert "Traceback" not in text, text


@pytest.fixture
def world(api: Api, operator: Operator, ns: str) -> Iterator[World]:
    """A fresh namespace and a running operator; no MetisRAG of it outlives the test."""
    if operator.process is None or operator.process.poll() is not None:
        operator.start()
    yield World(api, operator, ns)

    def is_clean() -> bool:
        # The API server may answer 429 for a while after a change of the CRD.
        for left in api.all("MetisRAG", ns):
            api.delete("MetisRAG", ns, left["metadata"]["name"])
        return True

    eventually(is_clean)


@pytest.fixture
def wait() -> Callable[..., Any]:
    """``wait(check)`` polls until ``check()`` is truthy and raises no AssertionError."""
    return eventually
