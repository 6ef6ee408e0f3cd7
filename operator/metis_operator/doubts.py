"""What may have been deleted unseen, and when it is time to look.

A stream that begins anew lists what is there; of what went before that, nobody will tell. Once
the lists have ended, what is known and was not among the listed is worth a look.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from .core.objects import Kind


class Doubts:
    """Kinds in doubt, each with the uids that streams have listed of it since.

    A list is taken as ended when nothing more of it has come for ``quiet`` seconds of ``clock``.
    """

    def __init__(self, *, quiet: float = 2.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet = quiet
        self._clock = clock
        self._listed: dict[Kind, set[str] | None] = {}  # None: whatever was listed, look
        self._last = 0.0
        self._any = asyncio.Event()

    def begun(self, kind: Kind) -> None:
        """Take in that a stream begins to list ``kind``.

        When that is in doubt already, what was listed before is worth nothing any more.
        """
        self._listed[kind] = None if kind in self._listed else set()
        self._note()

    def listed(self, kind: Kind, uid: str) -> None:
        """Take in that a stream lists this one."""
        listed = self._listed.setdefault(kind, set())
        if listed is not None:
            listed.add(uid)
        self._note()

    def everything(self, kinds: Iterable[Kind]) -> None:
        """Doubt all that is known of ``kinds``."""
        self._listed |= dict.fromkeys(kinds)
        self._note()

    async def settled(self) -> dict[Kind, set[str] | None]:
        """Wait for doubts and for the end of all lists; gives by kind what was listed, or None.

        They are no doubts any more then.
        """
        await self._any.wait()
        while (left := self._last + self._quiet - self._clock()) > 0:  # noqa: ASYNC110  for silence
            await asyncio.sleep(left)
        taken, self._listed = self._listed, {}
        self._any.clear()
        return taken

    def _note(self) -> None:
        self._last = self._clock()
        self._any.set()
