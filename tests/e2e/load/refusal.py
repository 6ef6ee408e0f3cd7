"""How soon a revoked key opens nothing any more: every pod is asked with it, all the while."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

ROUTES = {"mem0": (8050, "/status"), "app": (8000, "/api/status/memory-key")}
"""What a key of the memory server opens at a pod of each component."""
EVERY = 0.5
PREFIX = "rotation.metisrag.dev"


@dataclass
class Refusal:
    """What came of asking each pod with one key; times are seconds since the epoch."""

    answers: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    revoked: float = 0.0
    """When the Secret was written without the key."""

    def delays(self) -> dict[str, float]:
        """For each pod, the seconds from the revocation to the last answer that was no 401."""
        assert self.revoked, "the key was not revoked meanwhile"
        found = {}
        for pod, answers in self.answers.items():
            opened = [at for at, code in answers if code == 200]
            assert opened, f"{pod} never accepted the key: {answers[:3]}"
            assert answers[-1][1] == 401, f"{pod} answers {answers[-1]} at the end"
            other = {code for at, code in answers if code not in (200, 401)}
            assert not other, f"{pod} answered {other}"
            found[pod] = opened[-1] - self.revoked
        return found


@contextmanager
def former_key(cluster: Any, namespace: str, instance: str, key: str) -> Iterator[Refusal]:
    """Ask all pods of an instance with ``key`` twice a second while the context lasts."""
    found, stop = Refusal(), threading.Event()
    with ExitStack() as stack:
        command = [
            cluster.kubectl_path, "get", "secret", f"{instance}-mem0-key", "-n", namespace, "-w",
            "-o", r'jsonpath={.metadata.annotations}{"\n"}',
        ]  # fmt: skip
        watch = stack.enter_context(
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=cluster.environment)
        )
        stack.callback(watch.kill)
        threads = [threading.Thread(target=_see_revocation, args=(watch, found), daemon=True)]
        for component, (port, path) in ROUTES.items():
            selector = (
                f"app.kubernetes.io/instance={instance},app.kubernetes.io/component={component}"
            )
            for pod in cluster.items("pods", "-n", namespace, "-l", selector):
                name = pod["metadata"]["name"]
                url = stack.enter_context(cluster.port_forward(namespace, f"pod/{name}", port))
                found.answers[name] = []
                arguments = (url + path, key, found.answers[name], stop)
                threads.append(threading.Thread(target=_ask, args=arguments, daemon=True))
        for thread in threads:
            thread.start()
        try:
            cluster.wait_for(
                lambda: all(found.answers.values()), 30, lambda: f"not all answer: {found.answers}"
            )
            yield found
        finally:
            stop.set()
            for thread in threads[1:]:
                thread.join(15)


def _ask(url: str, key: str, answers: list[tuple[float, int]], stop: threading.Event) -> None:
    with httpx.Client(timeout=10, headers={"X-API-Key": key}) as client:
        while True:
            at = time.time()
            with contextlib.suppress(httpx.HTTPError):  # the way to the pod, not the pod's answer
                answers.append((at, client.get(url).status_code))
            if stop.wait(EVERY):
                return


def _see_revocation(watch: subprocess.Popen[str], found: Refusal) -> None:
    assert watch.stdout is not None
    for line in watch.stdout:
        notes = json.loads(line or "{}") if line.strip() else {}
        if notes.get(f"{PREFIX}/phase") == "Revoking":
            found.revoked = datetime.fromisoformat(notes[f"{PREFIX}/phase-since"]).timestamp()
