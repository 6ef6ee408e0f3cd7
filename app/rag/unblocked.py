"""Synchronous reads on an event loop, without a thread for what is at hand.

The memory functions are synchronous: where they miss their cache they wait for Mem0. On an event
loop :func:`unblocked` calls them all the same: what is cached is answered there and then; a load
runs in a thread, the coroutine waits for it, and the call is made again with what was loaded. So
there is one implementation, and a warm read costs no thread hop.

:class:`app.rag.cache.ReadThrough` raises :class:`Pending` where it would have to wait;
:func:`refuse_to_wait` does so for everything else that would.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class Flight(Future[Any]):
    """A load under way; threads wait with ``result()``, coroutines with ``await landed()``.

    Whoever gives up waiting leaves the others and the load alone.
    """

    _guard = threading.Lock()  # one for all: it is held for a list's append

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}

    def landed(self) -> asyncio.Future[None]:
        """To be awaited until there is a result, an error or a cancellation; one's own."""
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[None] = loop.create_future()
        with self._guard:
            waiting = self._waiting.get(loop)
            if waiting is not None:
                waiting.append(mine)
                return mine
            self._waiting[loop] = [mine]
        # One callback a loop, however many wait there.
        self.add_done_callback(lambda _: self._tell(loop))
        return mine

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # closed: nobody waits there any more
            loop.call_soon_threadsafe(self._wake, loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._guard:
            waiting = self._waiting.pop(loop, [])
        for one in waiting:
            if not one.done():
                one.set_result(None)


class Pending(BaseException):
    """The call cannot go on without waiting: for ``flight``, or for something else when None."""

    def __init__(self, flight: Flight | None = None) -> None:
        super().__init__()
        self.flight = flight


class Run:
    """One unblocked call: the loads that it has asked for so far, by cache and key."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.flights: dict[Hashable, Flight] = {}


class _Current(threading.local):
    run: Run | None = None


current = _Current()
"""The run of the call that this thread is in, ``None`` where waiting is allowed."""


def refuse_to_wait() -> None:
    """To be called before waiting for a network: raises :class:`Pending` on an event loop."""
    if current.run is not None:
        raise Pending


async def unblocked(call: Callable[[], T], executor: Executor) -> T:
    """What ``call`` returns, with its loads in ``executor``; the event loop never waits.

    ``call`` may run more than once up to its first write, so it should only read. One that turns
    out to write (or to wait for anything that is no cached read) runs in ``executor`` as a whole.
    """
    run = Run(executor)
    while True:
        current.run = run
        try:
            return call()
        except Pending as pending:
            flight = pending.flight
        finally:
            current.run = None
        if flight is None:
            return await asyncio.get_running_loop().run_in_executor(executor, call)
        await flight.landed()
