"""One way of logging: JSON lines for a cluster, readable lines for a terminal."""

from __future__ import annotations

import logging
import sys

import structlog

# Chatty neighbours: what they have to say is said by our own lines, or is of no use.
_QUIET = {
    "httpx2": logging.WARNING,
    "httpcore2": logging.WARNING,
    "asyncio": logging.WARNING,
}

# Libraries whose errors are about the API server, and not about our code.
_TELL_NO_PLACE = ("kopf", "aiohttp")


def configure(level: str = "INFO") -> None:
    """Send every log line of this process, the libraries' included, to stderr."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    if level != "DEBUG":
        handler.addFilter(_without_foreign_traces)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(max(quiet, root.level))
    # kopf repeats every retry of every stream at error level; the watchdog says it once.
    logging.getLogger("kopf").setLevel(root.level if level == "DEBUG" else logging.WARNING)


def _without_foreign_traces(record: logging.LogRecord) -> bool:
    """What the API server answered to kopf is said in one line; where in kopf, helps nobody."""
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and type(error).__module__.split(".")[0] in _TELL_NO_PLACE:
        record.exc_info = None
    return True
