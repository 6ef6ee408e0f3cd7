"""Keeps all that the cluster tells while the end-to-end tests run, and every secret it makes.

Objects, their events and their states come from watches of the API server, so that what has gone
or was overwritten is kept too; logs and command lines from a script on the node; metrics are read
before their pods go. Secret values are held in memory only.
"""

from __future__ import annotations

import base64
import gzip
import json
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

SCRIPT = Path(__file__).with_name("node.sh")
OBJECTS = (
    "/api/v1/pods",
    "/api/v1/events",
    "/api/v1/configmaps",
    "/api/v1/services",
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/statefulsets",
    "/apis/batch/v1/jobs",
    "/apis/batch/v1/cronjobs",
    "/apis/metisrag.dev/v1alpha1/metisrags",
)
SECRETS = "/api/v1/secrets"
RELEASE = "helm.sh/release.v1"
OPEN = ("username", "admin-user", "keys.json", "tls.crt", "ca.crt", "namespace")
"""Ends of keys of Secrets that hold nothing secret: names, hashes, certificates."""
_AGAIN = 1.0


class Told:
    """What the cluster told, in files below ``folder``: objects, logs, words, metrics."""

    def __init__(self, kubeconfig: Path, node: str, folder: Path) -> None:
        self.folder = folder
        self.secrets: dict[str, str] = {}
        """Every secret value, and what it is."""
        self._node = node
        self._http = httpx.Client(**access(kubeconfig))
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, args=(path,), daemon=True)
            for path in (*OBJECTS, SECRETS)
        ]
        for part in ("objects", "metrics", "releases"):
            (folder / part).mkdir(parents=True)
        command = ["docker", "exec", "-i", node, "bash", "-c", SCRIPT.read_text(encoding="utf-8")]
        self._script = subprocess.Popen(command, stdin=subprocess.PIPE)
        for thread in self._threads:
            thread.start()

    def scrape(self, namespace: str | None = None) -> None:
        """Read the metrics of the product's pods that are ready; after the end, nothing."""
        if self._stopping.is_set():
            return
        path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
        query = {"labelSelector": "app.kubernetes.io/part-of=metis-rag"}
        for pod in self._http.get(path, params=query).raise_for_status().json()["items"]:
            meta = pod["metadata"]
            states = pod["status"].get("containerStatuses") or ()
            if not states or not all(s["ready"] for s in states):
                continue
            for container in pod["spec"]["containers"]:
                for port in container.get("ports") or ():
                    self._scrape(meta["namespace"], meta["name"], port)

    def stop(self) -> None:
        """End it, and bring the node's part here. To be called once more does nothing."""
        if self._stopping.is_set():
            return
        self.scrape()
        self._stopping.set()
        assert self._script.stdin is not None
        self._script.stdin.close()
        self._script.wait(30)
        self._http.close()
        pack = ["docker", "exec", self._node, "tar", "-C", "/var/log/told", "-cf", "-", "."]
        with subprocess.Popen(pack, stdout=subprocess.PIPE) as packed:
            subprocess.run(["tar", "-C", self.folder, "-xf", "-"], stdin=packed.stdout, check=True)
        # 1: a log has grown while it was read.
        assert packed.returncode in (0, 1), "the node's files could not be read"

    def _scrape(self, namespace: str, pod: str, port: Mapping[str, Any]) -> None:
        if port.get("name") not in ("http", "metrics"):
            return
        target = f"/api/v1/namespaces/{namespace}/pods/{pod}:{port['containerPort']}"
        answer = self._http.get(f"{target}/proxy/metrics")
        if answer.status_code == 200:
            file = self.folder / "metrics" / f"{namespace}_{pod}_{port['containerPort']}"
            file.write_text(answer.text, encoding="utf-8")

    def _watch(self, path: str) -> None:
        keep = self._keep_secret if path == SECRETS else self._keep_object
        query = {"watch": "true", "timeoutSeconds": "10000"}
        while not self._stopping.is_set():
            try:
                with self._http.stream("GET", path, params=query) as answer:
                    if answer.status_code == 200:
                        for line in answer.iter_lines():
                            if line:
                                keep(path, line)
            except (httpx.HTTPError, RuntimeError):
                pass  # The API server was away, or this is the end.
            self._stopping.wait(_AGAIN)

    def _keep_object(self, path: str, line: str) -> None:
        with (self.folder / "objects" / Path(path).name).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _keep_secret(self, _: str, line: str) -> None:
        secret = json.loads(line)["object"]
        meta, data = secret.get("metadata") or {}, secret.get("data") or {}
        if str(meta.get("namespace")).startswith("kube-"):
            return  # not ours
        name = f"{meta.get('namespace')}/{meta.get('name')}"
        if secret.get("type") == RELEASE:
            content = gzip.decompress(base64.b64decode(base64.b64decode(data["release"])))
            (self.folder / "releases" / name.replace("/", "_")).write_bytes(content)
            return
        for key, encoded in data.items():
            if not key.endswith(OPEN):
                value = base64.b64decode(encoded).decode(errors="replace")
                self.secrets.setdefault(value, f"{name} {key}")
        notes = {k: v for k, v in (meta.get("annotations") or {}).items() if "kubectl" not in k}
        self._keep_object("secrets", json.dumps({"name": name, "annotations": notes}))


def access(kubeconfig: Path) -> dict[str, Any]:
    """Address and credentials of the API server, for an HTTP client."""
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    text = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=text)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        for part in ("client-certificate-data", "client-key-data"):
            file.write(base64.b64decode(user[part]))
        file.flush()
        context.load_cert_chain(file.name)
    limits = httpx.Limits(max_connections=50)
    timeout = httpx.Timeout(20, read=None)
    return {
        "base_url": cluster["server"], "verify": context, "limits": limits, "timeout": timeout,
        "trust_env": False,
    }  # fmt: skip
