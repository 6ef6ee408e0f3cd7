"""Reaching a running instance: kubectl, the state of the MetisRAG, its key, a port-forward.

Reads the cluster of the default kubeconfig and changes nothing in it.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import re
import shutil
import subprocess
import threading
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TextIO

from hack.cache import BIN
from hack.errors import HackError, ToolMissing
from hack.process import ended, start

GROUP = "metisrag.dev"
KUBECTL_LIMIT = 30.0
FORWARD_LIMIT = 30.0
Json = dict[str, Any]


class Exit(IntEnum):
    """Exit statuses, one for each thing that a person would do something else about."""

    ANSWER = 1
    USAGE = 2
    CLUSTER = 3
    INSTANCE = 4
    NOT_READY = 5
    KEY = 6


class AskError(HackError):
    """The question could not be asked or was not answered; ``status`` is the exit status."""

    def __init__(self, status: Exit, what: str, todo: str) -> None:
        super().__init__(what, todo)
        self.status = status


@dataclass(frozen=True)
class Instance:
    """Where to ask: ``namespace/name``."""

    namespace: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Instance | None:
        """Read ``namespace/name``; None when it is anything else."""
        match text.split("/"):
            case [namespace, name] if namespace and name:
                return cls(namespace, name)
        return None

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def printable(text: str) -> str:
    """``text`` without control characters, so that no model and no file name steers a terminal."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")


class Kubectl:
    """kubectl from PATH, or the one that the set-up fetched."""

    def __init__(self) -> None:
        found = shutil.which("kubectl") or shutil.which("kubectl", path=BIN)
        if not found:
            raise ToolMissing(
                "kubectl was not found in PATH nor in ~/.cache/metis-rag/bin",
                "Install kubectl, or run `make up`, which fetches it.",
            )
        self.path = found

    def __call__(self, *arguments: str) -> tuple[str | None, str]:
        """Run it: (standard output, "") or, when it fails, (None, its last line of complaint)."""
        command = [self.path, f"--request-timeout={KUBECTL_LIMIT:.0f}s", *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=KUBECTL_LIMIT + 5, check=False
            )
        except subprocess.TimeoutExpired:
            return None, f"kubectl gave no answer within {KUBECTL_LIMIT + 5:.0f} s"
        if done.returncode:
            complaint = done.stderr.strip().splitlines() or ["no reason given"]
            return None, complaint[-1]
        return done.stdout, ""

    def get(self, namespace: str, kind: str, name: str) -> Json | None:
        """An object, or None when there is none of that name."""
        text, complaint = self(
            "-n", namespace, "get", kind, name, "--ignore-not-found", "--output=json"
        )
        if text is None:
            raise AskError(
                Exit.CLUSTER,
                f"{kind} {namespace}/{name} cannot be read: {complaint}",
                "Check that your user may read MetisRAGs, Services and Secrets in that namespace.",
            )
        found: Json | None = json.loads(text) if text.strip() else None
        return found


def find(kubectl: Kubectl, instance: Instance, notes: TextIO) -> None:
    """Make sure that the instance is there and its app is ready; raises :class:`AskError`."""
    text, complaint = kubectl("get", "--raw", "/apis")
    if text is None:
        raise AskError(
            Exit.CLUSTER,
            f"no cluster answers: {complaint}",
            "Run `make up`, or point KUBECONFIG to a cluster that runs.",
        )
    operated = any(group["name"] == GROUP for group in json.loads(text)["groups"])
    namespace, name = instance.namespace, instance.name
    resource = kubectl.get(namespace, f"metisrags.{GROUP}", name) if operated else None
    if resource is None:
        if kubectl.get(namespace, "service", f"{name}-app") is None:
            raise AskError(
                Exit.INSTANCE,
                f"there is no instance {instance} in this cluster",
                "Run `make up`, or name another: INSTANCE=namespace/name."
                + (known_instances(kubectl) if operated else ""),
            )
        return
    trouble = not_ready(resource)
    if trouble is None:
        return
    if not app_ready(resource):
        raise AskError(
            Exit.NOT_READY,
            f"{instance} is not ready: {trouble}",
            f"Wait for it: kubectl -n {namespace} get metisrag {name} --watch; "
            f"more: kubectl -n {namespace} describe metisrag {name}",
        )
    print(f"note: {instance} is not wholly well: {trouble}", file=notes)


def known_instances(kubectl: Kubectl) -> str:
    """A sentence naming the instances that are there, or nothing."""
    text, _ = kubectl("get", f"metisrags.{GROUP}", "--all-namespaces", "--output=json")
    items = json.loads(text)["items"] if text else []
    names = [f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in items]
    return f" There are: {', '.join(names)}." if names else ""


def not_ready(resource: Json) -> str | None:
    """Why a MetisRAG is not Ready, in its own words; None when it is."""
    conditions = resource.get("status", {}).get("conditions", [])
    for condition in conditions:
        if condition["type"] == "Ready":
            if condition["status"] == "True":
                return None
            return printable(condition.get("message") or condition.get("reason") or "no message")
    return "the operator has not looked at it yet; is it running?"


def app_ready(resource: Json) -> bool:
    """Whether the component ``app`` of a MetisRAG is ready, whatever the others are."""
    components = resource.get("status", {}).get("components", [])
    return any(component["name"] == "app" and component["ready"] for component in components)


def admin_key(kubectl: Kubectl, instance: Instance) -> str | None:
    """METIS_KEY, else the generated admin key; None when there is none (``auth.mode: none``)."""
    if given := os.environ.get("METIS_KEY"):
        return given
    secret = kubectl.get(instance.namespace, "secret", f"{instance.name}-auth")
    encoded = (secret or {}).get("data", {}).get("admin-key")
    return base64.b64decode(encoded).decode() if encoded else None


@contextmanager
def forwarded(kubectl: Kubectl, instance: Instance) -> Iterator[str]:
    """The URL of the app behind a port-forward, which ends with the block."""
    child = start(
        [
            kubectl.path, "-n", instance.namespace, "port-forward", "--address=127.0.0.1",
            f"service/{instance.name}-app", ":8000",
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    said: queue.Queue[str | None] = queue.Queue()

    def listen() -> None:  # to the end, for a full pipe would stop kubectl
        for line in child.stdout or ():
            said.put(line.decode(errors="replace").strip())
        said.put(None)

    with ended(child):
        threading.Thread(target=listen, daemon=True).start()
        yield f"http://127.0.0.1:{_local_port(said, instance)}"


def _local_port(said: queue.Queue[str | None], instance: Instance) -> int:
    deadline = time.monotonic() + FORWARD_LIMIT
    last = "kubectl said nothing"
    while True:
        try:
            line = said.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            line = None
        if line is None:
            raise AskError(
                Exit.NOT_READY,
                f"the app of {instance} cannot be reached: {printable(last)}",
                f"kubectl -n {instance.namespace} get pods shows whether {instance.name}-app runs.",
            )
        if match := re.match(r"Forwarding from 127\.0\.0\.1:(\d+) ", line):
            return int(match[1])
        last = line
