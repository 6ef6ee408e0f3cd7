"""The circuit breaker before Mem0: while nobody answers, nobody waits.

Closed, calls go through. A call that got no answer opens it at once, a run of 5xx answers after
``TOLERATED`` of them. Open, calls fail there and then, and a thread of its own asks the server
whether it is back (that is all there is of "half open": no caller is sent ahead to find out).
The thread lives as long as the outage.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from app.rag.mem0_errors import Mem0DownError
from app.rag.mem0_metrics import BREAKER_OPEN

TOLERATED = 5
"""5xx answers in a row that open the breaker."""
PROBE_SECONDS = (0.05, 1.0)
"""The first and the longest pause between two probes; each is twice the one before, with jitter."""


class Breaker:
    """Open or closed, and how it closes again."""

    def __init__(
        self, is_back: Callable[[], bool], pauses: tuple[float, float] = PROBE_SECONDS
    ) -> None:
        """``is_back`` asks the server and may take some time; it must not raise."""
        self._is_back = is_back
        self._pauses = pauses
        self._lock = threading.Lock()
        self._open = False
        self._bad = 0
        self._over = threading.Event()

    @property
    def is_open(self) -> bool:
        """Whether calls are turned away."""
        return self._open

    def check(self) -> None:
        """Raise Mem0DownError while open."""
        if self._open:
            raise Mem0DownError("Mem0 does not answer; it is asked again as soon as it does")

    def unreachable(self) -> None:
        """A call got no answer."""
        self._trip()

    def unwell(self) -> None:
        """The server answered that it cannot."""
        self._bad += 1
        if self._bad >= TOLERATED:
            self._trip()

    def served(self) -> None:
        """The server answered as it should; an open breaker waits for its probe all the same."""
        self._bad = 0

    def close(self) -> None:
        """End the probing for good."""
        self._over.set()

    def _trip(self) -> None:
        with self._lock:
            if self._open or self._over.is_set():
                return
            self._open = True
        BREAKER_OPEN.set(1)
        threading.Thread(target=self._probe, name="memory-probe", daemon=True).start()

    def _probe(self) -> None:
        pause, longest = self._pauses
        while not self._over.wait(random.uniform(pause / 2, pause)):  # noqa: S311 - no secret
            if self._is_back():
                break
            pause = min(2 * pause, longest)
        self._bad = 0
        self._open = False
        BREAKER_OPEN.set(0)
