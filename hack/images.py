"""The project's own images: built when their contents changed, tagged by what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hack import bases, docker, models, ollama, pins
from hack.cache import ROOT, digest
from hack.process import Log

REPOSITORY = "ghcr.io/metis-rag"
_SKIPPED = {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".DS_Store"}
_KEEP = 3
"""Builds of an image that stay in the engine: going back to one costs nothing."""


@dataclass(frozen=True)
class Own:
    """An image built from this project.

    Attributes:
        name: last part of the repository.
        dockerfile: relative to the project's root.
        target: the stage to build; the last one when empty.
    """

    name: str
    dockerfile: str
    target: str = ""

    @property
    def repository(self) -> str:
        """The image's name without its tag."""
        return f"{REPOSITORY}/{self.name}"


OWN = (
    Own("app", "app/Dockerfile", "production"),
    Own("mem0", "mem0_server/Dockerfile"),
    Own("operator", "operator/Dockerfile"),
)


@dataclass(frozen=True)
class Image:
    """An image to load into a cluster: its name in the engine, and the name the cluster uses."""

    local: str
    name: str

    @property
    def tag(self) -> str:
        """The tag the cluster uses."""
        return self.name.rsplit(":", 1)[1]


@dataclass(frozen=True)
class Images:
    """All images of the system; ``models`` is None where Ollama pulls its models."""

    app: Image
    mem0: Image
    operator: Image
    postgres: Image
    ollama: Image
    models: Image | None

    def all(self) -> list[Image]:
        """Every image, to load."""
        images = [self.postgres, self.ollama, self.models, self.operator, self.mem0, self.app]
        return [image for image in images if image]


def names(*, online: bool) -> Images:
    """Which images this checkout needs; builds and pulls nothing."""
    own = {image.name: _same(own_tag(image, online=online)) for image in OWN}
    server = pins.OLLAMA_IMAGE if online else ollama.tag()
    return Images(
        **own,
        postgres=Image(
            pins.POSTGRES_IMAGE if online else bases.tag("postgres"), pins.POSTGRES_IMAGE
        ),
        ollama=Image(server, pins.OLLAMA_IMAGE),
        models=None if online else _same(models.tag(server)),
    )


def ensure_base(log: Log, *, online: bool) -> str:
    """Have the base of our images; say how it came."""
    return _outcome(log, pins.PYTHON_IMAGE, "python", online=online)


def ensure_postgres(log: Log, *, online: bool) -> str:
    """Have PostgreSQL with pgvector; say how it came."""
    return _outcome(log, pins.POSTGRES_IMAGE, "postgres", online=online)


def ensure_ollama(log: Log, *, online: bool) -> str:
    """Have Ollama; say how it came."""
    if online:
        return _pulled(log, pins.OLLAMA_IMAGE)
    there = docker.image_exists(ollama.tag())
    return f"{'already there' if there else 'compiled'}: {ollama.stand_in(log)}"


def ensure_models(log: Log) -> str:
    """Have the preload image; say how it came. Only where models are not pulled."""
    there = docker.image_exists(models.tag(ollama.tag()))
    made = models.preload(log, ollama.stand_in(log))
    return f"{'already there' if there else 'made'}: {made}"


def ensure_own(log: Log, image: Own, *, online: bool) -> str:
    """Build one of our images unless it is there; say which it was.

    Raises:
        CommandFailed: the build failed.
    """
    tag = own_tag(image, online=online)
    if docker.image_exists(tag):
        return f"already there: {tag}"
    log.note(f"building {tag}")
    docker.build(
        log,
        tag,
        docker.context([], snapshot(image)),
        dockerfile=image.dockerfile,
        args={"PYTHON_IMAGE": _python(online=online), "VERSION": tag.rsplit(":", 1)[1]},
        target=image.target,
    )
    docker.forget_old(image.repository, _KEEP)
    return f"built: {tag}"


def own_tag(image: Own, *, online: bool) -> str:
    """The full name of one of our images, as this checkout makes it."""
    return (
        f"{image.repository}:{content_tag(snapshot(image), _python(online=online), image.target)}"
    )


@cache
def snapshot(image: Own) -> Mapping[str, bytes]:
    """What goes into one of our images, read once in a run.

    Someone may edit a file meanwhile; tag and contents still agree.
    """
    files = sources(ROOT, image.dockerfile, image.target)
    return {name: file.read_bytes() for name, file in files}


def _python(*, online: bool) -> str:
    return pins.PYTHON_IMAGE if online else bases.tag("python")


def _same(name: str) -> Image:
    return Image(name, name)


def _outcome(log: Log, published: str, stand_in: str, *, online: bool) -> str:
    if online:
        return _pulled(log, published)
    there = docker.image_exists(bases.tag(stand_in))
    return f"{'already there' if there else 'built'}: {bases.stand_in(log, stand_in)}"


def content_tag(files: Mapping[str, bytes], base: str, target: str) -> str:
    """``dev-`` and 12 hex digits over names and contents of the files, the base and the target."""
    parts: list[str | bytes] = [base, target]
    for item in sorted(files.items()):
        parts += item
    return f"dev-{digest(*parts)}"


def sources(root: Path, dockerfile: str, target: str = "") -> Iterator[tuple[str, Path]]:
    """The Dockerfile and every file that it copies from the context, as (name, file).

    What is hashed is what is sent to the builder, so that an image cannot hold anything that its
    tag does not tell.
    """
    yield dockerfile, root / dockerfile
    for name in copied((root / dockerfile).read_text(), target):
        path = root / name
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            relative = file.relative_to(root)
            if file.is_file() and not _SKIPPED & set(relative.parts) and file.suffix != ".pyc":
                yield str(relative), file


def copied(dockerfile: str, target: str = "") -> list[str]:
    """The context paths of a Dockerfile's COPY lines, up to the end of the stage ``target``."""
    paths: list[str] = []
    reached = False
    for line in re.sub(r"\\\n", " ", dockerfile).splitlines():
        words = line.split()
        if words[:1] == ["FROM"]:
            if reached:
                break
            reached = bool(target) and words[-1] == target
        if words[:1] == ["COPY"] and not any(word.startswith("--from=") for word in words):
            paths += [w.rstrip("/") for w in words[1:-1] if not w.startswith("--")]
    return list(dict.fromkeys(paths))


def _pulled(log: Log, name: str) -> str:
    if docker.image_exists(name):
        return f"already there: {name}"
    log.note(f"pulling {name}")
    log.run("docker", "pull", "-q", name)
    return f"pulled: {name}"
