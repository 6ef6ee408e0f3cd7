"""The cluster that the user's options name.

On a person's machine kubectl reaches it for us (``kubectl proxy`` on a socket that nobody else
can open): so every way to log in that kubectl knows works, and works the same. In a pod its
service account does. Whatever the cluster refuses becomes a CommandError with its cure.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from lightkube import AsyncClient
from lightkube.config import client_adapter
from lightkube.config.kubeconfig import SERVICE_ACCOUNT, SingleConfig
from lightkube.config.models import Cluster as ClusterEntry
from lightkube.config.models import Context as ContextEntry
from lightkube.config.models import User as UserEntry

from ..cluster import Cluster, load_config
from ..errors import ClusterError
from .exits import CommandError, Exit
from .rest import Rest
from .terminal import printable

FIELD_MANAGER = "kubectl-metis"
_TIMEOUT = httpx2.Timeout(30.0, connect=5.0)
_START_LIMIT = 15.0
# What Go's logger writes before each line of its own; anything else is meant for the user.
_GO_LOG = re.compile(r"^[EWIF]\d{4} ")


@dataclass(frozen=True)
class Session:
    """A cluster, and where in it the user is."""

    cluster: Cluster
    rest: Rest
    namespace: str
    place: str
    """The cluster in words, for messages."""
    kubectl: tuple[str, ...] = ()
    """kubectl with the user's options; empty in a pod."""


@asynccontextmanager
async def connect(arguments: argparse.Namespace) -> AsyncIterator[Session]:
    """The cluster of ``arguments`` (kubeconfig, context, namespace).

    Raises:
        CommandError: there is none, or it refused what was asked of it inside of the context.
    """
    way = _in_pod if _is_in_pod(arguments) else _by_kubectl
    async with way(arguments) as session:
        try:
            yield session
        except ClusterError as error:
            raise explained(error, session) from error


def explained(error: ClusterError, session: Session) -> CommandError:
    """What a refusal of the API server means to a person."""
    said = _said(error)
    if error.code == 0 or (error.code in (500, 502) and _is_no_answer(error)):
        what = f"No cluster answers at {session.place} ({said})."
        cure = "Check that it runs and that you can reach it, or name another with --context."
        return CommandError(what, cure, Exit.UNREACHABLE)
    if error.code == 401:
        what = f"The cluster at {session.place} does not know you ({said})."
        cure = "Log in again, or name another --context or --kubeconfig."
        return CommandError(what, cure, Exit.FORBIDDEN)
    if error.code == 403:
        cure = "Ask an administrator of the cluster for that right, or use another --context."
        return CommandError(f"{_sentence(str(error))}", cure, Exit.FORBIDDEN)
    if error.code in (429, 503, 504):
        what = f"The cluster at {session.place} is busy ({said})."
        return CommandError(what, "Try again in a moment.", Exit.UNREACHABLE)
    return CommandError(_sentence(str(error)), "")


def _is_no_answer(error: ClusterError) -> bool:
    """Whether kubectl, and not the API server, made this answer: in plain text."""
    response = getattr(error.__cause__, "response", None)
    return response is not None and "text/plain" in response.headers.get("content-type", "")


def _said(error: ClusterError) -> str:
    """The reason inside of an error, without what surrounds it."""
    response = getattr(error.__cause__, "response", None)
    if response is not None and "text/plain" in response.headers.get("content-type", ""):
        return printable(" ".join(response.text.split())) or str(error.code)
    return str(error.__cause__ or error)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _is_in_pod(arguments: argparse.Namespace) -> bool:
    named = arguments.kubeconfig or arguments.context or os.environ.get("KUBECONFIG")
    return not named and Path(SERVICE_ACCOUNT, "token").is_file()


@asynccontextmanager
async def _in_pod(arguments: argparse.Namespace) -> AsyncIterator[Session]:
    config = load_config()
    namespace = arguments.namespace or config.namespace
    async with _clients(config, None) as (cluster, rest):
        yield Session(cluster, rest, namespace, str(config.cluster.server))


@asynccontextmanager
async def _by_kubectl(arguments: argparse.Namespace) -> AsyncIterator[Session]:
    kubectl = _kubectl(arguments)
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="metis-"))
        socket = Path(folder, "api")
        viewing = asyncio.create_task(_view(kubectl, arguments))
        try:
            await stack.enter_async_context(_proxy(kubectl, socket))
        finally:  # what is wrong with the kubeconfig, this one says best
            view = await viewing
        cluster, rest = await stack.enter_async_context(_clients(_PROXIED, str(socket)))
        namespace = arguments.namespace or _of_context(view, "namespace") or "default"
        server = ((view.get("clusters") or [{}])[0].get("cluster") or {}).get("server", "?")
        place = f"{server}, context {view.get('current-context', '')}"
        yield Session(cluster, rest, namespace, place, kubectl)


