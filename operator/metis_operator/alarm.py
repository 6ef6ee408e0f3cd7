"""Wakes for later: each MetisRAG at the soonest of the times that were asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .observe import Instance

# The resync wakes everybody anyway.
_LONGEST = 3600.0


class Alarm:
    """Calls ``wake`` for an instance once its time has come."""

    def __init__(self, wake: Callable[[Instance], None]) -> None:
        self._wake = wake
        self._timers: dict[Instance, asyncio.TimerHandle] = {}

    def set(self, instance: Instance, seconds: float) -> None:
        """Wake it after that time, or sooner where that was asked for before."""
        loop = asyncio.get_running_loop()
        due = loop.time() + min(seconds, _LONGEST)
        timer = self._timers.get(instance)
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timers[instance] = loop.call_at(due, self._ends, instance)

    def forget(self, instance: Instance) -> None:
        """Wake it no more."""
        timer = self._timers.pop(instance, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """Wake nobody any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _ends(self, instance: Instance) -> None:
        del self._timers[instance]
        self._wake(instance)
