"""What the tests work with: the API server as an administrator sees it, and an operator process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from hack import tools

ROOT = Path(__file__).parents[3]
OPERATOR_NAMESPACE = "metis-system"
OPERATOR_USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:op-operator"
ADMIN, OPERATOR = "admin-token", "operator-token"
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})

PATHS = {
    "MetisRAG": "apis/metisrag.dev/v1alpha1/namespaces/{ns}/metisrags",
    "Deployment": "apis/apps/v1/namespaces/{ns}/deployments",
    "StatefulSet": "apis/apps/v1/namespaces/{ns}/statefulsets",
    "Service": "api/v1/namespaces/{ns}/services",
    "ServiceAccount": "api/v1/namespaces/{ns}/serviceaccounts",
    "ConfigMap": "api/v1/namespaces/{ns}/configmaps",
    "Secret": "api/v1/namespaces/{ns}/secrets",
    "Pod": "api/v1/namespaces/{ns}/pods",
    "PersistentVolumeClaim": "api/v1/namespaces/{ns}/persistentvolumeclaims",
    "NetworkPolicy": "apis/networking.k8s.io/v1/namespaces/{ns}/networkpolicies",
    "Job": "apis/batch/v1/namespaces/{ns}/jobs",
    "Event": "api/v1/namespaces/{ns}/events",
    "ResourceQuota": "api/v1/namespaces/{ns}/resourcequotas",
}
CHILDREN = (
    "ServiceAccount",
    "ConfigMap",
    "Service",
    "NetworkPolicy",
    "Deployment",
    "StatefulSet",
    "Job",
)


def eventually(
    check: Callable[[], Any], *, timeout: float = 20.0, what: str = "", every: float = 0.05
) -> Any:
    """The first truthy value of ``check()``; AssertionErrors of it are retried too.

    ``every`` so many seconds it is asked.
    """
    deadline = time.monotonic() + timeout
    failure: BaseException | None = None
    while True:
        try:
            value = check()
        except (AssertionError, httpx.HTTPError) as error:
            failure, value = error, None
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or failure or check}") from failure
        time.sleep(every)


@dataclass
class Api:
    """The API server as its administrator sees it, in plain JSON."""

    url: str
    ca: Path
    audit: Path
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(
            base_url=self.url,
            verify=ssl.create_default_context(cafile=str(self.ca)),
            headers={"Authorization": f"Bearer {ADMIN}"},
            timeout=20,
        )

    def call(self, method: str, path: str, **kwargs: Any) -> dict[str, Any]:
        answer = self.http.request(method, path, **kwargs)
        if answer.status_code >= 400:
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        return dict(answer.json())

    def path(self, kind: str, ns: str, name: str = "", sub: str = "") -> str:
        parts = (PATHS[kind].format(ns=ns), name, sub)
        return "/" + "/".join(p for p in parts if p)

    def get(self, kind: str, ns: str, name: str) -> dict[str, Any] | None:
        answer = self.http.get(self.path(kind, ns, name))
        return None if answer.status_code == 404 else dict(answer.raise_for_status().json())

    def all(self, kind: str, ns: str, selector: str = "") -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.call(
            "GET", self.path(kind, ns), params={"labelSelector": selector}
        )["items"]
        return items

    def create(self, kind: str, ns: str, obj: dict[str, Any]) -> dict[str, Any]:
        return self.call("POST", self.path(kind, ns), json=obj)

    def try_create(self, kind: str, ns: str, obj: dict[str, Any]) -> httpx.Response:
        return self.http.post(self.path(kind, ns), json=obj)

    def patch(
        self, kind: str, ns: str, name: str, patch: dict[str, Any], sub: str = ""
    ) -> dict[str, Any]:
        return self.call(
            "PATCH",
            self.path(kind, ns, name, sub),
            content=json.dumps(patch),
            headers={"Content-Type": "application/merge-patch+json"},
        )

    def delete(self, kind: str, ns: str, name: str) -> None:
        # As kubectl does. The server's own default for a Job waits for the garbage collector, which
        # does not run here.
        background = {"propagationPolicy": "Background"}
        self.call("DELETE", self.path(kind, ns, name), params=background)

    def apply(self, path: str, obj: dict[str, Any]) -> dict[str, Any]:
        return self.call(
            "PATCH",
            path,
            params={"fieldManager": "test", "force": "true"},
            content=json.dumps(obj),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )

    def operator_calls(self) -> list[dict[str, Any]]:
        """Every finished request of the operator's so far: an audit entry each."""
        lines = self.audit.read_text().splitlines()
        return [e for e in map(json.loads, lines) if e["stage"] != "ResponseStarted"]

    def operator_writes(self) -> list[str]:
        """Every write the operator has made so far, as ``verb path`` lines, but of its Lease."""
        return [
            f"{e['verb']} {e['requestURI'].split('?')[0]}"
            for e in self.operator_calls()
            if e["verb"] in WRITES and e["objectRef"]["resource"] != "leases"
        ]


