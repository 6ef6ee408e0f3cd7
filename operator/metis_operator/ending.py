"""A process that is to end, ends: also when something in it never lets go."""

from __future__ import annotations

import os
import threading

import structlog

log = structlog.get_logger(__name__)


class LastResort:
    """Ends the process ``seconds`` after ``start``, whatever its event loop does.

    Nothing is lost: all that an operator knows stands in the cluster, and a Lease that was not
    given back runs out.
    """

    def __init__(self, seconds: float, exit_code: int) -> None:
        self._seconds = seconds
        self._exit_code = exit_code
        self._timer: threading.Timer | None = None

    def start(self) -> None:
        """Begin to count, unless that was begun before."""
        if self._timer is None:
            self._timer = threading.Timer(self._seconds, self._end)
            self._timer.daemon = True
            self._timer.start()

    def cancel(self) -> None:
        """It has ended by itself, or goes on after all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        log.error("the process does not end by itself, and is ended", after=self._seconds)
        os._exit(self._exit_code)
