"""Who is due for a reconcile: one coalesced run per key, one in flight per key, N in all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from . import metrics

log = structlog.get_logger(__name__)

K = TypeVar("K", bound=Hashable)


@dataclass
class _State:
    due: asyncio.TimerHandle | None = None
    running: bool = False
    again: bool = False
    urgent: bool = False
    failures: int = 0


class Queue(Generic[K]):
    """Runs ``work(key)`` for every key that was woken, and again after failures.

    ``work`` returns False when it should be tried again later: after ``first`` seconds, then
    twice that, up to ``longest``. Wakes in that time do not hurry it, unless they are urgent.
    A wake during a run leads to one more run, ``settle`` seconds after it.
    """

    def __init__(
        self,
        work: Callable[[K], Awaitable[bool]],
        *,
        concurrency: int = 4,
        settle: float = 0.05,
        first: float = 1.0,
        longest: float = 60.0,
    ) -> None:
        self._work = work
        self._settle = settle
        self._first = first
        self._longest = longest
        self._slots = asyncio.Semaphore(concurrency)
        self._states: dict[K, _State] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self, key: K, *, urgent: bool = False) -> None:
        """Have ``key`` worked on soon."""
        state = self._states.setdefault(key, _State())
        if state.running:
            state.again = True
            state.urgent = state.urgent or urgent
        elif state.due is None:
            self._schedule(key, state, 0.0)
        elif urgent and state.failures:
            state.due.cancel()
            metrics.QUEUE.dec()
            self._schedule(key, state, 0.0)

    async def close(self) -> None:
        """Stop all work, at once."""
        for state in self._states.values():
            if state.due is not None:
                state.due.cancel()
        self._states.clear()
        metrics.QUEUE.set(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _schedule(self, key: K, state: _State, delay: float) -> None:
        loop = asyncio.get_running_loop()
        state.due = loop.call_later(delay, self._start, key, state)
        metrics.QUEUE.inc()

    def _start(self, key: K, state: _State) -> None:
        metrics.QUEUE.dec()
        state.due, state.running = None, True
        task = asyncio.get_running_loop().create_task(self._run(key, state))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, key: K, state: _State) -> None:
        settled = False
        try:
            async with self._slots:
                # What came while waiting for a slot is seen by this run.
                state.again = state.urgent = False
                settled = await self._work(key)
        except Exception:
            # A bug in one run must neither end the others nor go unseen.
            log.exception("a run failed in a way nobody foresaw", key=str(key))
        finally:
            state.running = False
            state.failures = 0 if settled else state.failures + 1
            if self._states.get(key) is state:
                self._next(key, state, settled=settled)

    def _next(self, key: K, state: _State, *, settled: bool) -> None:
        if state.urgent or (settled and state.again):
            self._schedule(key, state, self._settle)
        elif not settled:
            delay = self._first * 2 ** min(state.failures - 1, 20)
            self._schedule(key, state, min(self._longest, delay))
        else:
            del self._states[key]
