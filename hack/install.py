"""The release `metis` in the namespace `metis`: what `make up` installs, and how."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hack import images, pins, registry, tools
from hack.cache import ROOT, digest
from hack.cluster import NODE_PORT, Cluster, app_url
from hack.errors import ClusterUnavailable
from hack.process import Log

RELEASE = "metis"
NAMESPACE = "metis"
_LABEL = "metis-rag-contents"
"""A label on Helm's own record of the release: a digest of chart and values."""
_LIMIT = 900
Json = dict[str, Any]


def small_spec() -> Json:
    """The partial spec that fits a developer's machine: small models, small volumes, our images."""
    names = images.names(online=registry.online())
    small = {"size": "2Gi"}
    preload: Json = {"preload": {"image": names.models.name}} if names.models else {}
    return {
        "models": {"chat": pins.CHAT_MODEL, "embedding": pins.EMBEDDING_MODEL},
        "app": {
            "image": {"tag": names.app.tag},
            # A small model rambles: a short answer from few sources is the better one.
            "settings": {"CHAT_ANSWER_TOKENS": 160, "RETRIEVAL_LIMIT": 3},
        },
        "mem0": {"image": {"tag": names.mem0.tag}},
        "ollama": {"storage": small, **preload},
        "metisPostgres": {"storage": small},
        "mem0Postgres": {"storage": small},
    }


def operator_image() -> Json:
    """The operator's image, as values have it."""
    return {"tag": images.names(online=registry.online()).operator.tag}


def values() -> Json:
    """The values of `make up`."""
    return {
        "operator": {"image": operator_image(), "defaults": small_spec()},
        "instance": {"spec": {"app": {"service": {"type": "NodePort", "nodePort": NODE_PORT}}}},
    }


def contents(chart: Path, values: Mapping[str, Any]) -> str:
    """A digest of what would be installed."""
    parts = [
        chart / name for name in ("Chart.yaml", "Chart.lock", "values.yaml", "templates", "charts")
    ]
    return digest(*(p for p in parts if p.exists()), json.dumps(values, sort_keys=True))


def ensure(log: Log, cluster: Cluster) -> str:
    """Install or upgrade the release and wait until its MetisRAG is Ready; say what was done.

    Raises:
        CommandFailed: Helm refuses the chart or its values.
        ClusterUnavailable: the instance does not become Ready; the log tells its pods' state.
    """
    wanted = values()
    key = contents(ROOT, wanted)
    if _installed(cluster) == key:
        if _ready(cluster):
            return "already installed and Ready"
        _wait_ready(log, cluster)
        return "already installed; Ready again"
    _namespace(log, cluster)
    _clear_interrupted(log, cluster)
    log.note("helm upgrade --install")
    log.write(json.dumps(wanted, indent=1))
    helm: list[str | Path] = [
        tools.helm(log), "upgrade", "--install", RELEASE, ROOT, "-n", NAMESPACE,
        *cluster.helm_flags, "--labels", f"{_LABEL}={key}", "-f", "-",
    ]  # fmt: skip
    log.run(*helm, stdin=json.dumps(wanted).encode(), limit=300)
    _wait_ready(log, cluster)
    return "installed, Ready"


def _installed(cluster: Cluster) -> str | None:
    """The digest of the deployed release, if there is one."""
    return cluster.kubectl(
        "-n", NAMESPACE, "get", "secret", "-l", f"owner=helm,name={RELEASE},status=deployed",
        "-o", f"jsonpath={{.items[0].metadata.labels.{_LABEL}}}",
    )  # fmt: skip


def _ready(cluster: Cluster) -> bool:
    """Whether the MetisRAG is Ready, runs the images of this checkout, and answers.

    Its word alone is not enough. Images come by way of the operator's defaults, so right after an
    upgrade it is still Ready, of what it was before; and right after a reboot every status is
    that of before the reboot.
    """
    text = cluster.kubectl("-n", NAMESPACE, "get", "metisrags,deployments", "-o", "json")
    if not text:
        return False
    found = {(item["kind"], item["metadata"]["name"]): item for item in json.loads(text)["items"]}
    resource = found.get(("MetisRAG", RELEASE), {})
    names = images.names(online=registry.online())
    wanted = {"operator": names.operator, "app": names.app, "mem0": names.mem0}
    return (
        is_ready(resource)
        and all(
            is_rolled_out(found.get(("Deployment", f"{RELEASE}-{part}"), {}), image.name)
            for part, image in wanted.items()
        )
        and _answers(app_url(cluster))
    )


