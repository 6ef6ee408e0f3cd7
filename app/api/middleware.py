"""What surrounds every request: its id, its log line, its metrics, limits and headers.

Plain ASGI, because a wrapped response must still stream and still notice that the reader left.
"""

from __future__ import annotations

import asyncio
import re
import time
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import body_of, response_to
from app.core.logging import get_logger
from app.core.metrics import REQUESTS
from app.errors import TooLargeError, UnavailableError

BODY_LIMIT = 1024 * 1024
"""Bytes of a request body, uploads apart."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_STOPPING = UnavailableError(
    "this replica of the app is stopping and could not wait any longer for the answer to your "
    "request; send it again"
)
_PROBES = ("/health", "/ready", "/metrics")
_QUIET = (*_PROBES, "page")

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

log = get_logger(__name__)


class Surroundings:
    """The outermost middleware; it also answers for errors that nothing inside knew."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 0
        begun = time.perf_counter()

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except asyncio.CancelledError:  # the server stops, and has waited as long as it may
            if status:
                raise
            await response_to(_STOPPING)(scope, receive, sent)
        except Exception as error:
            if status:  # the response is on its way already: it can only be broken off
                raise
            await response_to(error)(scope, receive, sent)
        finally:
            _record(scope, status, time.perf_counter() - begun)


def _record(scope: Scope, status: int, seconds: float) -> None:
    route = _template(scope)
    REQUESTS.labels(scope["method"], route, str(status)).observe(seconds)
    write = log.debug if route.endswith(_QUIET) else log.info
    write(
        "request",
        method=scope["method"],
        route=route,
        status=status,
        milliseconds=round(seconds * 1000, 1),
    )


def _template(scope: Scope) -> str:
    """The path with its parameters' names for their values: few, so that metrics stay few."""
    if "route" not in scope:
        return "page" if "endpoint" in scope else "unmatched"
    path: str = scope["path"]
    for name, value in scope.get("path_params", {}).items():
        path = path.replace(f"/{value}", f"/{{{name}}}")
    return path


class Farewell:
    """Sends the clients of ``app`` elsewhere with its answers, once ``leaving`` is set.

    One that kept its connection would sooner or later send a request just when it is closed.
    ``asked`` tells when somebody last came nevertheless (of ``time.monotonic``).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.leaving = False
        self.asked = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if self.leaving and not scope.get("path", "").endswith(_PROBES):
            self.asked = time.monotonic()

        async def sent(message: Message) -> None:
            if self.leaving and message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self._app(scope, receive, sent)


class BodyLimit:
    """Refuses bodies over a limit; uploads have one of their own."""

    def __init__(self, app: ASGIApp, *, upload_path: str, upload_limit: int) -> None:
        self._app = app
        self._upload_path = upload_path
        self._upload_limit = upload_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._upload_limit if scope["path"] == self._upload_path else BODY_LIMIT
        error = TooLargeError(
            f"the request is larger than {limit // 1024} KiB; send less at once",
        )
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdigit() or int(declared) > limit:
            response = JSONResponse(body_of(error), status_code=error.status)
            await response(scope, receive, send)
            return
        seen = 0

        async def received() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:  # a body sent in chunks declares no length
                raise error
            return message

        await self._app(scope, received, send)
