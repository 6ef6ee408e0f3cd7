"""kind's node image where no image registry answers: built from Debian and the Go module proxy."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from hack import docker, pins
from hack.bases import NODE_SUITE, debian
from hack.cache import RECIPES, digest
from hack.errors import CommandFailed
from hack.gobuild import downloaded
from hack.kubernetes import KIND, Programs, compiled
from hack.process import Log, answer

_RECIPE = RECIPES / "node"
_PREPARING = "metis-rag-node-preparing"
_EMPTY = "metis-rag/node:empty"


def tag() -> str:
    """The tag of the node image, made from its recipe and versions."""
    key = digest(
        _RECIPE, pins.KUBERNETES, pins.KIND, pins.ETCD, pins.COREDNS,
        pins.LOCAL_PATH, NODE_SUITE,
    )  # fmt: skip
    return f"metis-rag/node:v{pins.KUBERNETES}-{key}"


def ensure(log: Log) -> str:
    """The tag of the node image, built on first use.

    Raises:
        CommandFailed: something could not be fetched, or does not compile.
    """
    image = tag()
    if docker.image_exists(image):
        return image
    base = debian(log, NODE_SUITE)
    programs = compiled(log)
    kind = Path(downloaded(log, KIND.module, KIND.version)["Dir"])
    storage = _Storage(kind)
    listed = log.output(
        programs.kubernetes / "kubeadm", "config", "images", "list",
        "--kubernetes-version", f"v{pins.KUBERNETES}",
    ).splitlines()  # fmt: skip
    names = {line.rsplit("/", 1)[1].split(":")[0]: line for line in listed}
    parts = _build_parts(log, base, names, programs, storage)
    _build_empty_node(log, base, names["pause"], programs, kind, storage)
    _fill(log, image, parts)
    # The engine keeps the finished image only: the parts are inside it.
    for done in (_EMPTY, *(part.tag for part in parts)):
        answer("docker", "image", "rm", done, limit=60)
    docker.forget_old(image.split(":")[0])
    return image


class _Storage:
    """kind's default storage, as its source describes it: the manifest and two image names."""

    def __init__(self, kind: Path) -> None:
        text = (kind / "pkg/build/nodeimage/const_storage.go").read_text()
        self.provisioner = self._constant(text, "storageProvisionerImage")
        self.helper = self._constant(text, "storageHelperImage")
        found = re.search(r"const defaultStorageManifest = `(.*)`\s*$", text, re.DOTALL)
        if not found:
            raise LookupError("this version of kind describes its storage in another way")
        manifest = found.group(1)
        for name in ("storageProvisionerImage", "storageHelperImage"):
            manifest = manifest.replace(f"` + {name} + `", self._constant(text, name))
        self.manifest = manifest

    @staticmethod
    def _constant(text: str, name: str) -> str:
        found = re.search(rf'^const {name} = "(.*)"', text, re.MULTILINE)
        if not found:
            raise LookupError(f"this version of kind has no {name}")
        return found.group(1)


@dataclass(frozen=True)
class _Part:
    """An image inside the node: its name there, what it is made from, its program and where."""

    name: str
    base: str
    program: Path
    place: str
    entrypoint: bool = False

    @property
    def tag(self) -> str:
        """Its name in the Docker engine, while the node image is made."""
        return f"metis-rag/part:{self.name.rsplit('/', 1)[1].replace(':', '-')}"

    @property
    def canonical(self) -> str:
        """Its full name: containerd does not add Docker's registry by itself."""
        host = self.name.split("/")[0]
        return self.name if "." in host else f"docker.io/{self.name}"


def _parts(
    base: str, network: str, names: dict[str, str], programs: Programs, storage: _Storage
) -> list[_Part]:
    folder, here = programs.kubernetes, "/usr/local/bin"
    return [
        *(
            _Part(names[name], "scratch", folder / name, f"{here}/{name}")
            for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
        ),
        _Part(names["kube-proxy"], network, folder / "kube-proxy", f"{here}/kube-proxy"),
        _Part(names["etcd"], "scratch", programs.etcd, f"{here}/etcd"),
        # These two are started without a command.
        _Part(names["coredns"], "scratch", programs.coredns, "/coredns", entrypoint=True),
        _Part(names["pause"], "scratch", programs.pause, "/pause", entrypoint=True),
        _Part(storage.provisioner, base, programs.local_path, f"{here}/local-path-provisioner"),
        # Runs shell scripts; a program of its own does no harm.
        _Part(storage.helper, base, programs.pause, "/pause"),
    ]


