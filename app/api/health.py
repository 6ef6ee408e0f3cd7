"""Liveness, readiness, metrics: open to everybody, for probes and Prometheus."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.pool import QueuePool

from app import __version__
from app.api.deps import AppParts
from app.core.metrics import (
    DATABASE_POOL,
    EMBEDDING_STATE,
    OUTBOX_OLDEST,
    OUTBOX_ROWS,
    REINDEX_CHUNKS,
    REINDEX_RATE,
)
from app.db.session import AsyncSessionLocal
from app.rag import outbox

OUTBOX_LIMIT = 1.0
"""Seconds that the outbox may take to tell how full it is."""
router = APIRouter(tags=["health"])
metrics_router = APIRouter()


@router.get("/health")
async def health(app: AppParts) -> dict[str, Any]:
    """200 while the app serves; the state of each thing it needs is in the body."""
    components = await app.health.components()
    well = all(component.status != "error" for component in components.values())
    return {
        "status": "ok" if well else "degraded",
        "version": __version__,
        "components": {name: component.as_dict() for name, component in components.items()},
    }


@router.get("/ready")
async def ready(app: AppParts, response: Response) -> dict[str, Any]:
    """200 when questions can be answered, else 503 with what is missing; never needs Mem0."""
    missing = await app.health.missing()
    response.status_code = 503 if missing else 200
    return {"status": "not_ready" if missing else "ready", "missing": missing}


@metrics_router.get("/metrics", include_in_schema=False)
async def metrics(app: AppParts) -> Response:
    """Prometheus metrics of this process, and of the outbox and indexes that all share."""
    await _measure_outbox()
    await _measure_index(app)
    pool = getattr(AsyncSessionLocal.kw.get("bind"), "pool", None)
    if isinstance(pool, QueuePool):
        DATABASE_POOL.labels("in_use").set(pool.checkedout())
        DATABASE_POOL.labels("idle").set(pool.checkedin())
        DATABASE_POOL.labels("limit").set(pool.size() + pool._max_overflow)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _measure_outbox() -> None:
    """Bring the outbox's gauges up to date; without the database they stay as they were."""
    with suppress(Exception):  # metrics are wanted most when something fails
        found = await asyncio.wait_for(outbox.state(), OUTBOX_LIMIT)
        OUTBOX_ROWS.labels("waiting").set(found.waiting)
        OUTBOX_ROWS.labels("parked").set(found.parked)
        OUTBOX_OLDEST.set(found.oldest_seconds)


async def _measure_index(app: AppParts) -> None:
    """Bring the gauges of the documents' index up to date, likewise."""
    with suppress(Exception):
        found = await asyncio.wait_for(app.reindexing.status(), OUTBOX_LIMIT)
        progress = found["reindex"] or {"done": 0, "total": 0, "rate": 0}
        REINDEX_CHUNKS.labels("done").set(progress["done"])
        REINDEX_CHUNKS.labels("total").set(progress["total"])
        REINDEX_RATE.set(progress["rate"])
        for state in ("empty", "ready", "refused", "reindexing"):
            EMBEDDING_STATE.labels(state).set(found["state"] == state)
