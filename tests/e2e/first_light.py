"""The first version that was ever landed, out of the history: its chart and its images."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hack import bases, docker, images, pins, registry
from hack import cluster as kind
from hack.cache import LOGS
from hack.process import Log

COMMIT = "c0e439dd"
ROOT = Path(__file__).parents[2]


def sources(folder: Path) -> Path:
    """Its tree, in ``folder``; skips the test in a clone without history."""
    found = subprocess.run(
        ["git", "archive", COMMIT], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    if found.returncode:
        pytest.skip(f"this clone has no commit {COMMIT}: its history is needed, not only its files")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def built(tree: Path, cluster: kind.Cluster) -> dict[str, str]:
    """The tags of its three images, built on today's base and loaded into the cluster."""
    online = registry.online()
    base = pins.PYTHON_IMAGE if online else bases.tag("python")
    log = Log(LOGS / "first-light.log")
    tags: dict[str, str] = {}
    loaded = []
    for own in images.OWN:
        files = {
            name: path.read_bytes()
            for name, path in images.sources(tree, own.dockerfile, own.target)
        }
        tags[own.name] = images.content_tag(files, base, own.target)
        reference = f"{own.repository}:{tags[own.name]}"
        if not docker.image_exists(reference):
            docker.build(
                log, reference, docker.context([], files), dockerfile=own.dockerfile,
                args={"PYTHON_IMAGE": base, "VERSION": tags[own.name]}, target=own.target,
            )  # fmt: skip
        loaded.append(images.Image(reference, reference))
    kind.load(log, cluster, loaded)
    return tags


def values(small: dict[str, Any], tags: dict[str, str]) -> dict[str, Any]:
    """Its values for the stack alone: those of today that it knew, with its own images."""
    stack = {key: dict(value) for key, value in small.items()}
    for part in ("app", "mem0"):
        stack[part] = {**stack[part], "image": {"tag": tags[part]}}
    stack["credentials"] = {"image": {"tag": tags["operator"]}}
    return {
        "stack": {"enabled": True, **stack},
        "operator": {"enabled": False},
        "instance": {"create": False},
    }
