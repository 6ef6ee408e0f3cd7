"""etcd and kube-apiserver as plain programs: the API server of the component tests."""

from __future__ import annotations

import shutil
from pathlib import Path

from hack import pins
from hack.cache import CACHE, made_whole
from hack.gobuild import built
from hack.kubernetes import ETCD, KUBERNETES, only_file
from hack.process import Log

FOLDER = CACHE / "control-plane" / f"v{pins.KUBERNETES}"
"""Holds ``etcd`` and ``kube-apiserver`` once :func:`ensure` has run."""

_REGISTRY = "registry.k8s.io"
_IMAGES = {
    "kube-apiserver": f"{_REGISTRY}/kube-apiserver:v{pins.KUBERNETES}",
    "etcd": f"{_REGISTRY}/etcd:{pins.ETCD}-0",
}


def ensure(log: Log, *, online: bool) -> str:
    """Copy the programs out of their published images, or compile them; say where they are.

    Raises:
        CommandFailed: they could be neither fetched nor compiled.
    """
    if FOLDER.is_dir():
        return f"in {FOLDER}"
    with made_whole(FOLDER) as draft:
        (_copy_published if online else _compile)(log, draft)
    return f"in {FOLDER}"


def _copy_published(log: Log, folder: Path) -> None:
    for name, image in _IMAGES.items():
        container = log.output("docker", "create", image).splitlines()[-1]
        log.run("docker", "cp", f"{container}:/usr/local/bin/{name}", folder / name)
        log.run("docker", "rm", container)


def _compile(log: Log, folder: Path) -> None:
    shutil.copy2(only_file(built(log, ETCD)), folder / "etcd")
    shutil.copy2(built(log, KUBERNETES) / "kube-apiserver", folder / "kube-apiserver")
