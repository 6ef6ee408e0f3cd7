"""An etcd and a kube-apiserver of the tests' own, which a test can stop and start again."""

from __future__ import annotations

import functools
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
import yaml

from hack import control_plane, tools
from tests.component.operator.harness import (
    ADMIN,
    OPERATOR,
    OPERATOR_NAMESPACE,
    OPERATOR_USER,
    ROOT,
    Api,
    eventually,
)


def binary(name: str) -> Path:
    """A control plane binary, or a failure that says how to get it."""
    path = Path(os.environ.get("METIS_KUBE_BIN", control_plane.FOLDER)) / name
    assert path.is_file(), (
        f"{path} is missing: run `make test-tools`, which gets it, or set METIS_KUBE_BIN to a "
        "folder with kube-apiserver and etcd."
    )
    return path


class ControlPlane:
    """etcd and kube-apiserver on loopback; every request of the operator's is in the audit log.

    The product's CRD is not there at first: the operator brings it. Its role is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._etcd_port, self._peer_port, self.port = (free_port() for _ in range(3))
        self._etcd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._write_files()

    @functools.cached_property
    def api(self) -> Api:
        """The API server as its administrator sees it, once it was started."""
        return Api(f"https://127.0.0.1:{self.port}", self._folder / "apiserver.crt", self._audit)

    def start(self) -> None:
        """Start both, and install the operator's role."""
        self.start_etcd()
        self.start_server()
        make_namespace(self.api, OPERATOR_NAMESPACE)
        install_role(self.api)

    def close(self) -> None:
        """Stop both."""
        self.stop_server()
        self.stop_etcd()

    def start_etcd(self) -> None:
        url = f"http://127.0.0.1:{self._etcd_port}"
        self._etcd = self._spawn(
            "etcd",
            f"--data-dir={self._folder / 'etcd'}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls=http://127.0.0.1:{self._peer_port}",
            "--unsafe-no-fsync",
            "--log-level=error",
        )

    def stop_etcd(self, *, kill: bool = False) -> None:
        _end(self._etcd, kill=kill)

    def start_server(self) -> None:
        """Start kube-apiserver and wait until it is ready."""
        folder, key = self._folder, self._folder / "sa.key"
        self._server = self._spawn(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--cert-dir={folder}",
            "--service-cluster-ip-range=10.96.0.0/12",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            # Pods of tests name accounts that nobody mints tokens for.
            "--disable-admission-plugins=ServiceAccount",
            f"--audit-policy-file={folder / 'audit.yaml'}",
            f"--audit-log-path={self._audit}",
            "--audit-log-mode=blocking",
        )
        eventually(self._is_ready, timeout=90, what="kube-apiserver becomes ready")

    def stop_server(self, *, kill: bool = False) -> None:
        _end(self._server, kill=kill)

    @property
    def _audit(self) -> Path:
        return self._folder / "audit.log"

    def _write_files(self) -> None:
        key = self._folder / "sa.key"
        subprocess.run(
            ["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True
        )
        (self._folder / "tokens.csv").write_text(
            f"{ADMIN},admin,1,system:masters\n"
            f"{OPERATOR},{OPERATOR_USER},2,"
            f'"system:serviceaccounts,system:authenticated"\n'
        )
        rules = [{"level": "Metadata", "users": [OPERATOR_USER]}, {"level": "None"}]
        policy = {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": rules,
        }
        (self._folder / "audit.yaml").write_text(yaml.safe_dump(policy))
        self._audit.touch()

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run, by name."""
        found = {"etcd": self._etcd, "kube-apiserver": self._server}
        return {name: process.pid for name, process in found.items() if process is not None}

    def _spawn(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("ab") as out:
            return subprocess.Popen(
                [str(binary(name)), *arguments], stdout=out, stderr=subprocess.STDOUT
            )

    def _is_ready(self) -> bool:
        assert self._server is not None
        if self._server.poll() is not None:
            said = (self._folder / "kube-apiserver.log").read_text()[-3000:]
            raise RuntimeError(f"kube-apiserver ended: {said}")
        if not (self._folder / "apiserver.crt").is_file():
            return False
        answer = httpx.get(
            f"https://127.0.0.1:{self.port}/readyz",
            verify=False,  # noqa: S501  only asks whether someone is there
            headers={"Authorization": f"Bearer {ADMIN}"},
        )
        return answer.status_code == 200


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def make_namespace(api: Api, name: str) -> str:
    api.call("POST", "/api/v1/namespaces", json={"metadata": {"name": name}})
    return name


def operator_chart(*values: str) -> list[dict[str, Any]]:
    """What the operator's chart renders."""
    chart = str(ROOT / "charts/operator")
    rendered = subprocess.run(
        [str(tools.helm()), "template", "op", chart, "-n", OPERATOR_NAMESPACE, *values],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [d for d in yaml.safe_load_all(rendered) if d]


def install_role(api: Api, *values: str) -> None:
    """The role that the operator's chart gives it, and no more."""
    for document in operator_chart(*values):
        if "rbac.authorization.k8s.io" not in document["apiVersion"]:
            continue
        kind, meta = document["kind"], document["metadata"]
        base = "/apis/rbac.authorization.k8s.io/v1"
        if meta.get("namespace"):
            base += f"/namespaces/{meta['namespace']}"
        api.apply(f"{base}/{kind.lower()}s/{meta['name']}", document)


def _end(process: subprocess.Popen[bytes] | None, *, kill: bool = False) -> None:
    if process is None or process.poll() is not None:
        return
    if kill:
        process.kill()
    else:
        process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
