"""What memory tells Prometheus about itself, in the process's default registry."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

REQUEST_SECONDS = Histogram(
    "metis_mem0_request_seconds",
    "Time of one HTTP exchange with the Mem0 server, failed ones included.",
    ["operation"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0),
)

FAILURES = Counter(
    "metis_memory_failures_total",
    "Memory operations that gave their empty answer because something failed.",
    ["operation", "cause"],
)
