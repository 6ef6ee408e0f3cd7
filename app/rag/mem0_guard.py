"""The promise that memory never raises at its caller, kept in one place."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import structlog

from app.rag.mem0_errors import Mem0DownError, Mem0Error
from app.rag.mem0_metrics import FAILURES

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger(__name__)


def never_raises(fallback: Callable[[], Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Turn every failure into ``fallback()``, logged and counted."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - a chat goes on without its memory
                report(function.__name__, error)
                answer: R = fallback()
                return answer

        return guarded

    return decorate


def report(operation: str, error: Exception) -> None:
    """Log and count a failure that the caller of ``operation`` is not to see."""
    cause = type(error).__name__
    FAILURES.labels(operation, cause).inc()
    if isinstance(error, Mem0DownError):
        log.debug("memory_skipped", operation=operation, cause=str(error))
    elif isinstance(error, Mem0Error):
        log.warning("memory_failed", operation=operation, error=cause, cause=str(error))
    else:
        # Not exc_info: a renderer may show local variables, and those hold what users say.
        trace = "".join(traceback.format_exception(error))
        log.error("memory_failed", operation=operation, error=cause, trace=trace)


def nothing() -> None:
    """The empty answer of a function that returns ``None``."""
    return
