"""Structured logs: one JSON object a line on stderr, with the id of the request it belongs to.

Bodies, keys and user text are never logged; mem0ai's own lines, which quote messages, are off.
"""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from typing import Any

import structlog
from structlog.typing import EventDict

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request that is being answered; every line said meanwhile bears it."""
_ENCODE = json.JSONEncoder(default=repr).encode


def configure_logging(level: str) -> None:
    """Send structlog's and the standard library's lines through one renderer.

    ``level``: debug, info, warning or error.
    """
    shared: list[structlog.typing.Processor] = [
        _request_id,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    # Ours go straight to stderr: each request writes one, and the standard library's way there
    # costs three times as much. Only lines of others take it.
    written = structlog.processors.JSONRenderer(serializer=_encoded)
    structlog.configure(
        processors=[*shared, written],
        logger_factory=_Lines,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                written,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "watchfiles", "psycopg.pool", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("mem0").setLevel(logging.CRITICAL + 1)


def _request_id(_: Any, __: str, event: EventDict) -> EventDict:
    request_id = REQUEST_ID.get()
    if request_id is not None:
        event["request_id"] = request_id
    return event


def _encoded(event: EventDict, **_: Any) -> str:
    """JSON, by an encoder that is made once; what it does not know is shown as Python does."""
    return _ENCODE(event)


class _Lines(structlog.WriteLogger):
    """Writes lines to stderr; ``name`` is the module that says them."""

    def __init__(self, name: str = "mem0_server") -> None:
        super().__init__(sys.stderr)
        self.name = name
