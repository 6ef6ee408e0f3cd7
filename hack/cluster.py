"""The kind cluster: made, adopted, started again after a reboot, and filled with images."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack import audit, docker, engine, node_image, pins, tools
from hack.cache import CACHE, digest
from hack.errors import ClusterUnavailable, CommandFailed
from hack.images import Image
from hack.process import Log, answer

NODE_PORT = 30080
"""The app's port on the node."""
FIRST_PORT = 8000
_READY_LIMIT = 180.0
_BEYOND_REPAIR = (
    "If the cluster is beyond repair, `make down` and `make up` make a new one; its data is lost "
    "then."
)


@dataclass(frozen=True)
class Cluster:
    """A kind cluster by name; ``kubeconfig`` None is the user's default one."""

    name: str
    kubeconfig: Path | None = None

    @property
    def node(self) -> str:
        """The container that is its only node."""
        return f"{self.name}-control-plane"

    @property
    def is_for_tests(self) -> bool:
        """Whether nothing in it is of worth, and its API server keeps an audit log."""
        return self.name == TESTS

    @property
    def context(self) -> str:
        """The name of its context."""
        return f"kind-{self.name}"

    @property
    def flags(self) -> list[str]:
        """What points kubectl at it."""
        return [*self.file_flags, "--context", self.context]

    @property
    def helm_flags(self) -> list[str]:
        """What points Helm at it."""
        return [*self.file_flags, "--kube-context", self.context]

    @property
    def file_flags(self) -> list[str]:
        """What points kind, kubectl and Helm at its credentials."""
        return ["--kubeconfig", str(self.kubeconfig)] if self.kubeconfig else []

    def kubectl(self, *args: str, limit: float = 30.0) -> str | None:
        """What kubectl answers; None when it fails."""
        return answer(tools.kubectl(), *self.flags, *args, limit=limit)


DEFAULT = Cluster("metis")
"""The cluster of `make up`, in the user's own kubeconfig."""
TESTS = "metis-test"
"""The name of the cluster of the end-to-end tests."""


def named(name: str, kubeconfig: Path | None = None) -> Cluster:
    """The cluster of that name; but for the default one, its credentials lie in the cache."""
    if kubeconfig is None and name != DEFAULT.name:
        kubeconfig = CACHE / f"{name}.kubeconfig"
    return Cluster(name, kubeconfig)


def ensure(log: Log, cluster: Cluster, *, port: int | None, online: bool) -> str:
    """Have the cluster run and answer; say how it came to.

    Args:
        port: the port on 127.0.0.1 that leads to :data:`NODE_PORT`; None for no such port, and the
            next free one is taken when it is in use. Set for good when the cluster is made.
        online: whether a node image can be pulled.

    Raises:
        ClusterUnavailable: it does not start or become ready.
        CommandFailed: kind failed.
    """
    state = docker.container_state(cluster.node)
    unusable = None if state is None else _adopt(log, cluster, state)
    if unusable:
        log.note(f"removing a cluster {unusable}")
        log.run(tools.kind(log), "delete", "cluster", "--name", cluster.name, *cluster.file_flags)
        state = None
    if state is None:
        _create(log, cluster, port, online=online)
        _wait_ready(log, cluster)
    finished = f"echo {_kind_of(cluster)} > {_FINISHED}"
    log.run("docker", "exec", cluster.node, "sh", "-c", finished)
    if state is None:
        return "created"
    return "already runs" if state == "running" else "started again"


def delete(log: Log, cluster: Cluster) -> str:
    """Delete the cluster with everything in it; say whether there was one."""
    if docker.container_state(cluster.node) is None:
        return "there is none"
    log.run(tools.kind(log), "delete", "cluster", "--name", cluster.name, *cluster.file_flags)
    if cluster.kubeconfig:
        cluster.kubeconfig.unlink(missing_ok=True)
    return "deleted"


def app_url(cluster: Cluster) -> str | None:
    """Where the app of a NodePort instance is reached from this machine; None without a port."""
    mapped = answer("docker", "port", cluster.node, f"{NODE_PORT}/tcp")
    return f"http://{mapped.splitlines()[0]}" if mapped else None


