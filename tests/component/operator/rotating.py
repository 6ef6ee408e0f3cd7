"""Pods, a kubelet and a Job controller for rotations, on a control plane that has none.

A pod is a server on a loopback address of its own. What it mounts it learns when its pod object
is touched, as from a kubelet between two of its rounds; keys are checked and chosen by the
product's own code. A Job changes the logins that "the database" knows.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from metis_operator.core.rotation import Request
from metis_operator.standalone import rotate

from app.db.login import fingerprint, read_together
from app.rag.mem0_keys import MountedKeys, recognises
from app.rag.mem0_keys import fingerprint as key_fingerprint
from hack import tools
from mem0_server.errors import UnauthorizedError
from mem0_server.keys import KeyRing
from mem0_server.settings import Settings
from tests.component.mounted_secret import MountedSecret
from tests.component.operator.harness import ROOT, Api
from tests.component.operator.world import World

PURPOSES = ("mem0-key", "mem0-db", "metis-db")
_ADDRESSES = itertools.count(2)
_PORT = {"mem0": 8050, "app": 8000}


@dataclass(eq=False)
class RotatingPod:
    """One pod of the app or the memory server."""

    api: Api
    ns: str
    instance: str
    component: str
    folder: Path
    deaf: bool = False
    name: str = ""
    touched: str = ""

    def __post_init__(self) -> None:
        number = next(_ADDRESSES)
        self.address = f"127.0.{number // 250}.{number % 250 + 2}"
        self.name = f"{self.instance}-{self.component}-{number}"
        self.keys = MountedSecret(self.folder / f"{self.name}-keys")
        self.login = MountedSecret(self.folder / f"{self.name}-db")
        self.refresh()
        self.held = MountedKeys(self.keys.folder)
        self.ring = KeyRing(
            Settings(database_url="postgresql://nowhere/x", mem0_api_key_dir=self.keys.folder)
        )
        self.server = ThreadingHTTPServer((self.address, 0), self._handler())
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        labels = {
            "app.kubernetes.io/name": "metis-rag",
            "app.kubernetes.io/instance": self.instance,
            "app.kubernetes.io/component": self.component,
        }
        ports = [{"name": "http", "containerPort": self.port}]
        container = {"name": self.component, "image": "none", "ports": ports}
        pod = {
            "metadata": {"name": self.name, "labels": labels},
            "spec": {"containers": [container], "nodeName": "n"},
        }
        self.api.create("Pod", self.ns, pod)
        status = {"phase": "Running", "podIP": self.address, "podIPs": [{"ip": self.address}]}
        self.api.patch("Pod", self.ns, self.name, {"status": status}, "status")

    def refresh(self) -> None:
        """See the Secrets as they are now."""
        keys = self._secret("mem0-key")
        self.keys.write(**keys)
        login = self._secret("metis-db" if self.component == "app" else "mem0-db")
        self.login.write(username=login["username"], password=login["password"])

    def look_at_object(self) -> None:
        """What the kubelet does when the pod's object changes."""
        found = self.api.get("Pod", self.ns, self.name)
        touched = str((found or {"metadata": {}})["metadata"].get("annotations"))
        if found and touched != self.touched:
            self.touched = touched
            if not self.deaf:
                self.refresh()

    def accepts(self, key: str) -> bool:
        """Whether this pod of the memory server lets the key pass."""
        self.ring.reload()
        try:
            self.ring.check(key.encode())
        except UnauthorizedError:
            return False
        return True

    @property
    def database(self) -> dict[str, str]:
        """The login that this pod uses."""
        files = {"user": "username", "password": "password"}
        return read_together({k: self.login.folder / f for k, f in files.items()})

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        with contextlib.suppress(AssertionError):
            path = self.api.path("Pod", self.ns, self.name)
            self.api.call("DELETE", path, params={"gracePeriodSeconds": "0"})

    def _secret(self, purpose: str) -> dict[str, str]:
        found = self.api.get("Secret", self.ns, f"{self.instance}-{purpose}")
        assert found
        return {k: base64.b64decode(v).decode() for k, v in found["data"].items()}

    def _answer(self, path: str, key: str) -> tuple[int, dict[str, Any]]:
        login = {"fingerprint": fingerprint(self.database), "former_connections": 0}
        if path == "/status":
            if not self.accepts(key):
                return 401, {}
            said = {"accepted_keys": self.ring.fingerprints, "key_idle_seconds": self.ring.idle}
            return 200, {**said, "database": login}
        if not recognises(self.held, key):
            return 401, {}
        if path == "/api/status/memory-key":
            return 200, {"fingerprint": key_fingerprint(self.held.held()[0])}
        return 200, login

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        pod = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                code, body = pod._answer(self.path, self.headers.get("X-API-Key", ""))
                content = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                return

        return Handler


