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


class Farewell:
    """Sends the clients of ``app`` elsewhere with its answers, once ``leaving`` is set.

    One that kept its connection would sooner or later send a request just when it is closed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.leaving = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def sent(message: Message) -> None:
            if self.leaving and message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self._app(scope, receive, sent)


class DrainingServer(uvicorn.Server):
    """Goes on accepting for a while after SIGTERM: the cluster learns late that we are leaving."""

    def __init__(self, config: uvicorn.Config, farewell: Farewell, delay: float) -> None:
        """``delay``: seconds between SIGTERM and the end of accepting."""
        super().__init__(config)
        self._farewell = farewell
        self._delay = delay
        self._until: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first SIGTERM drains; a second one, or Ctrl-C, stops accepting at once."""
        self._farewell.leaving = True
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
