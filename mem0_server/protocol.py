"""HTTP connections that do not wait for ever: for a request's head, for an answer to be read."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
ARRIVED = "mem0.body_arrived"
"""True in the scope of a request whose body came with its head, so that nobody need wait for it."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which itself bounds only the time between two requests."""

    def __init__(self, *given: Any, head_timeout: float, unread_timeout: float, **named: Any):
        """Seconds for a head to arrive, and without any of an answer being read."""
        super().__init__(*given, **named)
        self._head_timeout = head_timeout
        self._unread_timeout = unread_timeout
        self._in_head = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._await_head()

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._in_head = False
        self._stop_head_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is there; its task, made with the head, may have begun already."""
        self.scope[ARRIVED] = True  # type: ignore[literal-required]
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Bytes came. A head may have so many, and one that is not whole yet is waited for."""
        super().data_received(data)
        if self._in_head and self._head_timer is None:
            self._await_head()
        if self._head_timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.abort()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        if self._unread_timer is None:
            self._await_reading()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._stop_unread_timer()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_head_timer()
        self._stop_unread_timer()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self._head_timeout, self.transport.abort)

    def _await_reading(self) -> None:
        """A client that reads, however slowly, is served."""
        unread = self.transport.get_write_buffer_size()

        def look() -> None:
            self._unread_timer = None
            if self.transport.get_write_buffer_size() < unread:
                self._await_reading()
            else:
                self.transport.abort()

        self._unread_timer = self.loop.call_later(self._unread_timeout, look)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None
