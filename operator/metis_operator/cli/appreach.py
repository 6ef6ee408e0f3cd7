"""The way to the app of a MetisRAG, signed in: a port-forward, or its Service from inside."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from ..core import credentials
from ..core.objects import SECRET, SERVICE, Key
from ..errors import ClusterError
from .answers import events
from .exits import CommandError, Exit
from .reach import Session
from .terminal import printable

_FORWARD_LIMIT = 30.0
# A large model on a CPU may think for minutes before its first word; the app says so meanwhile.
_PATIENCE = httpx2.Timeout(30.0, read=600.0)
Events = AsyncIterator[tuple[str, dict[str, Any]]]


class App:
    """The HTTP interface of an app."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    @asynccontextmanager
    async def ask(self, question: str, conversation: str | None = None) -> AsyncIterator[Events]:
        """The events of an answer, as they come.

        Raises:
            CommandError: the app refuses the question, or went away.
        """
        body = {"message": question} | ({"conversation_id": conversation} if conversation else {})
        try:
            async with self._http.stream("POST", "/api/chat/stream", json=body) as response:
                if response.is_error:
                    await response.aread()
                    raise _refusal(response)
                yield events(response.aiter_lines())
        except httpx2.HTTPError as error:
            said = str(error) or type(error).__name__
            raise CommandError(f"The app cannot be reached ({said}).", "See: status") from error


@asynccontextmanager
async def reach_app(session: Session, instance: str) -> AsyncIterator[App]:
    """The app of an instance, for as long as the context lasts.

    Raises:
        CommandError: there is no way to it, or no key that the user may have.
    """
    name = f"{instance}-app"
    service = await session.cluster.get(Key(SERVICE, session.namespace, name))
    if service is None:
        what = f"There is no Service {name} in namespace {session.namespace}."
        raise CommandError(what, "Has the operator made it yet? See: status", Exit.ABSENT)
    port = service["spec"]["ports"][0]["port"]
    key = await _key(session, instance)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        _url(session, name, port) as url,
        httpx2.AsyncClient(
            base_url=url, headers=headers, timeout=_PATIENCE, trust_env=False
        ) as http,
    ):
        yield App(http)


async def _key(session: Session, instance: str) -> str | None:
    """METIS_KEY, else the generated admin key; None where there is none (``auth.mode: none``)."""
    if given := os.environ.get("METIS_KEY"):
        return given
    name = credentials.secret_name(instance, credentials.AUTH)
    try:
        secret = await session.cluster.get(Key(SECRET, session.namespace, name))
    except ClusterError as error:
        if error.code != 403:
            raise
        what = f"You may not read the admin's key in Secret {name}."
        raise CommandError(what, "Put a key of your own into METIS_KEY.", Exit.FORBIDDEN) from error
    encoded = ((secret or {}).get("data") or {}).get("admin-key")
    return base64.b64decode(encoded).decode() if encoded else None


@asynccontextmanager
async def _url(session: Session, service: str, port: int) -> AsyncIterator[str]:
    if not session.kubectl:
        yield f"http://{service}.{session.namespace}.svc:{port}"
        return
    child = await asyncio.create_subprocess_exec(
        *session.kubectl,
        *("-n", session.namespace, "port-forward", "--address=127.0.0.1"),
        *(f"service/{service}", f":{port}"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert child.stdout is not None  # noqa: S101  asked for
    draining: asyncio.Task[None] | None = None
    try:
        local = await _local_port(child.stdout, service)
        draining = asyncio.create_task(_drain(child.stdout))  # a full pipe would stop kubectl
        yield f"http://127.0.0.1:{local}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        await child.wait()
        if draining is not None:
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)


async def _local_port(stream: asyncio.StreamReader, service: str) -> int:
    last = "kubectl said nothing"
    try:
        async with asyncio.timeout(_FORWARD_LIMIT):
            async for raw in stream:
                line = raw.decode(errors="replace").strip()
                if match := re.match(r"Forwarding from 127\.0\.0\.1:(\d+) ", line):
                    return int(match[1])
                last = line or last
    except TimeoutError:
        pass
    said = printable(last).removeprefix("error: ")
    raise CommandError(f"Service {service} cannot be reached: {said}.", "See: status")


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(4096):
        pass


def _refusal(response: httpx2.Response) -> CommandError:
    try:
        said = printable(str(response.json()["error"]["message"]))
    except (ValueError, KeyError, TypeError):
        said = "it gave no reason"
    if response.status_code in (401, 403):
        return CommandError(
            f"The app refuses the key: {said}.",
            "Put a key that it knows into METIS_KEY.",
            Exit.FORBIDDEN,
        )
    return CommandError(f"The app answered {response.status_code}: {said}.", "")
