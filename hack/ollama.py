"""Ollama where no image registry answers: compiled from the Go module proxy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

from hack import docker, pins
from hack.bases import APP_SUITE, debian, debian_tag, host_certificates
from hack.cache import CACHE, RECIPES, digest, made_whole
from hack.gobuild import GOCACHE, GOPATH, downloaded, environment, go
from hack.process import Log

_RECIPE = RECIPES / "ollama"


def tag() -> str:
    """The tag of the stand-in for ``ollama/ollama``."""
    return f"metis-rag/ollama:{pins.OLLAMA}-{_key()}"


def _key() -> str:
    return digest(_RECIPE, debian_tag(APP_SUITE), pins.OLLAMA, pins.MALGO)


def stand_in(log: Log) -> str:
    """The tag of the stand-in for ``ollama/ollama``, compiled on first use (about 4 minutes).

    Raises:
        CommandFailed: a module could not be fetched, or does not compile.
    """
    image = tag()
    if not docker.image_exists(image):
        base = debian(log, APP_SUITE)
        compiled = _compiled(log, base)
        log.note("building the Ollama image")
        files = [(str(f.relative_to(compiled)), f) for f in compiled.rglob("*") if f.is_file()]
        source = docker.context([*files, ("Dockerfile", _RECIPE / "Dockerfile")])
        docker.build(log, image, source, args={"DEBIAN": base}, target="ollama")
        docker.forget_old(image.split(":")[0])
    return image


def become(image: str, port: int) -> NoReturn:
    """Turn this process into an Ollama on 127.0.0.1:``port`` with the models of a preload image.

    It ends with SIGTERM, and with its standard input: so also when whoever started it is killed,
    which no signal would tell a container.
    """
    program = "exec 3<&0; (cat <&3 >/dev/null; kill -TERM $$) & exec ollama serve 3<&- </dev/null"
    os.execvp(  # noqa: S606 - this process becomes it; no shell is wanted
        "docker",
        [
            "docker", "run", "--rm", "--init", "--interactive", "--read-only", "--tmpfs=/tmp",
            "--cap-drop=ALL", f"--user={os.getuid()}:{os.getgid()}",
            f"--publish=127.0.0.1:{port}:11434", "--env=HOME=/tmp", "--env=OLLAMA_MODELS=/models",
            "--env=OLLAMA_HOST=0.0.0.0:11434", "--env=OLLAMA_NO_CLOUD=1", "--env=OLLAMA_NOPRUNE=1",
            "--entrypoint=/bin/sh", image, "-c", program,
        ],
    )  # fmt: skip


def _compiled(log: Log, base: str) -> Path:
    folder = CACHE / "built" / f"ollama-{pins.OLLAMA}-{_key()}"
    if folder.is_dir():
        return folder
    log.note("preparing the compiler")
    builder = f"metis-rag/ollama-builder:{_key()}"
    context = docker.context([("Dockerfile", _RECIPE / "Dockerfile")])
    docker.build(log, builder, context, args={"DEBIAN": base}, target="builder")
    source = downloaded(log, "github.com/ollama/ollama", f"v{pins.OLLAMA}")["Dir"]
    malgo = downloaded(log, "github.com/gen2brain/malgo", f"v{pins.MALGO}")["Dir"]
    goroot = log.output(go(log), "env", "GOROOT", env=environment())
    GOCACHE.mkdir(parents=True, exist_ok=True)
    log.note(f"compiling Ollama {pins.OLLAMA}")
    with made_whole(folder) as draft:
        variables = environment(
            SOURCE=source, MALGO=malgo, VERSION=pins.OLLAMA, OUT=str(draft), HOME="/tmp",  # noqa: S108
            PATH=f"{goroot}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            **_go_settings(log),
        )  # fmt: skip
        mounts = {
            goroot: "ro", str(GOPATH): "rw", str(GOCACHE): "rw", str(draft): "rw",
            str(_RECIPE): "ro",
        }  # fmt: skip
        log.run(
            "docker", "run", "--rm", "--init", "--network", "host",
            "--user", f"{os.getuid()}:{os.getgid()}",
            *(f"--env={name}={value}" for name, value in variables.items()),
            *(f"--volume={path}:{path}:{mode}" for path, mode in mounts.items()),
            f"--volume={host_certificates()}:/etc/ssl/certs/ca-certificates.crt:ro",
            builder, "bash", _RECIPE / "build.sh",
        )  # fmt: skip
    return folder


def _go_settings(log: Log) -> dict[str, str]:
    """Where the user's Go fetches modules, and through which proxies."""
    names = ("GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOINSECURE")
    values = log.output(go(log), "env", *names, env=environment()).split("\n")
    settings = {name: value for name, value in zip(names, values, strict=False) if value}
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
    return settings | {name: os.environ[name] for name in proxies if name in os.environ}
