"""Which embedding model the documents are indexed with, asked before the app starts."""

from __future__ import annotations

from sqlalchemy import create_engine, select
from sqlalchemy.pool import NullPool

from app.core.config import Settings
from app.db import tls
from app.db.login import use_credentials
from app.db.models import EmbeddingIndex
from app.db.session import CONNECT_TIMEOUT, driver_url


def indexed_model(settings: Settings) -> tuple[str, int] | None:
    """Name and dimensions of the model of the index that answers; None without documents.

    Raises SQLAlchemy's errors as they are.
    """
    engine = create_engine(
        driver_url(settings, "psycopg"),
        poolclass=NullPool,
        connect_args={
            "connect_timeout": int(CONNECT_TIMEOUT),
            "application_name": "metis-prepare",
            **tls.for_psycopg(settings),
        },
    )
    use_credentials(engine, settings)
    active = select(EmbeddingIndex.model, EmbeddingIndex.dimensions).where(
        EmbeddingIndex.state == "active"
    )
    try:
        with engine.connect() as connection:
            row = connection.execute(active).one_or_none()
    finally:
        engine.dispose()
    return None if row is None else (row.model, row.dimensions)
