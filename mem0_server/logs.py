"""Structured logs: one JSON object a line on stderr, with the id of the request it belongs to.

Bodies, keys and user text are never logged; mem0ai's own lines, which quote messages, are off.
"""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logging(level: str) -> None:
    """Send structlog's and the standard library's lines through one renderer.

    ``level``: debug, info, warning or error.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    # Ours go straight to stderr: each request writes one, and the standard library's way there
    # costs three times as much. Only lines of others take it.
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
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
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "watchfiles", "psycopg.pool", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("mem0").setLevel(logging.CRITICAL + 1)


class _Lines(structlog.WriteLogger):
    """Writes lines to stderr; ``name`` is the module that says them."""

    def __init__(self, name: str = "mem0_server") -> None:
        super().__init__(sys.stderr)
        self.name = name
