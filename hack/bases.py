"""Base images from Debian's packages, with the contract of the published ones.

Used where no image registry answers. Each has a tag made from its recipe, so an image that is
there is right; nothing takes a published image's name in the Docker engine.
"""

from __future__ import annotations

import os
import platform
import shutil
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hack import docker
from hack.cache import CACHE, RECIPES, digest
from hack.errors import CommandFailed, HackError, ToolMissing, Unsupported
from hack.process import Log

DEBIAN_INCLUDE = "ca-certificates"
_TRIM = (
    "var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale",
    "usr/share/info", "var/log",
)  # fmt: skip
NODE_SUITE = "bookworm"
"""Its systemd 252 is the newest in Debian that runs on hosts with cgroup v1."""
APP_SUITE = "trixie"
"""It has Python 3.13, and a pgvector with HNSW indexes for PostgreSQL 17."""


def debian_tag(suite: str) -> str:
    """The tag of the minimal Debian image of a suite."""
    return f"metis-rag/debian:{suite}-{digest(suite, DEBIAN_INCLUDE, *_TRIM)}"


def debian(log: Log, suite: str) -> str:
    """The tag of a minimal Debian image, made with debootstrap when it is not there.

    Raises:
        Unsupported: not root, or not Linux on x86-64.
        ToolMissing: no debootstrap.
    """
    tag = debian_tag(suite)
    if docker.image_exists(tag):
        return tag
    if os.geteuid() != 0 or platform.system() != "Linux" or platform.machine() != "x86_64":
        raise Unsupported(
            "no image registry answers, and this machine cannot build the base images itself",
            "Give the machine access to an image registry, or run this as root on Debian or "
            "Ubuntu on x86-64.",
        )
    install(log, "debootstrap")
    log.note(f"making a Debian {suite} base")
    # Not in /tmp, which may be small, or mounted such that debootstrap refuses it.
    with tempfile.TemporaryDirectory(dir=CACHE, ignore_cleanup_errors=True) as work:
        root = Path(work) / "root"
        command = ["debootstrap", "--variant=minbase", f"--include={DEBIAN_INCLUDE}", suite]
        mirror = os.environ.get("METIS_DEBIAN_MIRROR")
        try:
            log.run(*command, root, *([mirror] if mirror else []))
        except CommandFailed:
            if (details := root / "debootstrap" / "debootstrap.log").is_file():
                log.write(details.read_text(errors="replace"))
            raise
        for part in _TRIM:
            for entry in (root / part).glob("*"):
                _remove(entry)
        (root / "var/lib/apt/lists/partial").mkdir(parents=True, exist_ok=True)
        (root / "var/cache/apt/archives/partial").mkdir(parents=True, exist_ok=True)
        log.pipe(["tar", "-C", root, "-c", "."], ["docker", "import", "-", tag])
    return tag


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()


def install(log: Log, *packages: str) -> None:
    """Install Debian packages on this machine unless their programs are there.

    Raises:
        ToolMissing: they are not there, and this is not root on Debian.
    """
    if all(shutil.which(package, path=_SBIN_TOO) for package in packages):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ToolMissing(
            f"{' and '.join(packages)} not found",
            f"Install {' and '.join(packages)} with your package manager, then run this again.",
        )
    log.note(f"installing {' '.join(packages)}")
    apt = {"DEBIAN_FRONTEND": "noninteractive"}
    log.run("apt-get", "update", "-qq", env=apt)
    log.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages, env=apt)


_SBIN_TOO = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def tag(name: str) -> str:
    """The tag of a stand-in: ``python`` for ``python:3.13-slim``, ``postgres`` for
    ``pgvector/pgvector`` on PostgreSQL 17.
    """
    parts = [part for item in sorted(_extra(name).items()) for part in item]
    return f"metis-rag/{name}:{digest(RECIPES / name, debian_tag(APP_SUITE), *parts)}"


def stand_in(log: Log, name: str) -> str:
    """The tag of a stand-in (see :func:`tag`), built on first use.

    Raises:
        CommandFailed: a package could not be fetched.
    """
    image, recipe = tag(name), RECIPES / name
    if not docker.image_exists(image):
        base = debian(log, APP_SUITE)
        log.note(f"building the {name} base image")
        files = [(str(f.relative_to(recipe)), f) for f in recipe.rglob("*") if f.is_file()]
        docker.build(log, image, docker.context(files, _extra(name)), args={"DEBIAN": base})
        docker.forget_old(image.split(":")[0])
    return image


def _extra(name: str) -> Mapping[str, bytes]:
    """What an image gets from this machine: packages are fetched while our images are built."""
    return {"ca-certificates.crt": host_certificates().read_bytes()} if name == "python" else {}


def host_certificates() -> Path:
    """The bundle of certificates that this machine trusts.

    Raises:
        HackError: there is none.
    """
    places = (
        os.environ.get("SSL_CERT_FILE"),
        "/etc/ssl/certs/ca-certificates.crt",
        ssl.get_default_verify_paths().cafile,
    )
    for place in places:
        if place and Path(place).is_file():
            return Path(place)
    raise HackError("this machine has no bundle of CA certificates", "Install ca-certificates.")
