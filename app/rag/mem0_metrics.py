"""What memory tells Prometheus about itself, in the process's default registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.rag.cache import CacheStats

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)

REQUEST_SECONDS = Histogram(
    "metis_mem0_request_seconds",
    "Time of one HTTP exchange with the Mem0 server by operation (one route each), failed ones "
    "included.",
    ["operation"],
    buckets=_SECONDS,
)
RETRIES = Counter(
    "metis_mem0_retries_total", "Exchanges with the Mem0 server that were repeats.", ["operation"]
)
BREAKER_OPEN = Gauge(
    "metis_mem0_breaker_open", "1 while Mem0 does not answer and is therefore not asked."
)
FAILURES = Counter(
    "metis_memory_failures_total",
    "Memory operations that gave their empty answer because something failed.",
    ["operation", "cause"],
)
CACHE_LOAD_SECONDS = Histogram(
    "metis_memory_cache_load_seconds",
    "Time of one load of a memory cache, failed ones included.",
    ["cache"],
    buckets=_SECONDS,
)
COHERENT = Gauge(
    "metis_memory_coherent", "1 while this replica hears of the writes of all others, else 0."
)
INVALIDATIONS = Counter(
    "metis_memory_invalidations_total",
    "Invalidations told to other replicas, and heard from them.",
    ["direction"],
)


Stats = Callable[[], Mapping[Any, CacheStats]]
"""Gives the counters of each cache by its name."""


class CacheMetrics(Collector):
    """The counters that caches keep themselves, read when Prometheus asks."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """One family a counter, labelled by cache."""
        stats = self._stats()
        for name, what in (
            ("hits", "Reads served from a memory cache."),
            ("misses", "Reads that a memory cache could not serve."),
            ("bypassed", "Misses due to entries that might have been stale."),
            ("evictions", "Entries that made room for others."),
            ("errors", "Loads that failed."),
        ):
            counter = CounterMetricFamily(f"metis_memory_cache_{name}", what, labels=["cache"])
            for cache, of in stats.items():
                counter.add_metric([cache], getattr(of, name))
            yield counter
        entries = GaugeMetricFamily(
            "metis_memory_cache_entries", "Entries in a memory cache.", labels=["cache"]
        )
        for cache, of in stats.items():
            entries.add_metric([cache], of.size)
        yield entries


def publish(stats: Stats) -> None:
    """Show the counters that ``stats`` gives at ``/metrics``; to be called once a process."""
    REGISTRY.register(CacheMetrics(stats))
