"""What every request passes: an id, a key, a bounded body, a line in the log, a count.

Written against ASGI itself, because it costs every request. A new route is behind the key unless
it is named open here.
"""

from __future__ import annotations

import asyncio
import random
import re
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mem0_server.api.errors import answer, problem
from mem0_server.api.services import Services
from mem0_server.errors import (
    BodyTooLargeError,
    Mem0ServerError,
    OverloadedError,
    RequestTimeoutError,
    UnauthorizedError,
)
from mem0_server.logs import REQUEST_ID
from mem0_server.protocol import ARRIVED

log = structlog.get_logger(__name__)

# Up to this many times the cap is read and thrown away before the refusal; beyond, the
# connection is closed.
DISCARDED = 8
OPEN = frozenset({"/health", "/ready", "/metrics"})
STATUS = "/status"  # to ask it is not to use a key: it tells who does
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Gate:
    """The outermost layer of the server."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        """Guard ``app``."""
        self._app = app
        self._services = services
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or pass on what is none."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id"))
        # The router sees the path still encoded: an id with a slash in it stays one segment.
        raw = scope.get("raw_path")
        scope = {**scope, "path": raw.decode("latin-1")} if raw else dict(scope)
        answering = _Answer(send, request_id, self._services)
        started = time.perf_counter()
        self._under_way += 1
        named = REQUEST_ID.set(request_id)
        try:
            if scope["path"] not in OPEN:
                counts = scope["path"] != STATUS
                if self._services.draining and counts:
                    self._services.asked = time.monotonic()
                self._services.keys.check(headers.get(b"x-api-key"), counts=counts)
                self._admit()
            body = await self._body(scope, headers, receive)
            await self._app(scope, body, answering)
        except Mem0ServerError as error:
            if isinstance(error, UnauthorizedError):
                self._services.metrics.unauthorized.labels(error.reason).inc()
            await answer(error)(scope, receive, answering)
        except Exception as error:
            if answering.started and isinstance(error.__cause__, Mem0ServerError):
                # A stream that ends early; its connection is closed without an end.
                log.warning("answer_broken_off", code=error.__cause__.code)
            else:
                log.exception("request_failed", route=_route(scope))
            if not answering.started:
                message = f"an error of ours; its cause is in the log under {request_id}"
                failed = problem(500, "internal_error", message)
                await failed(scope, receive, answering)
        finally:
            self._under_way -= 1
            self._count(scope, answering.status, time.perf_counter() - started)
            REQUEST_ID.reset(named)

    def _admit(self) -> None:
        """Let the request in.

        :raises OverloadedError: too many are under way.
        """
        limit = self._services.settings.max_requests
        if self._under_way > limit:
            raise OverloadedError(f"{limit} requests are under way already; try again")

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = scope["method"], _route(scope)
        self._services.metrics.answered(method, route, status, seconds)
        write = log.debug if scope["path"] in OPEN else log.info
        write(
            "request",
            method=method,
            route=route,
            status=status,
            milliseconds=round(seconds * 1000, 1),
        )

    async def _body(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Receive:
        """Read the body within its limits, and return a ``receive`` that gives it again.

        :raises BodyTooLargeError: it exceeds the cap.
        :raises RequestTimeoutError: it does not arrive in time.
        """
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            return receive
        settings = self._services.settings
        limit = settings.max_body_bytes
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > DISCARDED * limit:
            raise _too_large(limit)
        if scope.get(ARRIVED):  # most are there with the head, and no clock is needed
            body, size = await _read(receive, limit)
        else:
            try:
                async with asyncio.timeout(settings.body_timeout):
                    body, size = await _read(receive, limit)
            except TimeoutError:
                raise RequestTimeoutError(
                    f"the body did not arrive within {settings.body_timeout:g} s; send it again"
                ) from None
        if size > limit:
            raise _too_large(limit)
        whole: Message | None = {"type": "http.request", "body": body, "more_body": False}

        async def again() -> Message:
            nonlocal whole
            if whole is not None:
                given, whole = whole, None
                return given
            return await receive()

        return again


async def _read(receive: Receive, limit: int) -> tuple[bytes, int]:
    """The body and how many bytes came; nothing of one that exceeds ``limit``."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        size += len(message.get("body", b""))
        if size > DISCARDED * limit:
            break
        if size > limit:
            # Read on: a client that still sends would not see the answer.
            chunks.clear()
        else:
            chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    return b"".join(chunks), size


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body exceeds {limit} bytes; send less, or raise MAX_BODY_BYTES")


class _Answer:
    """A ``send`` that notes the status and adds the headers that every answer has."""

    def __init__(self, send: Send, request_id: str, services: Services) -> None:
        self._send = send
        self._request_id = request_id.encode()
        self._services = services
        self.started = False
        self.status = 499  # the client went away before there was an answer

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self._request_id)]
            if self._services.draining or self.status in (408, 413):
                # A pooled client must go elsewhere; an unread body must not follow.
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)


def _request_id(given: bytes | None) -> str:
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode()
    # It tells requests apart and protects nothing.
    return f"{random.getrandbits(128):032x}"


def _route(scope: Scope) -> str:
    """The route's template; never the path, which names people."""
    return getattr(scope.get("route"), "path", "unmatched")
