"""Pods of the app's image that do something else: a conversation with the app, for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("talker.py")


def helper(
    cluster: Any, namespace: str, instance: str, name: str, command: list[str]
) -> dict[str, Any]:
    """A pod with the image and the rights of an instance's app that runs a command."""
    deployment = cluster.get("deployment", f"{instance}-app", "-n", namespace)
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"helper": name}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": pod["securityContext"],
            "containers": [
                {
                    "name": name,
                    "image": container["image"],
                    "imagePullPolicy": "IfNotPresent",
                    "command": command,
                    "ports": [{"name": "http", "containerPort": 11434}],
                    "securityContext": container["securityContext"],
                    "volumeMounts": [{"name": "auth", "mountPath": "/run/secrets/key"}],
                }
            ],
            "volumes": [{"name": "auth", "secret": {"secretName": f"{instance}-auth"}}],
        },
    }


class Talk:
    """Ten conversations with an instance's app that go on by themselves, from a pod."""

    def __init__(
        self, cluster: Any, namespace: str, instance: str, word: str, *, seconds: float, rate: float
    ) -> None:
        """Begin them: ``rate`` messages a second in all, each beginning with ``word``."""
        self._cluster = cluster
        self._namespace = namespace
        self._pod = f"talker-{word}"
        url = f"http://{instance}-app:8000"
        arguments = [url, "/run/secrets/key/admin-key", word, str(seconds), str(rate)]
        command = ["python", "-c", SCRIPT.read_text(encoding="utf-8"), *arguments]
        cluster.apply(helper(cluster, namespace, instance, self._pod, command))

    def said(self) -> list[list[Any]]:
        """What came of each message so far; see ``talker.py``."""
        text = self._cluster.kubectl("logs", self._pod, "-n", self._namespace)
        return [json.loads(line) for line in text.splitlines() if line.startswith("[")]

    def until_begun(self, messages: int) -> None:
        """Wait for the outcome of more than so many messages."""
        cluster = self._cluster
        cluster.wait_for(self._runs, 60, lambda: f"the talker is {self._phase()}")
        cluster.wait_for(lambda: len(self.said()) > messages, 60, lambda: "nothing is said")

    def until_ended(self, limit: float) -> None:
        """Wait for the end of the pod."""
        self._cluster.wait_for(lambda: not self._runs(), limit, lambda: "the talker goes on")

    def _runs(self) -> bool:
        return self._phase() == "Running"

    def _phase(self) -> str:
        pod = self._cluster.get("pod", self._pod, "-n", self._namespace)
        return str(pod["status"]["phase"])