@dataclass
class Stage:
    """Everything around the operator: pods, kubelet, Jobs, and users who are never refused."""

    api: Api
    ns: str
    instance: str
    folder: Path
    pods: list[RotatingPod] = field(default_factory=list)
    logins: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    checks: int = 0
    jobs_work: bool = True
    stopping: threading.Event = field(default_factory=threading.Event)

    def add(self, component: str, *, deaf: bool = False) -> RotatingPod:
        pod = RotatingPod(self.api, self.ns, self.instance, component, self.folder, deaf)
        self.pods = [*self.pods, pod]
        return pod

    def remove(self, pod: RotatingPod) -> None:
        self.pods = [p for p in self.pods if p is not pod]
        pod.stop()

    @contextlib.contextmanager
    def open(self) -> Iterator[Stage]:
        """Two pods of each kind, at work until the context ends."""
        for purpose in ("metis-db", "mem0-db"):
            data = self.secret(purpose)
            self.logins[data["username"]] = data["password"]
        for component in ("mem0", "mem0", "app", "app"):
            self.add(component)
        threads = [
            threading.Thread(target=self._forever, args=(part,), daemon=True)
            for part in (self._kubelet, self._jobs, self._users)
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self.stopping.set()
            for thread in threads:
                thread.join(20)
            for pod in self.pods:
                pod.stop()

    def secret(self, purpose: str) -> dict[str, str]:
        found = self.api.get("Secret", self.ns, f"{self.instance}-{purpose}")
        assert found
        return {k: base64.b64decode(v).decode() for k, v in found["data"].items()}

    def _forever(self, part: Any) -> None:
        while not self.stopping.wait(0.02):
            with contextlib.suppress(AssertionError):  # an object that went away just now
                part()

    def _kubelet(self) -> None:
        for pod in self.pods:
            pod.look_at_object()

    def _users(self) -> None:
        pods = self.pods
        for app in (p for p in pods if p.component == "app"):
            key = app.held.held()[0]
            for mem0 in (p for p in pods if p.component == "mem0"):
                if not mem0.accepts(key):
                    self.refused.append(f"{app.name} at {mem0.name}")
                self.checks += 1
        for pod in pods:
            login = pod.database
            if self.logins.get(login["user"]) != login["password"]:
                self.refused.append(f"{pod.name} at its database")

    def _jobs(self) -> None:
        if not self.jobs_work:
            return
        for job in self.api.all("Job", self.ns):
            of_a_rotation = job["metadata"]["labels"]["app.kubernetes.io/component"] == "rotation"
            if of_a_rotation and not (job.get("status") or {}).get("conditions"):
                self._run(job)

    def _run(self, job: dict[str, Any]) -> None:
        spec = job["spec"]["template"]["spec"]
        name = next(v["secret"]["secretName"] for v in spec["volumes"] if "secret" in v)
        data = self.secret(name.removeprefix(f"{self.instance}-"))
        if spec["containers"][0]["command"][-1] == "prepare":
            self.logins[data["next-username"]] = data["next-password"]
        else:
            self.logins.pop(data["revoked-username"], None)
        now = "2026-01-01T00:00:00Z"
        done = [
            {"type": t, "status": "True", "lastTransitionTime": now}
            for t in ("SuccessCriteriaMet", "Complete")
        ]
        status = {"conditions": done, "succeeded": 1, "startTime": now, "completionTime": now}
        self.api.patch("Job", self.ns, job["metadata"]["name"], {"status": status}, "status")


@contextlib.contextmanager
def a_stage(world: World, folder: Path, name: str) -> Iterator[Stage]:
    """An instance without a MetisRAG, as Helm alone would have made it."""
    rendered = subprocess.run(
        [str(tools.helm()), "template", name, str(ROOT / "charts/stack"), "-n", world.ns],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for document in yaml.safe_load_all(rendered):
        if document and document["kind"] == "StatefulSet":
            world.api.create("StatefulSet", world.ns, document)
    with Stage(world.api, world.ns, name, folder).open() as stage:
        yield stage


async def turn(
    cluster: Any, stage: Stage, *purposes: str, token: str, hurry: bool = False, **more: Any
) -> list[str]:
    """Rotate as the Job of Helm alone does; what was rotated."""
    options: dict[str, Any] = {"rules": {}, "follows": {}, "limit": 60.0} | more
    requests = {p: Request(token, revoke_now=hurry) for p in purposes}
    return await rotate(cluster, stage.instance, stage.ns, requests=requests, **options)


@contextlib.contextmanager
def a_demo(world: World, folder: Path, spec: dict[str, Any]) -> Iterator[Stage]:
    """A Ready MetisRAG with pods and Jobs."""
    world.create(spec)
    world.until_ready()
    with Stage(world.api, world.ns, "demo", folder).open() as stage:
        yield stage


def rotation(world: World, component: str) -> dict[str, Any]:
    """What the status says of one credential."""
    found = world.resource()["status"].get("rotation", [])
    return next((dict(r) for r in found if r["component"] == component), {})


def ask(world: World, value: str, *components: str) -> None:
    """Ask for rotations as a person does, by annotation."""
    notes = {f"rotate.metisrag.dev/{c}": value for c in components}
    world.api.patch("MetisRAG", world.ns, "demo", {"metadata": {"annotations": notes}})
