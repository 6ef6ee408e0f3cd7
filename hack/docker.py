"""Questions to and builds with the Docker engine. Starting the engine is `engine`'s work."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from hack.cache import CACHE
from hack.process import Log, answer

CLASSIC = {"DOCKER_BUILDKIT": "0", "DOCKER_CLI_HINTS": "false"}
"""The builder that every Docker engine has: Debian's comes without BuildKit's client."""


def image_exists(reference: str) -> bool:
    """Whether the engine holds this image."""
    return image_id(reference) is not None


def image_id(reference: str) -> str | None:
    """The image's content id, or None when the engine does not hold it."""
    return answer("docker", "image", "inspect", "--format", "{{.Id}}", reference)


def container_state(name: str) -> str | None:
    """``running``, ``exited``, ...; None when there is no such container."""
    return answer("docker", "container", "inspect", "--format", "{{.State.Status}}", name)


def forget_old(repository: str, keep: int = 2) -> None:
    """Remove all but the newest builds of an image; those that a container uses stay."""
    listed = answer("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository)
    for old in (listed or "").splitlines()[keep:]:
        answer("docker", "image", "rm", old, limit=60)


def context(files: Iterable[tuple[str, Path]], extra: Mapping[str, bytes] | None = None) -> bytes:
    """A build context as a tar: ``(name inside, file)`` pairs and ``extra`` contents.

    Times and owners are fixed, so that the same contents hit the builder's cache.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:

        def add(name: str, content: bytes, mode: int) -> None:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), mode
            tar.addfile(info, io.BytesIO(content))

        for name, file in sorted(files):
            add(name, file.read_bytes(), 0o755 if file.stat().st_mode & 0o100 else 0o644)
        for name, content in sorted((extra or {}).items()):
            add(name, content, 0o644)
    return buffer.getvalue()


def build(
    log: Log,
    tag: str,
    source: Path | bytes,
    *,
    dockerfile: str = "Dockerfile",
    args: Mapping[str, str] | None = None,
    target: str = "",
) -> None:
    """Build an image from a folder or from a :func:`context`.

    Raises:
        CommandFailed: the build failed.
    """
    options: list[str] = ["--network", "host", "-t", tag]
    for name, value in (args or {}).items():
        options += ["--build-arg", f"{name}={value}"]
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"):
        options += ["--build-arg", name]
    if target:
        options += ["--target", target]
    if isinstance(source, Path):
        log.run("docker", "build", *options, "-f", source / dockerfile, source, env=CLASSIC)
        return
    with tempfile.NamedTemporaryFile(suffix=".tar", dir=CACHE) as file:
        file.write(source)
        file.flush()
        log.run(
            "docker", "build", *options, "-f", dockerfile, "-", env=CLASSIC, stdin=Path(file.name)
        )