def _answers(url: str | None) -> bool:
    """Whether the app itself says that it is ready; taken for granted where no port leads to it."""
    if url is None:
        return True
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/api/ready", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def is_ready(resource: Mapping[str, Any]) -> bool:
    """Whether a MetisRAG says Ready of the spec that it has now."""
    status = resource.get("status", {})
    current = status.get("observedGeneration") == resource.get("metadata", {}).get("generation")
    ready = [c["status"] for c in status.get("conditions", []) if c["type"] == "Ready"]
    return current and ready == ["True"]


def is_rolled_out(deployment: Mapping[str, Any], image: str) -> bool:
    """Whether all pods of a Deployment are available, and of this image."""
    if not deployment:
        return False
    containers = deployment["spec"]["template"]["spec"]["containers"]
    status = deployment.get("status", {})
    wanted = deployment["spec"].get("replicas", 1)
    return (
        image in {container["image"] for container in containers}
        and status.get("observedGeneration") == deployment["metadata"]["generation"]
        and status.get("replicas", 0) == wanted
        and status.get("updatedReplicas", 0) == wanted
        and status.get("availableReplicas", 0) == wanted
    )


def _wait_ready(log: Log, cluster: Cluster) -> None:
    """Wait for the MetisRAG, saying what it waits for itself."""
    end = time.monotonic() + _LIMIT
    while not _ready(cluster):
        message = cluster.kubectl(
            "-n", NAMESPACE, "get", "metisrag", RELEASE,
            "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].message}',
        )  # fmt: skip
        log.note(message or "waiting for the operator")
        _check_operator(log, cluster)
        if time.monotonic() > end:
            for args in (["get", "events"], ["get", "metisrag,pods,pvc", "-o", "wide"]):
                log.write(cluster.kubectl("-n", NAMESPACE, *args) or "")
            raise ClusterUnavailable(
                f"the MetisRAG {NAMESPACE}/{RELEASE} is not Ready after {_LIMIT} s: "
                f"{message or 'the operator has not looked at it'}",
                f"`kubectl -n {NAMESPACE} describe metisrag {RELEASE}` tells what is in the way. "
                "A re-run waits on.",
                log.path,
            )
        time.sleep(1)


def _check_operator(log: Log, cluster: Cluster) -> None:
    """Fail at once when the operator itself cannot run: nobody would speak of it in a status."""
    selector = "app.kubernetes.io/name=metis-operator"
    text = cluster.kubectl("-n", NAMESPACE, "get", "pods", "-l", selector, "-o", "json")
    trouble = pod_trouble(json.loads(text)["items"]) if text else None
    if trouble:
        pod, reason = trouble
        for previous in (["--previous"], []):
            log.write(cluster.kubectl("-n", NAMESPACE, "logs", pod, "--tail=20", *previous) or "")
        raise ClusterUnavailable(
            f"the operator's pod {pod} does not run: {reason}",
            f"Its last words are below; `kubectl -n {NAMESPACE} describe pod {pod}` tells more.",
            log.path,
        )


def pod_trouble(pods: list[Json]) -> tuple[str, str] | None:
    """The first pod that keeps failing to start, and why; None when there is none."""
    for pod in pods:
        for container in pod.get("status", {}).get("containerStatuses", []):
            waiting = container.get("state", {}).get("waiting", {})
            reason = waiting.get("reason", "")
            crashes = reason == "CrashLoopBackOff" and container.get("restartCount", 0) >= 3
            if crashes or reason in (
                "ImagePullBackOff",
                "InvalidImageName",
                "CreateContainerError",
            ):
                return pod["metadata"]["name"], f"{reason}: {waiting.get('message', '')}".strip(
                    ": "
                )
    return None


def _namespace(log: Log, cluster: Cluster) -> None:
    """The namespace, enforcing the restricted Pod Security Standard."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": NAMESPACE,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    }
    log.run(
        tools.kubectl(log), *cluster.flags, "apply", "--server-side", "-f", "-",
        stdin=json.dumps(namespace).encode(),
    )  # fmt: skip


def _clear_interrupted(log: Log, cluster: Cluster) -> None:
    """Forget a Helm run that was killed: Helm refuses to work on a release it takes for busy."""
    for status in ("pending-install", "pending-upgrade", "pending-rollback"):
        selector = f"owner=helm,name={RELEASE},status={status}"
        cluster.kubectl("-n", NAMESPACE, "delete", "secret", "-l", selector)
