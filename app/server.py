"""Serve until SIGTERM, then finish what is under way."""

from __future__ import annotations

import math
import signal
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from app.errors import ConfigurationError

if TYPE_CHECKING:
    from app.api.middleware import Farewell

_LONGEST = 4
"""So many times the delay is served on at most, however often somebody asks."""


class DrainingServer(uvicorn.Server):
    """Goes on accepting after SIGTERM until nobody comes any more.

    The cluster learns late that we are leaving: on a busy node kube-proxy may take 10 s.
    """

    def __init__(self, config: uvicorn.Config, farewell: Farewell, delay: float) -> None:
        """``delay``: seconds that it goes on after SIGTERM and after the last request since."""
        super().__init__(config)
        self._farewell = farewell
        self._delay = delay
        self._told: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first SIGTERM drains; a second one, or Ctrl-C, stops accepting at once."""
        self._farewell.leaving = True
        if sig == signal.SIGTERM and self._told is None:
            self._told = time.monotonic()
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Asked ten times a second whether to stop."""
        if self._told is not None:
            last = min(
                max(self._told, self._farewell.asked) + self._delay,
                self._told + _LONGEST * self._delay,
            )
            self.should_exit = self.should_exit or time.monotonic() >= last
        return await super().on_tick(counter)


def serve() -> int:
    """Run the server: 0 after a drain, 1 when it could not start, 2 for unusable settings."""
    try:
        from app.api.middleware import Farewell
        from app.core import collector, config, logging
        from app.main import create_app

        settings = config.SETTINGS
        logging.configure(settings.log_level)
        app = Farewell(create_app(settings))
    except ConfigurationError as error:
        print(f"metis: {error.message}", file=sys.stderr)
        return 2
    server = DrainingServer(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,  # longer than clients keep a connection, so they close first
            timeout_graceful_shutdown=math.ceil(settings.drain_timeout),
        ),
        app,
        settings.drain_delay,
    )
    collector.settle()
    server.run()
    return 0 if server.started else 1
