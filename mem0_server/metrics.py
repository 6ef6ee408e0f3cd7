"""What the server counts, in a registry of its own (several servers may share a process)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """All counters of one server; labels never hold what a user said or who a user is."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        """Make a fresh registry."""
        self.registry = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self.requests = Counter(
            "mem0_http_requests",
            "Requests answered, by route template and status",
            ["method", "route", "status"],
            registry=registry,
        )
        self.latency = Histogram(
            "mem0_http_request_seconds",
            "Seconds from the request's head to the end of the answer",
            ["method", "route"],
            buckets=_FAST,
            registry=registry,
        )
        self.unauthorized = Counter(
            "mem0_unauthorized", "Requests refused with 401", ["reason"], registry=registry
        )
        for reason in ("missing", "unknown", "revoked"):
            self.unauthorized.labels(reason)
        self.query = Histogram(
            "mem0_database_seconds",
            "Seconds a named unit of database work took, the wait for a connection included",
            ["work"],
            buckets=_FAST,
            registry=registry,
        )
        self.pool = Gauge(
            "mem0_database_connections",
            "Connections of a pool by state; max is the limit",
            ["pool", "state"],
            registry=registry,
        )
        self.backlog = Gauge(
            "mem0_index_backlog", "Records that wait to be indexed", registry=registry
        )
        self.indexed = Counter("mem0_index_records", "Records indexed", registry=registry)
        self.index_failures = Counter(
            "mem0_index_failures", "Failed attempts to index, by code", ["code"], registry=registry
        )
        self.infer_backlog = Gauge(
            "mem0_infer_backlog",
            "Messages in which facts are still to be found",
            registry=registry,
        )
        self.inferred = Counter(
            "mem0_infer_messages", "Messages in which facts were looked for", registry=registry
        )
        self.infer_failures = Counter(
            "mem0_infer_failures",
            "Failed attempts to find facts, by code",
            ["code"],
            registry=registry,
        )
        self.threads = Gauge(
            "mem0_library_calls",
            "Calls into mem0ai by state; each running one holds a thread",
            ["state"],
            registry=registry,
        )

        # Finding a metric by its labels costs as much as counting, so what was found is kept. The
        # labels are few: templates of routes, methods, statuses, names of work.
        self._answered: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._worked: dict[str, Histogram] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        key = method, route, status
        found = self._answered.get(key)
        if found is None:
            found = self._answered[key] = (
                self.requests.labels(method, route, str(status)),
                self.latency.labels(method, route),
            )
        found[0].inc()
        found[1].observe(seconds)

    def worked(self, work: str, seconds: float) -> None:
        """A unit of database work is over."""
        found = self._worked.get(work)
        if found is None:
            found = self._worked[work] = self.query.labels(work)
        found.observe(seconds)

    def set_pool(self, pool: str, size: int, idle: int, limit: int) -> None:
        """How a pool stands: open and idle connections, and how many there may be."""
        for state, number in (("used", size - idle), ("idle", idle), ("max", limit)):
            self.pool.labels(pool, state).set(number)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
