"""One shape for every answer that is an error, and the one place that makes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from mem0_server.errors import Mem0ServerError
from mem0_server.models import ProblemBody

_CODES = {404: "not_found", 405: "method_not_allowed"}


def problem(
    status: int, code: str, message: str, field: str | None = None, retry_after: int | None = None
) -> JSONResponse:
    """An error's answer."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    body = {"error": {"code": code, "message": message, "field": field}}
    return JSONResponse(body, status, headers)


def answer(error: Mem0ServerError) -> JSONResponse:
    """The answer for an error of ours."""
    return problem(error.status, error.code, error.message, error.field, error.retry_after)


def install(app: FastAPI) -> None:
    """Make every error of ``app`` come out in the one shape."""

    async def ours(_: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, Mem0ServerError):
            raise error
        return answer(error)

    async def unreadable(_: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, RequestValidationError):
            raise error
        return invalid(error.errors())

    async def http(request: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, HTTPException):
            raise error
        if error.status_code == 400:  # FastAPI's for bytes that are no UTF-8
            return no_json()
        code = _CODES.get(error.status_code, "http_error")
        response = problem(error.status_code, code, str(error.detail))
        response.headers.update(error.headers or {})
        if error.status_code == 405:
            response.headers["Allow"] = ", ".join(sorted(_methods(app, request.scope)))
        return response

    app.add_exception_handler(Mem0ServerError, ours)
    app.add_exception_handler(RequestValidationError, unreadable)
    app.add_exception_handler(HTTPException, http)


def no_json() -> JSONResponse:
    """The answer to a body that cannot be read."""
    return problem(422, "invalid_input", "body: is not JSON in UTF-8", "body")


def invalid(errors: Sequence[Any]) -> JSONResponse:
    """Name the first field at fault in ``field`` and all of them in the message.

    ``errors`` are pydantic's: each has a ``loc`` and a ``msg``.
    """
    lines = []
    first: str | None = None
    for found in errors:
        name = ".".join(str(part) for part in found["loc"][1:]) or str(found["loc"][0])
        first = first if first is not None else name
        lines.append(f"{name}: {found['msg'].removeprefix('Value error, ')}")
    return problem(422, "invalid_input", "; ".join(lines), first)


def _methods(app: FastAPI, scope: Scope) -> set[str]:
    """The methods of a path; one route has but one of them, and names no other."""
    return {
        method
        for route in app.routes
        if route.matches(scope)[0] is not Match.NONE
        for method in getattr(route, "methods", None) or ()
    }


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's entries for the errors that a route can answer with."""
    return {status: {"model": ProblemBody} for status in statuses}
