"""Which watches are open: seen at the HTTP session that kopf works with.

Kopf tells nobody when one of its streams waits for something that never comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import aiohttp
import kopf

from .transport import UNCOMPRESSED

# A stream is opened again at the latest 10 s after the API server is back; see watch.BACKOFFS.
LIMIT = 30.0


class Answer(Protocol):
    """What is asked of an answer; aiohttp's is one."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def closed(self) -> bool:
        """Whether nothing more comes."""


class Streams:
    """The watches that ought to be open, by the path they are asked for under.

    ``expected`` are their paths; what else is watched may come and go. ``on_list`` is told the
    path of what a stream that begins anew begins to list. ``clock`` gives seconds.
    """

    def __init__(
        self,
        expected: Iterable[str] = (),
        on_list: Callable[[str], None] = lambda path: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_list = on_list
        self._clock = clock
        self._answers: dict[str, Answer | None] = dict.fromkeys(expected)
        self._lost: dict[str, float] = {}
        self._sessions: dict[kopf.ConnectionInfo, kopf.AiohttpSession] = {}

    def note(self, path: str, answer: Answer) -> None:
        """Take in that a watch was answered."""
        if path in self._answers:
            self._answers[path] = answer

    def listed(self, path: str, *, first: bool = False) -> None:
        """Take in that a page, or the first, of what is watched was answered.

        Its watch is about to begin. That takes its time where there are thousands; after a
        refused watch it says nothing.
        """
        if path in self._answers and not self._is_refused(path):
            self._lost.pop(path, None)
        if first:
            self._on_list(path)

    def _is_refused(self, path: str) -> bool:
        answer = self._answers[path]
        return answer is not None and answer.status >= 400

    def dead(self, *, up: bool) -> str | None:
        """The path of a watch that has not been open for long; None while all is well.

        To be asked often. As long as the API server is not ``up`` no watch can be open.
        """
        now = self._clock()
        for path, answer in self._answers.items():
            is_open = answer is not None and not self._is_refused(path) and not answer.closed
            if not up or is_open:
                self._lost.pop(path, None)
            elif now - self._lost.setdefault(path, now) > LIMIT:
                return path
        return None

    def session(self, info: kopf.ConnectionInfo) -> kopf.AiohttpSession:
        """A session for kopf that logs in as ``info`` says and tells of its watches.

        The same for the same login: kopf has to know again what the API server refused before.
        """
        known = self._sessions.get(info)
        if known is None:
            known = self._sessions[info] = kopf.AiohttpSession(
                server=info.server,
                priority=info.priority,
                default_namespace=info.default_namespace,
                expiration=info.expiration,
                aiohttp_session=aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
                    headers=dict(info.as_http_headers()) | UNCOMPRESSED,
                    proxy=info.proxy_url,
                    trust_env=info.trust_env,
                    trace_configs=[self._trace()],
                ),
            )
        return known

    def _trace(self) -> aiohttp.TraceConfig:
        async def ended(_session: Any, _context: Any, told: aiohttp.TraceRequestEndParams) -> None:
            if told.url.query.get("watch"):
                self.note(told.url.path, told.response)
            elif told.response.status < 400:
                self.listed(told.url.path, first="continue" not in told.url.query)

        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(ended)
        return trace
