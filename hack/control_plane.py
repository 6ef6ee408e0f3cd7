"""etcd and kube-apiserver as plain programs: the API server of the component tests."""

from __future__ import annotations

import shutil

from hack import pins
from hack.cache import CACHE, made_whole
from hack.gobuild import built
from hack.kubernetes import ETCD, KUBERNETES
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
        for name, image in _IMAGES.items():
            if online:
                container = log.output("docker", "create", image).strip().splitlines()[-1]
                log.run("docker", "cp", f"{container}:/usr/local/bin/{name}", draft / name)
                log.run("docker", "rm", container)
            elif name == "etcd":
                shutil.copy2(next(built(log, ETCD).iterdir()), draft / name)
            else:
                shutil.copy2(built(log, KUBERNETES) / name, draft / name)
    return f"in {FOLDER}"
