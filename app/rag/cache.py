"""Read-through caches: one load per miss, no stale fill, no value shared with a caller.

Knows nothing of memory or HTTP. A key has two parts, both tuples: the *group*, which is what a
write invalidates (a conversation, say), and the *rest* (a limit, a query). Tuples are compared
as they are, so ``user1`` and ``user10``, or an id with a slash in it, are never neighbours.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from cachetools import TTLCache

from app.rag.frozen import Frozen
from app.rag.unblocked import Flight, Pending, current

Group = tuple[str, ...]
Rest = tuple[str | int | None, ...]
Key = tuple[Group, Rest]
Load = Callable[[], Any]
T = TypeVar("T")

ABSENT_TTL = 5.0


@dataclass(frozen=True)
class Limits:
    """What a cache may hold: ``size`` entries for ``ttl`` seconds, "not found" ``absent_ttl``."""

    size: int
    ttl: float
    absent_ttl: float = ABSENT_TTL


@dataclass
class CacheStats:
    """Counters of one cache since it was made; ``load_seconds`` is the sum over ``loads``.

    ``bypassed`` are the misses due to entries that might have been stale.
    """

    hits: int = 0
    misses: int = 0
    bypassed: int = 0
    evictions: int = 0
    errors: int = 0
    loads: int = 0
    load_seconds: float = 0.0
    size: int = 0


class GroupedTTLCache(TTLCache[Key, Any]):
    """A ``TTLCache`` that forgets a whole group in time proportional to that group.

    It also keeps the order of use itself, which makes a hit through :meth:`fresh` three times as
    fast as one by index. Not locked: :class:`ReadThrough` is its only writer.
    """

    def __init__(
        self, maxsize: float, ttl: float, timer: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(maxsize, ttl, timer)
        self.evictions = 0
        self._groups: dict[Group, set[Key]] = {}
        self._used: OrderedDict[Key, tuple[float, Any]] = OrderedDict()  # latest use last

    def fresh(self, key: Key, now: float) -> Any:
        """The value of ``key`` when its time is not over at ``now``, else ``None``.

        The one method that needs no lock: it looks once, and each step is one of the dictionary's.
        """
        entry = self._used.get(key)
        if entry is None or now >= entry[0]:
            return None
        try:
            self._used.move_to_end(key)
        except KeyError:  # dropped just now: it was true when it was looked at
            return entry[1]
        return entry[1]

    def put(self, key: Key, value: Any, ttl: float) -> None:
        """Store ``value`` for ``ttl`` seconds, or for the cache's own TTL when that is shorter."""
        super().__setitem__(key, value)
        self._groups.setdefault(key[0], set()).add(key)
        self._used[key] = (self.timer() + min(ttl, self.ttl), value)
        self._used.move_to_end(key)

    def drop(self, group: Group) -> None:
        """Forget every entry of ``group``."""
        for key in self._groups.pop(group, ()):
            self.pop(key, None)

    def __setitem__(self, key: Key, value: Any) -> None:
        self.put(key, value, self.ttl)

    def __delitem__(self, key: Key) -> None:
        self._unlist(key)
        super().__delitem__(key)

    def popitem(self) -> tuple[Key, Any]:
        """Evict the least recently used entry to make room."""
        with self.timer as now:
            self.expire(now)
            key, (_, value) = next(iter(self._used.items()))
            del self[key]
        self.evictions += 1
        return key, value

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
        self._used.clear()

    def _unlist(self, key: Key) -> None:
        self._used.pop(key, None)
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

    ``may_load`` raises where there is no use in loading; a miss asks it before anything waits, so
    that it costs no thread and does not join a load that hangs.

    From ``trusted_until`` on (a reading of ``timer``) entries might be stale, and reads go past
    them; what they load is kept for when there is trust again.
    """

    def __init__(
        self,
        limits: Limits,
        timer: Callable[[], float] = time.monotonic,
        on_load: Callable[[float], None] | None = None,
    ) -> None:
        """Hold what ``limits`` allow; ``on_load`` is told the seconds that each load took."""
        self.limits = limits
        self.store = GroupedTTLCache(limits.size, limits.ttl, timer)
        self.trusted_until = math.inf
        self.may_load: Callable[[], object] | None = None
        self._timer = timer
        self._on_load = on_load
        self._lock = threading.Lock()
        self._flights: dict[Group, dict[Key, Flight]] = {}
        self._stats = CacheStats()

    def read(self, group: Group, rest: Rest, load: Callable[[], T | None]) -> T | None:
        """The value under ``(group, rest)``, the caller's own, else what ``load`` gives.

        ``load`` runs outside the lock, once for all that wait. Its exception goes to each of them
        and is not kept; its ``None`` ("there is no such thing") is kept for the short time that
        ``limits`` give it.
        """
        return cast("T | None", self.frozen((group, rest), load).copy())

    def frozen(self, key: Key, load: Load) -> Frozen:
        """Like :meth:`read`, but shared: its ``view`` cannot be changed, its ``copy()`` is new."""
        now = self._timer()
        if now < self.trusted_until:
            value: Frozen | None = self.store.fresh(key, now)
            if value is not None:
                self._stats.hits += 1
                return value
        return self._missed(key, load)

    def drop(self, group: Group) -> None:
        """Forget ``group``, loads under way included."""
        with self._lock:
            self.store.drop(group)
            self._flights.pop(group, None)

    def clear(self) -> None:
        """Forget everything, loads under way included."""
        with self._lock:
            self.store.clear()
            self._flights.clear()

    def tune(self, limits: Limits) -> None:
        """Keep to other limits from now on; when they differ, the cache starts empty."""
        with self._lock:
            if limits == self.limits:
                return
            evictions = self.store.evictions
            self.limits = limits
            self.store = GroupedTTLCache(limits.size, limits.ttl, self._timer)
            self.store.evictions = evictions
            self._flights.clear()

    def stats(self) -> CacheStats:
        """The counters as they stand now."""
        with self._lock:
            return replace(self._stats, evictions=self.store.evictions, size=len(self.store))

    def _missed(self, key: Key, load: Load) -> Frozen:
        if self.may_load is not None:
            self.may_load()
        while True:
            run = current.run
            first = False
            with self._lock:
                now = self._timer()
                trusted = now < self.trusted_until
                value: Frozen | None = self.store.fresh(key, now) if trusted else None
                if value is not None:  # somebody was faster
                    self._stats.hits += 1
                    return value
                flight = run.flights.get((id(self), key)) if run else None
                if flight is None:
                    self._stats.misses += 1
                    self._stats.bypassed += not trusted
                    board = self._flights.setdefault(key[0], {})
                    first = key not in board
                    flight = board.setdefault(key, Flight()) if first else board[key]
                    if run:
                        run.flights[id(self), key] = flight
            if run and not flight.done():
                if first:
                    self._fly_in(run.executor, key, flight, load)
                raise Pending(flight)
            try:
                found: Frozen = self._fly(key, flight, load) if first else flight.result()
            except CancelledError:  # who loaded was interrupted, which is no answer for us
                if run:
                    del run.flights[id(self), key]
                continue
            return found

    def _fly(self, key: Key, flight: Flight, load: Load) -> Frozen:
        started = time.perf_counter()
        try:
            value = Frozen(load())
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
            if self._land(key, flight, started):
                absent = value.view is None
                self.store.put(key, value, self.limits.absent_ttl if absent else self.limits.ttl)
        flight.set_result(value)
        return value

    def _fly_in(self, executor: Any, key: Key, flight: Flight, load: Load) -> None:
        try:
            executor.submit(self._fly, key, flight, load)
        except RuntimeError:  # the executor is shut down
            self._fly(key, flight, _unable)

    def _land(self, key: Key, flight: Flight, started: float) -> bool:
        """End a flight, lock held; True when no invalidation came in between."""
        took = time.perf_counter() - started
        self._stats.loads += 1
        self._stats.load_seconds += took
        if self._on_load:
            self._on_load(took)
        board = self._flights.get(key[0], {})
        if board.get(key) is not flight:
            return False
        del board[key]
        if not board:
            del self._flights[key[0]]
        return True


def _unable() -> None:
    raise RuntimeError("the app is stopping, so nothing is loaded any more")