def load(log: Log, cluster: Cluster, images: list[Image]) -> str:
    """Bring images into the node, those that it does not have; say how many.

    Raises:
        CommandFailed: an image could not be read or imported.
    """
    ctr = ["docker", "exec", "-i", cluster.node, "ctr", "-n", "k8s.io", "images"]
    there = set((answer(*ctr, "ls", "-q", limit=60) or "").split())
    missing = [image for image in images if canonical(image.local) not in there]
    if missing:
        log.note(f"loading {len(missing)} images")
        log.write("\n".join(image.name for image in missing))
        log.pipe(["docker", "save", *(image.local for image in missing)], [*ctr, "import", "-"])
    for image in images:
        wanted = canonical(image.name)
        if image.local != image.name and (image in missing or wanted not in there):
            log.run(*ctr, "tag", "--force", canonical(image.local), wanted)
    return f"{len(missing)} of {len(images)} loaded" if missing else "already there"


def settle(log: Log, cluster: Cluster) -> None:
    """Wait until the cluster's own services work. Loading images needs none of them.

    Raises:
        ClusterUnavailable: they do not become ready.
    """
    for what, namespace, name in (
        ("the DNS", "kube-system", "coredns"),
        ("storage", "local-path-storage", "local-path-provisioner"),
    ):
        _wait_for(log, cluster, what, "rollout", "status", f"deployment/{name}", "-n", namespace)


def canonical(name: str) -> str:
    """An image's full name, as containerd keeps it: with registry and library folder."""
    head, _, rest = name.partition("/")
    if not rest:
        return f"docker.io/library/{name}"
    return name if "." in head or ":" in head or head == "localhost" else f"docker.io/{name}"


def description(cluster: Cluster, image: str, port: int | None, *, lacks_cap: bool) -> str:
    """kind's description of the cluster, as JSON (which is YAML).

    Args:
        image: the node image.
        port: the port on 127.0.0.1 that leads to the app, if any.
        lacks_cap: the machine lacks CAP_SYS_RESOURCE.
    """
    node: dict[str, Any] = {"role": "control-plane", "image": image}
    if port is not None:
        node["extraPortMappings"] = [
            {"containerPort": NODE_PORT, "hostPort": port, "listenAddress": "127.0.0.1"}
        ]
    if cluster.is_for_tests:
        node |= audit.node_config()
    config: dict[str, Any] = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": cluster.name,
        "nodes": [node],
    }
    if lacks_cap:
        # The kubelet goes on where it may not raise its own limits, and containerd does not ask
        # for scores that it may not set. Built node images have the latter already.
        config["featureGates"] = {"KubeletInUserNamespace": True}
        if image == pins.KINDEST_NODE:
            config["containerdConfigPatches"] = [
                '[plugins."io.containerd.cri.v1.runtime"]\nrestrict_oom_score_adj = true'
            ]
    return json.dumps(config, indent=1)


def free_port(first: int, count: int = 20) -> int:
    """The first of ``count`` ports on 127.0.0.1 that nobody listens on.

    Raises:
        ClusterUnavailable: all are taken.
    """
    for port in range(first, first + count):
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ClusterUnavailable(
        f"the ports {first} to {first + count - 1} on 127.0.0.1 are all in use",
        "Choose another: `make up PORT=9000`.",
    )


_FINISHED = "/kind/metis-rag-finished"


def _kind_of(cluster: Cluster) -> str:
    """What tells a cluster made by another description, on the same machine, from this one."""
    text = description(cluster, "", None, lacks_cap=False)
    return digest(text, json.dumps(audit.policy() if cluster.is_for_tests else None))