@asynccontextmanager
async def _clients(config: SingleConfig, socket: str | None) -> AsyncIterator[tuple[Cluster, Rest]]:
    """The operator's client and a bare one, both with these credentials, or through a socket."""

    def transport() -> Any:
        return httpx2.AsyncHTTPTransport(uds=socket) if socket else None

    trust_env = socket is None
    client = AsyncClient(
        config=config,
        timeout=_TIMEOUT,
        field_manager=FIELD_MANAGER,
        trust_env=trust_env,
        transport=transport(),
    )
    parameters = client_adapter.ConnectionParams(
        timeout=_TIMEOUT, trust_env=trust_env, transport=transport()
    )
    try:
        async with client_adapter.AsyncClient(config, parameters) as http:
            yield Cluster(client), Rest(http)
    finally:
        await client.close()


# Plain HTTP to whom somebody else has given the credentials.
_PROXIED = SingleConfig(
    context_name="kubectl",
    context=ContextEntry(cluster="kubectl"),
    cluster=ClusterEntry(server="http://localhost"),
    user=UserEntry(),
)


def _kubectl(arguments: argparse.Namespace) -> tuple[str, ...]:
    program = os.environ.get("METIS_KUBECTL") or shutil.which("kubectl")
    if not program:
        raise CommandError(
            "kubectl is not on the PATH.", "Install it, or set METIS_KUBECTL to it.", Exit.FAILED
        )
    options = []
    for name in ("kubeconfig", "context"):
        value = getattr(arguments, name)
        options += [f"--{name}={value}"] if value else []
    return (program, *options)


async def _view(kubectl: tuple[str, ...], arguments: argparse.Namespace) -> dict[str, Any]:
    """The part of the kubeconfig that is in use."""
    child = await asyncio.create_subprocess_exec(
        *kubectl,
        *("config", "view", "--minify", "--output=json"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await child.communicate()
    if child.returncode:
        complaint = _complaint(err.decode(errors="replace"))
        if not arguments.context and not arguments.kubeconfig:
            what = f"No cluster is configured ({complaint})."
            cure = "Set KUBECONFIG, or use --kubeconfig and --context."
        else:
            what, cure = (
                f"kubectl cannot use that: {complaint}.",
                "See: kubectl config get-contexts",
            )
        raise CommandError(what, cure, Exit.UNREACHABLE)
    loaded: dict[str, Any] = json.loads(out)
    return loaded


async def contexts(arguments: argparse.Namespace) -> list[str]:
    """The contexts that the kubeconfig offers; none where it cannot be read."""
    child = await asyncio.create_subprocess_exec(
        *_kubectl(argparse.Namespace(kubeconfig=arguments.kubeconfig, context=None)),
        *("config", "get-contexts", "--output=name"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    out, _ = await child.communicate()
    return out.decode().split()


def _of_context(view: dict[str, Any], field: str) -> str:
    contexts = view.get("contexts") or [{}]
    return str((contexts[0].get("context") or {}).get(field) or "")


@asynccontextmanager
async def _proxy(kubectl: tuple[str, ...], socket: Path) -> AsyncIterator[None]:
    """``kubectl proxy`` behind ``socket``, until the context ends."""
    child = await asyncio.create_subprocess_exec(
        *kubectl,
        *("proxy", f"--unix-socket={socket}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None and child.stderr is not None  # noqa: S101, PT018  asked for
    complaints: list[str] = []
    listening = asyncio.create_task(_listen(child.stderr, complaints))
    try:
        try:
            async with asyncio.timeout(_START_LIMIT):
                line = await child.stdout.readline()
        except TimeoutError:
            line = b""
        if not line:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await listening
            raise CommandError(
                f"kubectl cannot reach the cluster: {_complaint(' '.join(complaints))}.",
                "See: kubectl config get-contexts",
                Exit.UNREACHABLE,
            )
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        await child.wait()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def _listen(stream: asyncio.StreamReader, complaints: list[str]) -> None:
    """Pass on what a way to log in says to its user; keep what kubectl says to itself."""
    async for raw in stream:
        line = raw.decode(errors="replace").rstrip()
        complaints.append(line)
        del complaints[:-5]
        if not _GO_LOG.match(line) and not line.startswith("error:"):
            sys.stderr.write(printable(line) + "\n")


def _complaint(text: str) -> str:
    said = printable(" ".join(text.split())).removeprefix("error: ").rstrip(".")
    return said or "it said nothing"
