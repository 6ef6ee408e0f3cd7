"""The tables of the vector store: chunks, and the vectors of each index."""

from __future__ import annotations

from functools import lru_cache

from pgvector.sqlalchemy import Vector
from sqlalchemy import Column, Integer, MetaData, Table, Text, Uuid

from app.core.logging import get_logger
from app.db.session import Base

INDEX_LIMIT = 2000
"""Dimensions above which pgvector builds no HNSW index over ``vector``; a scan still works."""

log = get_logger(__name__)

CHUNKS = Table(
    "chunks",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("document_id", Uuid, nullable=False),
    Column("position", Integer, nullable=False),
    Column("page", Integer),
    Column("section", Text),
    Column("text", Text, nullable=False),
    # Of the version before the indexes had tables; not filled any more.
    Column("embedding_model", Text),
    Column("embedding", Vector()),
)


def table_statements(index: int, size: int) -> list[str]:
    """SQL that makes the table of an index of vectors with ``size`` numbers."""
    name = vectors_of(index).name
    made = [
        f"CREATE TABLE {name} (chunk_id uuid PRIMARY KEY REFERENCES chunks ON DELETE CASCADE, "
        f"document_id uuid NOT NULL, embedding vector({int(size)}) NOT NULL)"
    ]
    if size > INDEX_LIMIT:
        log.warning("vector_index_skipped", dimensions=size, limit=INDEX_LIMIT)
        return made
    hnsw = f"CREATE INDEX {name}_hnsw ON {name} USING hnsw (embedding vector_cosine_ops)"
    return [*made, hnsw]


@lru_cache(maxsize=8)
def vectors_of(index: int) -> Table:
    """The table of the vectors of the index with that id."""
    return Table(
        f"vectors_{int(index)}",
        MetaData(),
        Column("chunk_id", Uuid, primary_key=True),
        Column("document_id", Uuid, nullable=False),
        Column("embedding", Vector(), nullable=False),
    )
