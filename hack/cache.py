"""The folder that holds everything fetched or built: ``~/.cache/metis-rag``.

It may be deleted at any time; the next run makes it anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from hack.errors import HackError

ROOT = Path(__file__).resolve().parent.parent
"""The project's own folder."""

RECIPES = Path(__file__).resolve().parent / "recipes"
"""Dockerfiles and scripts of the images that are built where no image registry answers."""

CACHE = Path.home() / ".cache" / "metis-rag"
BIN = CACHE / "bin"
LOGS = CACHE / "logs"

GIB = 1 << 30


def digest(*parts: str | bytes | Path) -> str:
    """The first 12 hex digits of the SHA-256 over the parts.

    A path stands for its relative names and contents: a folder is walked in sorted order.
    The executable bit counts, times and owners do not.
    """
    sha = hashlib.sha256()

    def feed(kind: str, name: str, content: bytes) -> None:
        sha.update(f"{kind}\0{name}\0{len(content)}\0".encode())
        sha.update(content)

    for part in parts:
        if isinstance(part, Path):
            base = part.parent
            for file in [part] if part.is_file() else sorted(part.rglob("*")):
                if file.is_file():
                    kind = "x" if os.access(file, os.X_OK) else "f"
                    feed(kind, str(file.relative_to(base)), file.read_bytes())
        else:
            feed("s", "", part.encode() if isinstance(part, str) else part)
    return sha.hexdigest()[:12]


@contextlib.contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill, and put it in place of ``folder`` only when the block succeeds.

    So whatever exists under its final name is complete, however a run ended.
    """
    draft = folder.with_name(folder.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    yield draft
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


@contextlib.contextmanager
def exclusive(purpose: str) -> Iterator[None]:
    """Hold the cache's lock, waiting for another run that holds it.

    Two runs at a time would build the same things over each other.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            other = file.read().strip() or "unknown"
            print(f"waiting for another run on this machine: {other}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{purpose} (process {os.getpid()})")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def need_space(gib: float, *folders: Path) -> None:
    """Check that each folder's disk has ``gib`` GiB free.

    Raises:
        HackError: it has less.
    """
    for folder in folders:
        existing = next(p for p in (folder, *folder.parents) if p.exists())
        free = shutil.disk_usage(existing).free / GIB
        if free < gib:
            raise HackError(
                f"{folder} has {free:.1f} GiB of free disk space left; this needs {gib:g} GiB",
                "Free some space (`docker system prune` removes unused images), then run it again.",
            )
