"""Prometheus metrics of the app, in the default registry beside those of the memory client."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

REQUESTS = Histogram(
    "metis_http_request_seconds",
    "Time to serve a request, streams until their end",
    ["method", "route", "status"],
    buckets=_SECONDS,
)
STAGES = Histogram(
    "metis_rag_stage_seconds",
    "Time a stage of an answer took: memory_read, embed, retrieve, first_token, generate, "
    "memory_write",
    ["stage"],
    buckets=_SECONDS,
)
ANSWERS = Counter(
    "metis_rag_answers_total", "Answers by outcome: complete, interrupted, failed", ["outcome"]
)
MEMORY = Counter(
    "metis_rag_memory_total",
    "Questions by the state of memory while they were answered: ok, degraded, off",
    ["status"],
)
DOCUMENTS = Counter(
    "metis_documents_processed_total", "Uploads by outcome: ready, failed, known", ["outcome"]
)
EMBEDDED = Counter("metis_chunks_embedded_total", "Chunks embedded and stored")
OLLAMA_ERRORS = Counter("metis_ollama_errors_total", "Failed calls of Ollama", ["operation"])
DATABASE_POOL = Gauge(
    "metis_database_pool_connections", "Connections of the pool by state", ["state"]
)