def _adopt(log: Log, cluster: Cluster, state: str) -> str | None:
    """Have a cluster that is there run and answer, or say why it is to be removed.

    Returns:
        The end of a sentence about it; None when it answers.

    Raises:
        ClusterUnavailable: it does not start or become ready, and its data may be of worth.
        CommandFailed: kind failed.
    """
    try:
        if state != "running":
            _start_again(log, cluster)
        if _half_made(cluster, log):
            return "whose making was interrupted"
        if cluster.is_for_tests:
            made_as = answer("docker", "exec", cluster.node, "cat", _FINISHED)
            if (made_as or "").strip() != _kind_of(cluster):
                return "of the tests that was made in another way"
        if cluster.kubectl("get", "--raw", "/readyz", limit=5) is None:
            log.run(
                tools.kind(log), "export", "kubeconfig", "--name", cluster.name, *cluster.file_flags
            )
        _wait_ready(log, cluster)
    except ClusterUnavailable as error:
        if not cluster.is_for_tests:
            raise
        log.write(error.what)
        return "of the tests that does not work any more"
    return None


def _start_again(log: Log, cluster: Cluster) -> None:
    log.note("starting the node again")
    try:
        log.run("docker", "start", cluster.node)
    except CommandFailed as error:
        raise ClusterUnavailable(
            f"the node of the cluster {cluster.name} does not start again",
            f"{error.todo} {_BEYOND_REPAIR}",
            log.path,
        ) from error


def _half_made(cluster: Cluster, log: Log) -> bool:
    """Whether kind was interrupted while it made this cluster: nothing of worth can be in it."""
    inside = ["docker", "exec", cluster.node]
    if answer(*inside, "test", "-e", _FINISHED) is not None:
        return False
    log.write(f"{cluster.node} has no {_FINISHED}")
    # Made by hand, or by an interrupted run: only what never got a storage class is removed.
    if answer(*inside, "test", "-e", "/etc/kubernetes/admin.conf") is None:
        return True
    storage = [
        *inside,
        "kubectl",
        "--kubeconfig",
        "/etc/kubernetes/admin.conf",
        "get",
        "sc",
        "standard",
    ]
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if answer(*storage) is not None:
            return False
        time.sleep(2)
    return True


def _create(log: Log, cluster: Cluster, port: int | None, *, online: bool) -> None:
    if cluster.is_for_tests:
        audit.write()
    image = pins.KINDEST_NODE if online else node_image.tag()
    chosen = None if port is None else free_port(port)
    text = description(cluster, image, chosen, lacks_cap=engine.host_lacks_sys_resource())
    log.note(f"creating the cluster {cluster.name}")
    log.write(text)
    if cluster.kubeconfig:
        cluster.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    log.run(
        tools.kind(log), "create", "cluster", "--config", "-", "--wait", "0s", *cluster.file_flags,
        stdin=text.encode(), limit=600,
    )  # fmt: skip


def _wait_ready(log: Log, cluster: Cluster) -> None:
    """Wait until the API server answers and the node is ready."""
    end = time.monotonic() + _READY_LIMIT
    log.note("waiting for the API server")
    while cluster.kubectl("get", "--raw", "/readyz", limit=5) is None:
        if time.monotonic() > end:
            log.write(answer("docker", "logs", "--tail", "40", cluster.node) or "")
            raise ClusterUnavailable(
                f"the API server of {cluster.name} does not answer after {_READY_LIMIT:.0f} s",
                f"See `docker logs {cluster.node}`. {_BEYOND_REPAIR}",
            )
        time.sleep(0.5)
    _wait_for(log, cluster, "the node", "wait", "--for=condition=Ready", "node", "--all")


def _wait_for(log: Log, cluster: Cluster, what: str, *args: str) -> None:
    log.note(f"waiting for {what}")
    try:
        log.run(tools.kubectl(log), *cluster.flags, *args, f"--timeout={_READY_LIMIT:.0f}s")
    except CommandFailed as error:
        log.write(cluster.kubectl("get", "nodes,pods", "-A", "-o", "wide") or "")
        raise ClusterUnavailable(
            f"{what} of the cluster {cluster.name} did not become ready in time",
            "The log shows nodes and pods. A re-run waits on; `make down` and `make up` make a "
            "new cluster, without the old one's data.",
            log.path,
        ) from error
