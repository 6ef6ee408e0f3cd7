"""Is it alive, is it ready, what does it count, where does it stand."""

from __future__ import annotations

from fastapi import APIRouter, Response

from mem0_server import __version__
from mem0_server.api.errors import documented
from mem0_server.api.services import Parts
from mem0_server.errors import DatabaseUnavailableError, DrainingError
from mem0_server.models import DatabaseLogin, Health, Ready, Status
from mem0_server.schema import SCHEMA_VERSION

open_router = APIRouter(tags=["health"])
router = APIRouter(tags=["health"])


@open_router.get("/health")
async def health() -> Health:
    """200 while the process serves, whatever it depends on."""
    return Health(version=__version__)


@open_router.get("/ready", responses=documented(503))
async def ready(parts: Parts) -> Ready:
    """200 when the database answers and is migrated; search is not part of it."""
    if parts.draining:
        raise DrainingError("this replica is stopping; ask another one")
    return Ready(schema_version=await _schema_version(parts))


@open_router.get("/metrics", response_class=Response)
async def metrics(parts: Parts) -> Response:
    """Everything counted, for Prometheus."""
    parts.database.measure()
    parts.library.measure()
    try:
        await parts.indexer.backlog()
        await parts.inference.backlog()
    except DatabaseUnavailableError:
        parts.metrics.backlog.set(float("nan"))
        parts.metrics.infer_backlog.set(float("nan"))
    return Response(parts.metrics.render(), media_type=parts.metrics.content_type)


@router.get("/status", responses=documented(503))
async def status(parts: Parts) -> Status:
    """Which keys are accepted, where the schema stands, what waits to be indexed."""
    await parts.follow_login()
    login = parts.database.login
    former = parts.database.former_connections + parts.library.former_connections(login)
    return Status(
        accepted_keys=parts.keys.fingerprints,
        key_idle_seconds={key: round(idle, 3) for key, idle in parts.keys.idle.items()},
        database=DatabaseLogin(fingerprint=login, former_connections=former),
        schema_version=await _schema_version(parts),
        backlog=await parts.indexer.backlog(),
        infer_backlog=await parts.inference.backlog(),
        embeddings=parts.indexer.status,
    )


async def _schema_version(parts: Parts) -> str:
    """The version in the database.

    :raises DatabaseUnavailableError: it does not answer, or is older than this code needs.
    """
    async with parts.database.use("schema_version") as connection:
        version = await connection.fetchval("SELECT max(version_num) FROM alembic_version")
    if version is None or version < SCHEMA_VERSION:
        raise DatabaseUnavailableError(
            f"the database's schema is {version or 'empty'}, this server needs {SCHEMA_VERSION}; "
            "run python -m mem0_server.prepare"
        )
    return str(version)