def _build_parts(
    log: Log, base: str, names: dict[str, str], programs: Programs, storage: _Storage
) -> list[_Part]:
    log.note("building the images of the control plane")
    text = (_RECIPE / "Dockerfile.network").read_bytes()
    network = f"metis-rag/network:{digest(text, base)}"
    docker.build(log, network, docker.context([], {"Dockerfile": text}), args={"DEBIAN": base})
    parts = _parts(base, network, names, programs, storage)
    recipe = (_RECIPE / "Dockerfile.component").read_text()
    for part in parts:
        entry = f'ENTRYPOINT ["{part.place}"]\n' if part.entrypoint else ""
        context = docker.context(
            [("program", part.program)], {"Dockerfile": (recipe + entry).encode()}
        )
        docker.build(log, part.tag, context, args={"BASE": part.base, "PLACE": part.place})
    return parts


def _build_empty_node(
    log: Log, base: str, pause: str, programs: Programs, kind: Path, storage: _Storage
) -> None:
    log.note("building the node image")
    files = kind / "images/base/files"
    context = [(f"files/{f.relative_to(files)}", f) for f in files.rglob("*") if f.is_file()]
    context += [(name, programs.kubernetes / name) for name in ("kubelet", "kubeadm", "kubectl")]
    context += [(name, _RECIPE / name) for name in ("Dockerfile", "bridge.conflist")]
    # kind applies a network manifest; the one network of a single node is the static bridge.
    network = (
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: static-bridge, namespace: kube-system}}"
    )
    extra = {
        "manifests/default-storage.yaml": storage.manifest.encode(),
        "manifests/default-cni.yaml": network.encode(),
    }
    args = {"DEBIAN": base, "VERSION": f"v{pins.KUBERNETES}", "PAUSE": pause}
    docker.build(log, _EMPTY, docker.context(context, extra), args=args)


def _fill(log: Log, image: str, parts: list[_Part]) -> None:
    """Import the component images into the node's containerd, and commit the result."""
    log.note("putting the control plane's images into the node image")
    answer("docker", "rm", "-f", _PREPARING, limit=60)
    log.run(
        "docker", "run", "-d", "--privileged", "--network", "none", "--name", _PREPARING,
        "--entrypoint", "sleep", _EMPTY, "infinity",
    )  # fmt: skip
    try:
        inside = ["docker", "exec", _PREPARING]
        log.run("docker", "exec", "-d", _PREPARING, "containerd")
        end = time.monotonic() + 60
        while answer(*inside, "ctr", "version") is None:
            if time.monotonic() > end:
                raise CommandFailed(
                    "containerd did not start inside the node image",
                    "See its messages with `docker logs`; check that the Docker engine may run "
                    "privileged containers.",
                )
            time.sleep(0.3)
        ctr = [*inside, "ctr", "-n", "k8s.io", "images"]
        load = ["docker", "exec", "-i", _PREPARING, "ctr", "-n", "k8s.io", "images", "import"]
        tags = [part.tag for part in parts]
        log.pipe(["docker", "save", *tags], [*load, "--no-unpack", "-"])
        for part in parts:
            log.run(*ctr, "tag", f"docker.io/{part.tag}", part.canonical)
            log.run(*ctr, "rm", f"docker.io/{part.tag}")
        log.run(
            *inside, "sh", "-c",
            "kill $(pidof containerd); while pidof containerd >/dev/null; do sleep 0.2; done; "
            "rm -rf /run/containerd/*",
        )  # fmt: skip
        log.run(
            "docker", "commit", "--change",
            'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]', _PREPARING, image,
        )  # fmt: skip
    finally:
        answer("docker", "rm", "-f", _PREPARING, limit=60)
