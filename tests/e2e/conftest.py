"""A real kind cluster of the tests' own, and the three ways of use on it.

The cluster is ``metis-test`` with its own kubeconfig, so that a ``make up`` instance is never
touched. It is left running for the next run; every test namespace is made anew.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import yaml

from hack import cluster as kind
from hack import install, tools
from tests.e2e.told.collect import Told, access

ROOT = Path(__file__).parents[2]
Found = TypeVar("Found")


class CommandError(AssertionError):
    """A command of a test failed; the message holds its output."""


@dataclass(frozen=True)
class Cluster:
    """kubectl and helm against the test cluster."""

    kubeconfig: Path
    began: str
    """When the tests began, in RFC 3339."""
    small: dict[str, Any]
    """The partial spec that fits this machine: small models, preload image, image tags."""
    operator_image: dict[str, Any]
    told: Told | None = None
    """What keeps all that the cluster tells, where a test looks through it at the end."""

    @property
    def environment(self) -> dict[str, str]:
        """The environment for subprocesses that talk to the cluster."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def run(self, *argv: str, stdin: str | None = None, timeout: float = 300) -> str:
        """Run a program and return its stdout; raise CommandError with its output otherwise."""
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment,
            cwd=ROOT,
            check=False,
        )
        if done.returncode:
            raise CommandError(f"{' '.join(argv)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    @property
    def kubectl_path(self) -> str:
        """The kubectl in use."""
        return str(tools.kubectl())

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 300) -> str:
        """Run kubectl."""
        return self.run(self.kubectl_path, *arguments, stdin=stdin, timeout=timeout)

    def helm(self, *arguments: str, stdin: str | None = None, timeout: float = 300) -> str:
        """Run helm; ``stdin`` is for ``-f -``."""
        if self.told and arguments[0] == "uninstall":
            self.told.scrape()
        return self.run(str(tools.helm()), *arguments, stdin=stdin, timeout=timeout)

    def metis(
        self, *arguments: str, namespace: str, code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """``kubectl metis … -n NAMESPACE``, which must end with ``code``."""
        scripts = Path(sys.executable).parent
        assert (scripts / "kubectl-metis").is_file(), "the package's scripts are missing: uv sync"
        done = subprocess.run(
            [self.kubectl_path, "metis", *arguments, "-n", namespace],
            capture_output=True,
            text=True,
            timeout=120,
            env={
                **self.environment,
                "PATH": f"{scripts}:{os.environ['PATH']}",
                "METIS_HELM": str(tools.helm()),
            },
            check=False,
        )
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    def get(self, *arguments: str) -> Any:
        """``kubectl get … -o json``; None when there is no such object."""
        text = self.kubectl("get", *arguments, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        """The items of ``kubectl get``."""
        found = self.get(*arguments)
        return found["items"] if found else []

    def namespace(self, name: str) -> None:
        """Make a fresh namespace that enforces the restricted Pod Security Standard."""
        self.drop_namespace(name)
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels},
        }
        self.apply(body)

    def drop_namespace(self, name: str) -> None:
        """Delete a namespace with all that is in it and wait until it is gone."""
        if self.told:
            self.told.scrape(name)
        self.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait", timeout=180)

    @staticmethod
    def kill(pod: dict[str, Any]) -> None:
        """``kill -9`` of the pod's main process: from the node, since inside it is process 1."""
        (status,) = pod["status"]["containerStatuses"]
        container = status["containerID"].removeprefix("containerd://")
        inside = ["docker", "exec", kind.named(kind.TESTS).node, "ctr", "-n", "k8s.io"]
        subprocess.run([*inside, "task", "kill", "-s", "SIGKILL", container], check=True)

    def apply(self, *objects: dict[str, Any]) -> None:
        """``kubectl apply`` of objects."""
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def metisrag(self, namespace: str, name: str, spec: dict[str, Any] | None = None) -> None:
        """Apply a MetisRAG."""
        self.apply(
            {
                "apiVersion": "metisrag.dev/v1alpha1",
                "kind": "MetisRAG",
                "metadata": {"name": name, "namespace": namespace},
                "spec": spec or {},
            }
        )

    @cached_property
    def _api(self) -> httpx.Client:
        """The API server itself, for what is read often: kubectl takes 0.1 s of the processor."""
        return httpx.Client(**access(self.kubeconfig))

    def _read(self, path: str) -> dict[str, Any] | None:
        """The object at a path of the API; None when there is none."""
        answer = self._api.get(path, timeout=30)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def _metisrag(self, namespace: str, name: str) -> dict[str, Any] | None:
        return self._read(f"/apis/metisrag.dev/v1alpha1/namespaces/{namespace}/metisrags/{name}")

    def status(self, namespace: str, name: str) -> dict[str, Any]:
        """The status of a MetisRAG ({} when there is no such object)."""
        found = self._metisrag(namespace, name)
        return found.get("status", {}) if found else {}

    def conditions(self, namespace: str, name: str) -> dict[str, dict[str, Any]]:
        """The conditions of a MetisRAG by type."""
        return {c["type"]: c for c in self.status(namespace, name).get("conditions", [])}

    def wait_ready(self, namespace: str, name: str, timeout: float = 240) -> dict[str, Any]:
        """Wait until a MetisRAG is Ready for its current generation; return its status."""

        def ready() -> dict[str, Any] | None:
            found = self._metisrag(namespace, name)
            if not found or "status" not in found:
                return None
            status: dict[str, Any] = found["status"]
            current = status.get("observedGeneration") == found["metadata"]["generation"]
            conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
            return status if current and conditions.get("Ready") == "True" else None

        return self.wait_for(
            ready, timeout, lambda: f"MetisRAG {namespace}/{name}: {self.status(namespace, name)}"
        )

    @staticmethod
    def wait_for(
        probe: Callable[[], Found | None], timeout: float, describe: Callable[[], str]
    ) -> Found:
        """Poll ``probe`` until it gives something; fail with ``describe()`` after ``timeout`` s."""
        deadline = time.monotonic() + timeout
        while True:
            found = probe()
            if found:
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout:.0f} s: {describe()}")
            time.sleep(0.5)

    @contextmanager
    def port_forward(self, namespace: str, target: str, port: int) -> Iterator[str]:
        """Forward a free local port to ``target``; yields the base URL."""
        process = subprocess.Popen(
            [self.kubectl_path, "-n", namespace, "port-forward", target, f":{port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.search(r"127\.0\.0\.1:(\d+)", line)
            if not match:
                raise CommandError(f"port-forward to {namespace}/{target}: {line}")
            yield f"http://127.0.0.1:{match[1]}"
        finally:
            process.terminate()
            process.wait()

    @contextmanager
    def app(self, namespace: str, name: str) -> Iterator[httpx.Client]:
        """An HTTP client of an instance's app, signed in as its admin."""
        with (
            self.port_forward(namespace, f"svc/{name}-app", 8000) as url,
            httpx.Client(base_url=url, timeout=120) as client,
        ):
            client.headers["Authorization"] = f"Bearer {self.admin_key(namespace, name)}"
            yield client

    def admin_key(self, namespace: str, name: str) -> str:
        """The generated bearer key of an instance's admin."""
        return self.secret(namespace, f"{name}-auth")["admin-key"]

    def secret(self, namespace: str, name: str) -> dict[str, str]:
        """The decoded data of a Secret."""
        found = self._read(f"/api/v1/namespaces/{namespace}/secrets/{name}")
        assert found, f"no Secret {namespace}/{name}"
        return {k: base64.b64decode(v).decode() for k, v in found["data"].items()}


def up() -> Path:
    """Have the test cluster run with the images of this checkout; its kubeconfig."""
    command = [sys.executable, "-m", "hack", "cluster", "up", "--name", kind.TESTS]
    subprocess.run(command, check=True, cwd=ROOT)
    kubeconfig = kind.named(kind.TESTS).kubeconfig
    assert kubeconfig is not None
    return kubeconfig


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests marked ``last`` behind all others, and of them ``last(1)`` behind ``last``.

    Set-up is bounded by its own limits.
    """
    here = Path(__file__).parent
    for item in (item for item in items if here in item.path.parents):
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(300, func_only=True))
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    mark = item.get_closest_marker("last")
    return 0 if mark is None else 1 + sum(mark.args)


@pytest.fixture(scope="session")
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """The test cluster with the images of this checkout."""
    began = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    kubeconfig = up()
    told = None
    if any(item.get_closest_marker("told") for item in request.session.items):
        told = Told(kubeconfig, kind.named(kind.TESTS).node, tmp_path_factory.mktemp("told"))
    yield Cluster(kubeconfig, began, install.small_spec(), install.operator_image(), told)
    if told:
        told.stop()


@pytest.fixture(scope="session")
def umbrella(cluster: Cluster) -> Iterator[str]:
    """``helm install metis . -n metis``: operator, CRD and one Ready MetisRAG; its namespace."""
    cluster.namespace("metis")
    values = {
        "operator": {"image": cluster.operator_image, "defaults": cluster.small},
    }
    cluster.helm(
        "upgrade", "--install", "metis", str(ROOT), "-n", "metis", "--wait", "--timeout", "5m",
        "-f", "-", stdin=yaml.safe_dump(values), timeout=330,
    )  # fmt: skip
    yield "metis"
    cluster.helm("uninstall", "metis", "-n", "metis", "--ignore-not-found", "--wait")
    cluster.drop_namespace("metis")


@pytest.fixture(scope="session")
def documents(cluster: Cluster, umbrella: str) -> list[dict[str, Any]]:
    """The test documents, uploaded to the umbrella's instance."""
    with cluster.app(umbrella, "metis") as client:
        return upload_documents(client)


@pytest.fixture
def app(cluster: Cluster, umbrella: str, documents: list[dict[str, Any]]) -> Iterator[httpx.Client]:
    """The app of the umbrella's instance; each test connects anew, as pods come and go."""
    with cluster.app(umbrella, "metis") as client:
        yield client


@pytest.fixture(scope="session")
def upload() -> Callable[[httpx.Client], list[dict[str, Any]]]:
    """``upload(client)`` uploads all of tests/data."""
    return upload_documents


@pytest.fixture(scope="session")
def ask() -> Callable[..., dict[str, Any]]:
    """``ask(client, message, conversation=None)`` asks without streaming."""
    return ask_question


def upload_documents(client: httpx.Client) -> list[dict[str, Any]]:
    """Upload all of tests/data; every document must become ready."""
    paths = sorted(p for p in (ROOT / "tests" / "data").iterdir() if p.suffix != ".yaml")
    files = [("files", (path.name, path.read_bytes())) for path in paths]
    response = client.post("/api/documents", files=files)
    assert response.status_code == 201, response.text
    documents: list[dict[str, Any]] = response.json()["documents"]
    assert [d["status"] for d in documents] == ["ready"] * len(paths), documents
    return documents


def ask_question(
    client: httpx.Client, message: str, conversation: str | None = None
) -> dict[str, Any]:
    """Ask without streaming; return the body."""
    body = {"message": message} | ({"conversation_id": conversation} if conversation else {})
    response = client.post("/api/chat/query", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer
