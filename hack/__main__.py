"""The command line of the set-up: ``python -m hack --help``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

from hack import (
    bases,
    cluster,
    control_plane,
    docker,
    engine,
    helms,
    images,
    install,
    models,
    node_image,
    ollama,
    pins,
    registry,
    steps,
    tools,
)
from hack.cache import CACHE, LOGS, exclusive, need_space
from hack.cluster import DEFAULT, FIRST_PORT, TESTS, Cluster
from hack.diagnose import advice
from hack.errors import HackError
from hack.process import Log, answer, last_lines
from hack.steps import Step

Command = Callable[[argparse.Namespace], int]
_COLD_GIB = 20.0
"""Free space for a first run: compilers' caches, images in the engine and in the node."""
_WARM_GIB = 2.0


def _check(log: Log) -> str:
    """Look at the machine before anything is made."""
    warm = (CACHE / "built").is_dir() or (CACHE / "registry").is_file()
    need_space(_WARM_GIB if warm else _COLD_GIB, CACHE)
    mode = "pulled from registries" if registry.online() else "built from package registries"
    return f"images are {mode}"


def _engine(log: Log) -> str:
    outcome = engine.ensure(log)
    if root := answer("docker", "info", "--format", "{{.DockerRootDir}}"):
        need_space(_WARM_GIB, Path(root))
    return outcome


def _tools(log: Log) -> str:
    paths = [tools.kind(log), tools.helm(log), tools.kubectl(log)]
    return "in " + ", ".join(sorted({str(path.parent) for path in paths}))


def _debian(log: Log) -> str:
    return " and ".join(bases.debian(log, suite) for suite in (bases.NODE_SUITE, bases.APP_SUITE))


def _node_image(log: Log) -> str:
    there = docker.image_exists(node_image.tag())
    return f"{'already there' if there else 'built'}: {node_image.ensure(log)}"


_DOCKER = Step("Docker engine", "Docker engine", _engine)
_TOOLS = Step("kind, helm, kubectl", "tools", _tools)


def image_steps() -> list[Step]:
    """Everything up to images in the engine."""
    online = registry.online()
    plan = [
        Step("Look at this machine", "machine", _check),
        _DOCKER,
        _TOOLS,
    ]
    if not online:
        plan.append(Step("Debian base images", "Debian base image", _debian))
        plan.append(Step("Kubernetes node image", "kind node image", _node_image))
    plan += [
        Step("Python base image", "Python base image", partial(images.ensure_base, online=online)),
        Step(
            "PostgreSQL image", "PostgreSQL image", partial(images.ensure_postgres, online=online)
        ),
        Step("Ollama image", "Ollama image", partial(images.ensure_ollama, online=online)),
    ]
    if not online:
        plan.append(Step("Small models", "preload image", images.ensure_models))
    plan += [
        Step(
            f"Image {own.name}",
            own.repository,
            partial(images.ensure_own, image=own, online=online),
        )
        for own in images.OWN
    ]
    return plan


def cluster_steps(target: Cluster, port: int | None) -> list[Step]:
    """The cluster, with the images in it."""
    online = registry.online()

    def make(log: Log) -> str:
        outcome = cluster.ensure(log, target, port=port, online=online)
        registry.remember()
        return outcome

    def load(log: Log) -> str:
        outcome = cluster.load(log, target, images.names(online=online).all())
        cluster.settle(log, target)
        return outcome

    return [
        Step(f"Cluster {target.name}", f"kind cluster {target.name}", make),
        Step("Images into the cluster", f"images in {target.node}", load),
    ]


def up(arguments: argparse.Namespace) -> int:
    """Everything, up to a MetisRAG that is Ready."""
    steps.run("up", [
        *image_steps(),
        *cluster_steps(DEFAULT, arguments.port),
        Step("Metis RAG", "release metis", lambda log: install.ensure(log, DEFAULT)),
    ])  # fmt: skip
    url = cluster.app_url(DEFAULT) or "(no port of this machine leads to it)"
    kubectl = tools.kubectl()
    program = "kubectl" if kubectl.parent not in (CACHE / "bin",) else str(kubectl)
    print(f"""
Metis RAG is ready at {url}

The page asks for a key, once. To read it:
  {program} -n metis get secret metis-auth -o jsonpath='{{.data.admin-key}}' | base64 -d

Next:
  make ask Q="How does the operator keep data when a MetisRAG is deleted?"
  {program} -n metis get metisrag
  make test
  make down""")
    return 0


def down(arguments: argparse.Namespace) -> int:
    """The cluster goes; caches and images stay."""
    return _delete(DEFAULT)


def _delete(target: Cluster) -> int:
    def remove(log: Log) -> str:
        engine.ensure(log)
        outcome = cluster.delete(log, target)
        if not answer("docker", "ps", "-aq", "--filter", "label=io.x-k8s.kind.cluster"):
            registry.forget()
        return outcome

    steps.run(
        "down", [Step(f"Delete the cluster {target.name}", f"kind cluster {target.name}", remove)]
    )
    return 0


def build_images(arguments: argparse.Namespace) -> int:
    """Images only, into the Docker engine."""
    plan = image_steps()
    steps.run("images", plan)
    for image in images.names(online=registry.online()).all():
        print(f"  {image.name}" + (f"  ({image.local})" if image.local != image.name else ""))
    return 0


def cluster_command(arguments: argparse.Namespace) -> int:
    """A cluster of one's own, with the images in it."""
    target = cluster.named(arguments.name, arguments.kubeconfig)
    if arguments.action == "down":
        return _delete(target)
    steps.run(f"cluster-{target.name}", [*image_steps(), *cluster_steps(target, None)])
    if target.kubeconfig:
        print(f"its credentials: {target.kubeconfig}")
    return 0


def _browser(log: Log) -> str:
    bases.install(log, "chromium", "openssl")
    return "present"


def test_tools(arguments: argparse.Namespace) -> int:
    """What the tests need beside Python packages."""
    online = registry.online()
    ensure = partial(control_plane.ensure, online=online)
    steps.run("test-tools", [
        *([_DOCKER] if online else []),
        _TOOLS,
        Step("Chromium and OpenSSL", "Debian packages", _browser),
        Step("etcd and kube-apiserver", "control plane", ensure),
        Step("Further versions of Helm", "tools", helms.ensure),
    ])  # fmt: skip
    return 0


def tools_command(arguments: argparse.Namespace) -> int:
    """Where the tools are."""
    log = Log(LOGS / "tools.log")
    paths = {"kind": tools.kind(log), "helm": tools.helm(log), "kubectl": tools.kubectl(log)}
    if arguments.json:
        print(json.dumps({name: str(path) for name, path in paths.items()}))
    else:
        for name, path in paths.items():
            print(f"{name:<8} {path}")
    return 0


def ollama_command(arguments: argparse.Namespace) -> int:
    """Ollama with two small models, in the foreground."""
    online = registry.online()
    made: list[str] = []

    def small_models(log: Log) -> str:
        made.append(models.preload(log, pins.OLLAMA_IMAGE if online else ollama.stand_in(log)))
        return made[0]

    steps.run("ollama", [
        _DOCKER,
        Step("Ollama image", "Ollama image", partial(images.ensure_ollama, online=online)),
        Step("Small models", "preload image", small_models),
    ])  # fmt: skip
    ollama.become(made[0], arguments.port)


def ask(arguments: argparse.Namespace) -> int:
    """Ask the running system: a command line of its own, and an HTTP client no other one needs."""
    from hack import ask as asking

    return asking.main(arguments.words)


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    main = argparse.ArgumentParser(
        prog="python -m hack",
        description="Sets up what a developer's machine needs: tools, images, a kind cluster and "
        "Metis RAG on it. Every command may be run again: it goes on where it stopped, and changes "
        "nothing that is right.",
        epilog="METIS_REGISTRY=auto|online|offline: pull images, or build them from package "
        "registries (auto: whichever works). Everything fetched or built lies in "
        "~/.cache/metis-rag, which may be deleted.",
    )
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, act: Command, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(act=act)
        return command

    upper = add("up", up, "tools, images, the cluster `metis`, and a MetisRAG that is Ready")
    upper.add_argument(
        "--port",
        type=int,
        default=FIRST_PORT,
        help=f"port of the page on 127.0.0.1, when the cluster is made (default {FIRST_PORT}, or "
        "the next free one)",
    )
    add("down", down, "delete the cluster `metis` and all data in it; caches and images stay")
    add("images", build_images, "build or pull all images into the Docker engine")
    other = add(
        "cluster",
        cluster_command,
        "make or delete a cluster with all images in it, without Metis RAG",
    )
    other.add_argument("action", choices=["up", "down"])
    other.add_argument("--name", default=TESTS, help=f"the cluster's name (default {TESTS})")
    other.add_argument(
        "--kubeconfig",
        type=Path,
        help="file for its credentials (default ~/.cache/metis-rag/NAME.kubeconfig)",
    )
    tool = add(
        "tools",
        tools_command,
        "fetch kind, helm and kubectl where they are missing; print their paths",
    )
    tool.add_argument("--json", action="store_true", help="as JSON")
    add(
        "test-tools",
        test_tools,
        "fetch or build what the tests need: a browser, etcd, kube-apiserver, versions of Helm",
    )
    small = add(
        "ollama",
        ollama_command,
        f"run Ollama with {pins.CHAT_MODEL} and {pins.EMBEDDING_MODEL} until SIGTERM or the end "
        "of its input; `make dev` uses it",
    )
    small.add_argument("--port", type=int, default=11434, help="on 127.0.0.1 (default 11434)")
    add("ask", ask, "ask the running system a question; see `python -m hack ask --help`")
    return main


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status.

    0 done, 1 a step failed (and said so), 2 wrong arguments, 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["ask"]:
        return ask(argparse.Namespace(words=words[1:]))
    arguments = parser().parse_args(words)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with exclusive(f"python -m hack {arguments.command}"):
            return int(arguments.act(arguments))
    except steps.StepFailed:
        return 1
    except HackError as error:
        print(f"error: {error.what}\nwhat to do: {error.todo}", file=sys.stderr)
        if error.log:
            print(f"the last lines of {error.log}:\n{last_lines(error.log)}", file=sys.stderr)
        return 1
    except OSError as error:
        todo = advice(str(error)) or "Check the disk and the permissions, then run it again."
        print(f"error: {error}\nwhat to do: {todo}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; run it again to go on", file=sys.stderr)
        return 130


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
