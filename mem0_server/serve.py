"""The server as a process. On SIGTERM requests go on being answered until all are."""

from __future__ import annotations

import functools
import signal
import ssl
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI

from mem0_server import collector
from mem0_server.api.services import Services
from mem0_server.app import create_app
from mem0_server.errors import SettingsError
from mem0_server.index.library import bring_in
from mem0_server.logs import configure_logging
from mem0_server.protocol import BoundedProtocol
from mem0_server.settings import Settings, load_settings

log = structlog.get_logger(__name__)

TICKS_PER_LOOK = 50  # ten ticks a second
LONGEST = 4  # so many times the delay is served on at most, however often somebody asks


def configuration(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How ``app`` is served.

    :raises SettingsError: certificate and key cannot be used.
    """
    protocol: Any = functools.partial(
        BoundedProtocol,
        head_timeout=settings.head_timeout,
        unread_timeout=settings.unread_timeout,
    )
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=protocol,
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # longer than clients keep a connection, so that they close first
        timeout_graceful_shutdown=settings.drain_timeout,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"TLS_CERT_FILE {settings.tls_cert_file} and TLS_KEY_FILE {settings.tls_key_file} "
            f"cannot be used: {error.strerror or error}"
        ) from None
    return config


class Certificate:
    """The files that TLS is served with; replaced ones are for the next connection."""

    def __init__(self, config: uvicorn.Config) -> None:
        """Watch the files of ``config``, if it has any."""
        self._context = config.ssl
        self._files = [str(f) for f in (config.ssl_certfile, config.ssl_keyfile) if f]
        self._seen = self._stamps()

    def look(self) -> None:
        """Take the files up when they have changed; those that cannot be used change nothing."""
        stamps = self._stamps()
        if self._context is None or stamps == self._seen:
            return
        self._seen = stamps
        try:
            self._context.load_cert_chain(*self._files)
        except (OSError, ssl.SSLError) as error:
            log.warning("certificate_unusable", reason=str(error))
        else:
            log.info("certificate_changed")

    def _stamps(self) -> list[tuple[int, int]]:
        found = [Path(file).stat() for file in self._files if Path(file).exists()]
        return [(stat.st_ino, stat.st_mtime_ns) for stat in found]


class DrainingServer(uvicorn.Server):
    """Goes on accepting after SIGTERM until nobody comes any more.

    The cluster learns late that we are leaving: on a busy node kube-proxy may take 10 s.
    """

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        """Serve ``config``; ``services.draining`` turns true with the signal."""
        super().__init__(config)
        self._services = services
        self._certificate = Certificate(config)
        self._told: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM drains; another one, or Ctrl-C, stops as soon as requests are answered."""
        if sig == signal.SIGTERM and self._told is None:
            self._services.draining = True
            self._told = time.monotonic()
            return
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Asked ten times a second whether to stop."""
        if self._told is not None:
            delay = self._services.settings.drain_delay
            last = min(max(self._told, self._services.asked) + delay, self._told + LONGEST * delay)
            self.should_exit = self.should_exit or time.monotonic() >= last
        if counter % TICKS_PER_LOOK == 0:
            self._certificate.look()
        return await super().on_tick(counter)


def serve() -> int:
    """Run until told to stop; exit status 0 after a drain, 2 for settings that cannot work."""
    try:
        settings = load_settings()
        configure_logging(settings.log_level)
        app = create_app(settings)
        config = configuration(app, settings)
    except SettingsError as error:
        print(f"mem0_server: {error.message}", file=sys.stderr)
        return 2
    server = DrainingServer(config, app.state.services)
    bring_in(settings)
    collector.settle()
    server.run()
    return 0 if server.started else 1