class Wire:
    """The line between operator and API server, which a test can cut and mend."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener: socket.socket | None = None
        self.port = 0
        self.mend()

    def mend(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        assert self._listener is not None
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._pairs.append((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


# Kopf loads the official client, which the image lacks, where it finds it: 27 MiB and 1.6 s.
_AS_IN_IMAGE = """
import sys
sys.modules["kubernetes"] = None
from metis_operator.cli.main import main
sys.exit(main())
"""


@dataclass
class Operator:
    """An operator process, started as in its image but for the paths."""

    api: Api
    wire: Wire
    folder: Path
    port: int
    defaults: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    server: str = ""  # another way to the API server than the wire
    process: subprocess.Popen[bytes] | None = None
    runs: int = 0

    def start(self, *, wait: bool = True) -> Operator:
        self.runs += 1
        kubeconfig = self.folder / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(self._kubeconfig()))
        defaults = self.folder / "defaults.yaml"
        defaults.write_text(yaml.safe_dump(self.defaults))
        env = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "METIS_CHART_DIR": str(ROOT / "charts/stack"),
            "METIS_CRD_FILE": str(ROOT / "charts/operator/crds/metisrags.metisrag.dev.yaml"),
            "METIS_OPERATOR_DEFAULTS_FILE": str(defaults),
            "METIS_HELM": str(tools.helm()),
            "METIS_HTTP_HOST": "127.0.0.1",
            "METIS_HTTP_PORT": str(self.port),
            "METIS_PING_SECONDS": "1",
            "METIS_NAMESPACE": OPERATOR_NAMESPACE,
            "METIS_LEASE": "op-operator",
            # As a restarted container in its pod: it need not wait for its own lease to run out.
            "METIS_IDENTITY": self.folder.name,
            **self.env,
        }
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _AS_IN_IMAGE, "run"],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=env,
            )
        if wait:
            eventually(self.is_ready, timeout=120, what=f"the operator is ready: {self.log}")
        return self

    @property
    def log(self) -> Path:
        return self.folder / f"operator-{self.runs}.log"

    def is_ready(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            pytest.fail(f"the operator ended: {self.log.read_text()[-3000:]}")
        return self.ask("/readyz").status_code == 200

    def ask(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=5)

    def metric(self, name: str) -> float:
        """The sum of all samples of a metric, or of those with the labels given in ``name``."""
        lines = self.ask("/metrics").text.splitlines()
        found = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)]
        return sum(found)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, as the kubelet does; gives the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    def _kubeconfig(self) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "t",
            "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}],
            "clusters": [
                {
                    "name": "t",
                    "cluster": {
                        "server": self.server or f"https://127.0.0.1:{self.wire.port}",
                        "certificate-authority": str(self.api.ca),
                    },
                }
            ],
            "users": [{"name": "t", "user": {"token": OPERATOR}}],
        }


class Supervisor:
    """Starts an operator again whenever it ends, as the kubelet does."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.ends: list[int] = []
        self._stopped = threading.Event()
        operator.start(wait=False)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        eventually(self.is_ready, timeout=60, what="the operator is ready")

    def is_ready(self) -> bool:
        return self.operator.ask("/readyz").status_code == 200

    def kill(self) -> None:
        """At once, and without waiting for what follows."""
        process = self.operator.process
        assert process is not None
        process.send_signal(signal.SIGKILL)

    def close(self) -> None:
        self._stopped.set()
        process = self.operator.process
        if process is not None and process.poll() is None:
            process.terminate()
        self._thread.join(30)

    def logs(self) -> str:
        return "".join(p.read_text() for p in self.operator.folder.glob("operator-*.log"))

    def _watch(self) -> None:
        while True:
            process = self.operator.process
            assert process is not None
            code = process.wait()
            if self._stopped.is_set():
                return
            self.ends.append(code)
            self._stopped.wait(0.5)
            self.operator.start(wait=False)
