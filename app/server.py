"""Serve until SIGTERM, then finish what is under way."""

from __future__ import annotations

import math
import signal
import sys
import time
from types import FrameType

import uvicorn

from app.errors import ConfigurationError


class DrainingServer(uvicorn.Server):
    """Goes on accepting for a while after SIGTERM: the cluster learns late that we are leaving."""

    def __init__(self, config: uvicorn.Config, delay: float) -> None:
        """``delay``: seconds between SIGTERM and the end of accepting."""
        super().__init__(config)
        self._delay = delay
        self._until: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first SIGTERM drains; a second one, or Ctrl-C, stops accepting at once."""
        if sig == signal.SIGTERM and self._until is None:
            self._until = time.monotonic() + self._delay
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Asked ten times a second whether to stop."""
        if self._until is not None and time.monotonic() >= self._until:
            self.should_exit = True
        return await super().on_tick(counter)


def serve() -> int:
    """Run the server: 0 after a drain, 1 when it could not start, 2 for unusable settings."""
    try:
        from app.core import collector, config, logging
        from app.main import create_app

        settings = config.SETTINGS
        logging.configure(settings.log_level)
        app = create_app(settings)
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
        settings.drain_delay,
    )
    collector.settle()
    server.run()
    return 0 if server.started else 1
