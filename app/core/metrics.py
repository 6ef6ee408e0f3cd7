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
    "Time a stage of an answer took: embed, retrieve, first_token, generate",
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
_FEW = (0.0001, 0.00025, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01,
        0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)  # fmt: skip
BOOKKEEPING = Histogram(
    "metis_rag_bookkeeping_seconds",
    "Time of a question's reads and writes of conversation and memory: ask, recollect, answer, "
    "and total, their sum",
    ["stage"],
    buckets=_FEW,
)
OUTBOX_ROWS = Gauge(
    "metis_outbox_rows", "Rows of the outbox by state: waiting, parked; of all replicas", ["state"]
)
OUTBOX_OLDEST = Gauge("metis_outbox_oldest_seconds", "Age of the oldest waiting row; 0 for none")
OUTBOX_DELIVERED = Counter(
    "metis_outbox_delivered_total", "Rows that this replica delivered to Mem0", ["kind"]
)
OUTBOX_FAILURES = Counter(
    "metis_outbox_failures_total",
    "Failed deliveries by what follows: away (Mem0 is waited for), later, park",
    ["means", "cause"],
)
DOCUMENTS = Counter(
    "metis_documents_processed_total", "Uploads by outcome: ready, failed, known", ["outcome"]
)
EMBEDDED = Counter("metis_chunks_embedded_total", "Chunks embedded and stored")
REEMBEDDED = Counter(
    "metis_chunks_reembedded_total", "Chunks embedded anew for another index by this replica"
)
REINDEX_CHUNKS = Gauge(
    "metis_reindex_chunks",
    "Chunks of the index that is being built: done, total; both 0 while none is",
    ["of"],
)
REINDEX_RATE = Gauge("metis_reindex_chunks_per_second", "Pace of the replica that builds an index")
EMBEDDING_STATE = Gauge(
    "metis_embedding_index_state",
    "1 for the state of the documents' index: empty, ready, refused, reindexing",
    ["state"],
)
MODEL_SERVER_ERRORS = Counter(
    "metis_model_server_errors_total", "Failed calls of a model server", ["operation"]
)
DATABASE_POOL = Gauge(
    "metis_database_pool_connections", "Connections of the pool by state", ["state"]
)
