"""The four caches of memory as one thing: made, tuned, emptied and trusted together.

Something that is no longer true is an :class:`Invalidation`: it is forgotten here, and handed to
``tell`` where other replicas hold caches too (:mod:`app.rag.coherence`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args

from app.rag.cache import ABSENT_TTL, CacheStats, Group, Limits, ReadThrough
from app.rag.mem0_metrics import CACHE_LOAD_SECONDS

CacheType = Literal["human", "recall", "archival", "search"]
CACHES: tuple[CacheType, ...] = get_args(CacheType)

DEFAULTS: Mapping[CacheType, Limits] = {
    "human": Limits(1000, 300.0),  # agents too
    "recall": Limits(1000, 60.0),
    "archival": Limits(2000, 300.0),
    "search": Limits(2000, 120.0),
}


class Invalidation(NamedTuple):
    """What is to be forgotten: a group, or a whole cache, or (all ``None``) everything."""

    cache: CacheType | None = None
    group: Group | None = None


class MemoryCaches:
    """The caches by type."""

    def __init__(self, limits: Mapping[CacheType, Limits]) -> None:
        self.tell: Callable[[Invalidation], None] | None = None
        self._caches = {
            name: ReadThrough(limits[name], on_load=CACHE_LOAD_SECONDS.labels(name).observe)
            for name in CACHES
        }

    def __getitem__(self, name: CacheType) -> ReadThrough:
        return self._caches[name]

    def drop(self, cache: CacheType, group: Group) -> None:
        """Forget a group, here at once and on all replicas soon."""
        self._invalidate(Invalidation(cache, group))

    def clear(self, cache: CacheType | None = None) -> None:
        """Forget all of a cache, or everything, here at once and on all replicas soon."""
        if cache is not None and cache not in CACHES:
            raise ValueError(f"there is no cache {cache!r}; there are: {', '.join(CACHES)}")
        self._invalidate(Invalidation(cache))

    def forget(self, what: Invalidation) -> None:
        """Forget ``what``, here only."""
        for name in CACHES if what.cache is None else (what.cache,):
            if what.group is None:
                self._caches[name].clear()
            else:
                self._caches[name].drop(what.group)

    def trust_until(self, moment: float) -> None:
        """Serve entries until ``moment`` (of ``time.monotonic``), and go past them from then on."""
        for cache in self._caches.values():
            cache.trusted_until = moment

    def load_only_if(self, check: Callable[[], object]) -> None:
        """Load nothing while ``check`` raises; its error is then what a miss raises."""
        for cache in self._caches.values():
            cache.may_load = check

    def tune(self, limits: Mapping[CacheType, Limits]) -> None:
        """Keep to other limits from now on."""
        for name, cache in self._caches.items():
            cache.tune(limits[name])

    def stats(self) -> dict[CacheType, CacheStats]:
        """The counters of each cache."""
        return dict(self._stats())

    def _stats(self) -> Iterator[tuple[CacheType, CacheStats]]:
        for name, cache in self._caches.items():
            yield name, cache.stats()

    def _invalidate(self, what: Invalidation) -> None:
        self.forget(what)
        if self.tell is not None:
            self.tell(what)


def limits_from(settings: Any) -> dict[CacheType, Limits]:
    """The limits that settings give each cache; the defaults where they give none."""
    absent_ttl = positive(settings, "mem0_not_found_ttl", ABSENT_TTL)
    return {
        name: Limits(
            int(positive(settings, f"mem0_{name}_cache_size", usual.size)),
            positive(settings, f"mem0_{name}_cache_ttl", usual.ttl),
            absent_ttl,
        )
        for name, usual in DEFAULTS.items()
    }


def positive(settings: Any, name: str, default: float) -> float:
    """A setting that is a number above 0, else ``default``."""
    value = getattr(settings, name, None)
    return float(value) if isinstance(value, int | float) and value > 0 else default
