"""Read-through caches: one load per miss, no stale fill, no value shared with a caller.

Knows nothing of memory or HTTP. A key has two parts, both tuples: the *group*, which is what a
write invalidates (a conversation, say), and the *rest* (a limit, a query). Tuples are compared
as they are, so ``user1`` and ``user10``, or an id with a slash in it, are never neighbours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from cachetools import TTLCache

T = TypeVar("T")
Group = tuple[str, ...]
Rest = tuple[str | int | None, ...]
Key = tuple[Group, Rest]


@dataclass
class CacheStats:
    """Counters of one cache since it was made; ``load_seconds`` is the sum over ``loads``."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    errors: int = 0
    loads: int = 0
    load_seconds: float = 0.0
    size: int = 0


def copied(value: Any) -> Any:
    """A deep copy of a JSON value: what ``copy.deepcopy`` gives, without its bookkeeping."""
    if type(value) is dict:
        return {key: copied(item) for key, item in value.items()}
    if type(value) is list:
        return [copied(item) for item in value]
    return value


class GroupedTTLCache(TTLCache[Key, Any]):
    """A ``TTLCache`` that forgets a whole group in time proportional to that group.

    Not locked: :class:`ReadThrough` is its only writer.
    """

    def __init__(
        self, maxsize: float, ttl: float, timer: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(maxsize, ttl, timer)
        self.evictions = 0
        self._groups: dict[Group, set[Key]] = {}

    def drop(self, group: Group) -> None:
        """Forget every entry of ``group``."""
        for key in self._groups.pop(group, ()):
            self.pop(key, None)

    def __setitem__(self, key: Key, value: Any) -> None:
        super().__setitem__(key, value)
        self._groups.setdefault(key[0], set()).add(key)

    def __delitem__(self, key: Key) -> None:
        self._unlist(key)
        super().__delitem__(key)

    def popitem(self) -> tuple[Key, Any]:
        """Evict the least recently used entry to make room."""
        item: tuple[Key, Any] = super().popitem()
        self.evictions += 1
        return item

    def expire(self, time: float | None = None) -> Any:
        """Remove the entries whose time is over; returns them."""
        expired = super().expire(time)
        for key, _ in expired:
            self._unlist(key)
        return expired

    def clear(self) -> None:
        """Forget everything; this is no eviction."""
        super().clear()
        self._groups.clear()

    def _unlist(self, key: Key) -> None:
        keys = self._groups.get(key[0])
        if keys is not None:
            keys.discard(key)
            if not keys:
                del self._groups[key[0]]


class ReadThrough:
    """A thread-safe cache in front of a slow read.

    ``store`` is the ``TTLCache`` itself, for a look inside; go through the methods to change it.
    A load that is under way is a *flight*. Readers that miss the same key join it; an
    invalidation takes it off the board, so that what it brings is handed to those who already
    wait but neither stored nor given to anyone who asks later.
    """

    def __init__(
        self, maxsize: int, ttl: float, timer: Callable[[], float] = time.monotonic
    ) -> None:
        """Hold at most ``maxsize`` entries for ``ttl`` seconds each."""
        self.store = GroupedTTLCache(maxsize, ttl, timer)
        self._lock = threading.Lock()
        self._flights: dict[Key, Future[Any]] = {}
        self._stats = CacheStats()

    def read(self, group: Group, rest: Rest, load: Callable[[], T | None]) -> T | None:
        """The value under ``(group, rest)``, a copy of the caller's own; else what ``load`` gives.

        ``load`` runs outside the lock, once for all that wait. Its exception goes to each of them
        and its ``None`` ("there is no such thing") likewise; neither is stored.
        """
        key = (group, rest)
        while True:
            with self._lock:
                try:
                    value = self.store[key]
                except KeyError:
                    self._stats.misses += 1
                    flight = self._flights.get(key)
                    first = flight is None
                    if flight is None:
                        flight = self._flights[key] = Future()
                else:
                    self._stats.hits += 1
                    return cast("T | None", copied(value))
            try:
                found = self._fly(key, flight, load) if first else flight.result()
            except CancelledError:
                continue  # the one who loaded was interrupted, which is no answer for us
            return cast("T | None", copied(found))

    def drop(self, group: Group) -> None:
        """Forget ``group``, loads under way included."""
        with self._lock:
            self.store.drop(group)
            for key in [key for key in self._flights if key[0] == group]:
                del self._flights[key]

    def clear(self) -> None:
        """Forget everything, loads under way included."""
        with self._lock:
            self.store.clear()
            self._flights.clear()

    def stats(self) -> CacheStats:
        """The counters as they stand now."""
        with self._lock:
            now = self._stats
            return CacheStats(
                now.hits,
                now.misses,
                self.store.evictions,
                now.errors,
                now.loads,
                now.load_seconds,
                len(self.store),
            )

    def _fly(self, key: Key, flight: Future[Any], load: Callable[[], T | None]) -> T | None:
        started = time.perf_counter()
        try:
            value = load()
        except BaseException as error:
            with self._lock:
                self._land(key, flight, started)
                self._stats.errors += 1
            if isinstance(error, Exception):
                flight.set_exception(error)
            else:
                flight.cancel()
            raise
        with self._lock:
            if self._land(key, flight, started) and value is not None:
                self.store[key] = value
        flight.set_result(value)
        return value

    def _land(self, key: Key, flight: Future[Any], started: float) -> bool:
        """End a flight, lock held; True when no invalidation came in between."""
        self._stats.loads += 1
        self._stats.load_seconds += time.perf_counter() - started
        if self._flights.get(key) is not flight:
            return False
        del self._flights[key]
        return True
