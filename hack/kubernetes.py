"""The programs of a Kubernetes node, compiled from the Go module proxy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hack import pins
from hack.cache import RECIPES
from hack.gobuild import Program, built
from hack.process import Log

_MINOR = pins.KUBERNETES.split(".")[1]
_VERSION = {
    "gitVersion": f"v{pins.KUBERNETES}",
    "gitMajor": "1",
    "gitMinor": _MINOR,
    "gitTreeState": "clean",
    "gitCommit": "local",
    "buildDate": "2026-01-01T00:00:00Z",
}

# kubeadm and the API server refuse a version of v0.0.0, which is what they are without these.
KUBERNETES = Program(
    "kubernetes",
    "k8s.io/kubernetes",
    f"v{pins.KUBERNETES}",
    tuple(
        f"k8s.io/kubernetes/cmd/{name}"
        for name in (
            "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet",
            "kube-proxy", "kubectl", "kubeadm",
        )
    ),
    {
        f"{package}.{name}": value
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for name, value in _VERSION.items()
    },
    staging=f"v0.{pins.KUBERNETES.removeprefix('1.')}",
)  # fmt: skip
ETCD = Program("etcd", "go.etcd.io/etcd/server/v3", f"v{pins.ETCD}", ("go.etcd.io/etcd/server/v3",))
COREDNS = Program(
    "coredns",
    "github.com/coredns/coredns",
    f"v{pins.COREDNS}",
    source=(RECIPES / "node" / "coredns.go").read_text(),
)
LOCAL_PATH = Program(
    "local-path-provisioner",
    "github.com/rancher/local-path-provisioner",
    f"v{pins.LOCAL_PATH}",
    ("github.com/rancher/local-path-provisioner",),
)
PAUSE = Program("pause", "", "v1", source=(RECIPES / "node" / "pause.go").read_text())
KIND = Program("kind", "sigs.k8s.io/kind", f"v{pins.KIND}", ("sigs.k8s.io/kind",))


@dataclass(frozen=True)
class Programs:
    """Where the compiled programs lie."""

    kubernetes: Path
    etcd: Path
    coredns: Path
    local_path: Path
    pause: Path


def compiled(log: Log) -> Programs:
    """Compile everything a node needs, or find it compiled (about 8 minutes the first time)."""
    folder = built(log, KUBERNETES)
    return Programs(
        kubernetes=folder,
        etcd=only_file(built(log, ETCD)),
        coredns=only_file(built(log, COREDNS)),
        local_path=only_file(built(log, LOCAL_PATH)),
        pause=only_file(built(log, PAUSE)),
    )


def only_file(folder: Path) -> Path:
    """The program in the folder of a build that makes just one."""
    return next(f for f in folder.iterdir() if f.is_file())
