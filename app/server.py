"""Serve until SIGTERM, then finish what is under way."""

from __future__ import annotations

import math
import signal
import sys
import time
from types import FrameType

import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ConfigurationError

_PROBES = ("/health", "/ready", "/metrics")
_LONGEST = 4
"""So many times the delay is served on at most, however often somebody asks."""


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
