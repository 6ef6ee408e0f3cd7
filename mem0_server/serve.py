"""The server as a process. On SIGTERM requests go on being answered until all are."""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType

import uvicorn

from mem0_server.api.services import Services
from mem0_server.app import create_app
from mem0_server.errors import SettingsError
from mem0_server.logs import configure_logging
from mem0_server.settings import load_settings


class DrainingServer(uvicorn.Server):
    """Goes on accepting for a while after SIGTERM: the cluster learns late that we are leaving."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        """Serve ``config``; ``services.draining`` turns true with the signal."""
        super().__init__(config)
        self._services = services
        self._until: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM drains; another one, or Ctrl-C, stops as soon as requests are answered."""
        if sig == signal.SIGTERM and self._until is None:
            self._services.draining = True
            self._until = time.monotonic() + self._services.settings.drain_delay
            return
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Asked ten times a second whether to stop."""
        if self._until is not None and time.monotonic() >= self._until:
            self.should_exit = True
        return await super().on_tick(counter)


def serve() -> int:
    """Run until told to stop; exit status 0 after a drain, 2 for settings that cannot work."""
    try:
        settings = load_settings()
        configure_logging(settings.log_level)
        app = create_app(settings)
    except SettingsError as error:
        print(f"mem0_server: {error.message}", file=sys.stderr)
        return 2
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # longer than clients keep a connection, so that they close first
        timeout_graceful_shutdown=settings.drain_timeout,
    )
    server = DrainingServer(config, app.state.services)
    server.run()
    return 0 if server.started else 1
