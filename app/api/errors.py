"""One handler: every error leaves as ``{"error": {"code", "message", "field"}}``."""

from __future__ import annotations

from typing import Any

from asyncpg import InterfaceError, InternalClientError  # type: ignore[import-untyped]
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from app.core.logging import get_logger
from app.errors import (
    AppError,
    BadInputError,
    DatabaseUnavailableError,
    UnauthenticatedError,
    UnavailableError,
)

RETRY_AFTER = "5"
"""Seconds after which a 503 is worth another try."""

_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
# Classes 08 (connection), 28 (authorization), 53 (resources), 57 (operator intervention) of
# PostgreSQL's error codes, and 42P01: the schema is not there yet.
_UNAVAILABLE_STATES = ("08", "28", "53", "57", "42P01")

# asyncpg's two say that the connection ended between two statements, or in the middle of one.
_AWAY = (PoolTimeoutError, OSError, TimeoutError, InterfaceError, InternalClientError)

log = get_logger(__name__)


def install(app: FastAPI) -> None:
    """Answer every kind of error in one shape; the middleware does so for unexpected ones."""

    async def handle(request: Request, error: Exception) -> JSONResponse:
        return response_to(error)

    for kind in (RequestValidationError, HTTPException, AppError):
        app.add_exception_handler(kind, handle)


def response_to(error: Exception) -> JSONResponse:
    """The response that tells of an error."""
    known = as_app_error(error)
    headers = dict(getattr(error, "headers", None) or {})
    if isinstance(known, UnauthenticatedError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(known, UnavailableError):
        headers["Retry-After"] = RETRY_AFTER
    return JSONResponse(body_of(known), status_code=known.status, headers=headers)


def body_of(error: AppError) -> dict[str, Any]:
    """The JSON of an error."""
    return {"error": {"code": error.code, "message": error.message, "field": error.field}}


def as_app_error(error: BaseException) -> AppError:
    """Any error as one of ours; one that nobody expected is logged with its traceback."""
    if isinstance(error, AppError):
        return error
    if isinstance(error, RequestValidationError):
        return _validation(error)
    if isinstance(error, HTTPException):
        known = AppError(str(error.detail), code=_HTTP_CODES.get(error.status_code, "bad_request"))
        known.status = error.status_code
        return known
    if _is_database_away(error):
        log.warning("database_unavailable", reason=f"{type(error).__name__}: {error}"[:300])
        return DatabaseUnavailableError(
            "the database does not answer now; try again in a moment. If it lasts: look at "
            "/api/health and at the log of metis-postgres"
        )
    log.error("unexpected_error", exc_info=error)
    return AppError("something went wrong on our side; the log has the details by request id")


def _is_database_away(error: BaseException) -> bool:
    if isinstance(error, _AWAY):
        return True
    if isinstance(error, DBAPIError):
        state = str(getattr(error.orig, "sqlstate", None) or "")
        return error.connection_invalidated or state.startswith(_UNAVAILABLE_STATES) or not state
    # While it connects, asyncpg's own errors come through.
    return str(getattr(error, "sqlstate", None) or "").startswith(_UNAVAILABLE_STATES)


def _validation(error: RequestValidationError) -> AppError:
    """The first thing that is wrong with a request, by its field."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return BadInputError("the body is not valid JSON", code="invalid_json")
    path = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    field = ".".join(path) or None
    message = str(first["msg"]).removeprefix("Value error, ")
    return BadInputError(f"{field}: {message}" if field else message, field=field)
