"""The vector store: chunks in pgvector. The only module that knows it.

Each embedding model has vectors of its own length, so the column has none; the vectors of one
model are searched through a partial HNSW index over the cast to that model's length, made when
its first chunks come in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from pgvector.sqlalchemy import Vector
from sqlalchemy import (
    ARRAY,
    Column,
    Float,
    Integer,
    Row,
    Table,
    Text,
    Uuid,
    all_,
    bindparam,
    cast,
    delete,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError, IntegrityError

from app.core.logging import get_logger
from app.db.models import Document
from app.db.session import AsyncSessionLocal, Base
from app.errors import DocumentError
from app.rag.chunking import Chunk
from app.rag.types import Hit

INDEX_LIMIT = 2000
"""Dimensions above which pgvector builds no HNSW index over ``vector``; a scan still works."""
SEARCH_WIDTH = 100
"""hnsw.ef_search: candidates that an index scan keeps (default 40); more finds better."""
INDEX_LOCK = 7_266_843_002
"""Key of the advisory lock that lets one replica make an index at a time."""

# Iterative: the scan goes on until enough chunks pass the filter. The documents in processing are
# asked for first, because a join against their status would hide from the planner how few they
# are, and it would not take the index.
_BEFORE_SEARCH = text(
    "SELECT set_config('hnsw.ef_search', :width, true),"
    " set_config('hnsw.iterative_scan', 'strict_order', true),"
    " ARRAY(SELECT id FROM documents WHERE status = 'processing') AS unready"
)

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
    Column("embedding_model", Text, nullable=False),
    Column("embedding", Vector(), nullable=False),
)


class VectorStore:
    """Chunks with their vectors, by embedding model."""

    def __init__(self) -> None:
        self._indexed: set[tuple[str, int]] = set()

    async def add(
        self, document_id: UUID, model: str, chunks: Sequence[Chunk], vectors: Sequence[list[float]]
    ) -> None:
        """Store the chunks of a document with their vectors, in one transaction.

        Raises DocumentError when the document is gone or the vectors have another length than
        the model's earlier ones.
        """
        if not chunks:
            return
        rows = [
            {
                "id": uuid4(),
                "document_id": document_id,
                "position": chunk.position,
                "page": chunk.page,
                "section": chunk.section,
                "text": chunk.text,
                "embedding_model": model,
                "embedding": vector,
            }
            for chunk, vector in zip(chunks, vectors, strict=True)
        ]
        try:
            await self._ensure_index(model, len(vectors[0]))
            async with AsyncSessionLocal.begin() as session:
                await session.execute(insert(CHUNKS), rows)
        except IntegrityError as error:
            raise DocumentError("the document was deleted while it was processed") from error
        except DBAPIError as error:
            if str(getattr(error.orig, "sqlstate", "")).startswith("22"):  # data exception
                raise DocumentError(
                    f"the vectors of {model} do not fit those stored before under this name; "
                    "give the new model a name of its own"
                ) from error
            raise

    async def clear(self, document_id: UUID) -> None:
        """Forget the chunks of a document."""
        async with AsyncSessionLocal.begin() as session:
            await session.execute(delete(CHUNKS).where(CHUNKS.c.document_id == document_id))

    async def search(self, model: str, vector: list[float], limit: int) -> list[Hit]:
        """The ``limit`` chunks nearest to ``vector`` among those of ``model``, best first.

        Chunks of documents still in processing are not found.
        """
        size = len(vector)
        distance = cast(CHUNKS.c.embedding, Vector(size)).op("<=>", return_type=Float())(
            bindparam("vector", vector, Vector(size))
        )
        # The name stands in the statement itself: the planner must see it to choose the partial
        # index, also when it plans for parameters not yet known.
        same_model = bindparam("model", model, Text, literal_execute=True)
        async with AsyncSessionLocal() as session:
            before = (await session.execute(_BEFORE_SEARCH, {"width": str(SEARCH_WIDTH)})).one()
            nearest = (
                select(CHUNKS, distance.label("distance"))
                .where(
                    CHUNKS.c.embedding_model == same_model,
                    CHUNKS.c.document_id != all_(bindparam("unready", before.unready, ARRAY(Uuid))),
                )
                .order_by(distance)
                .limit(limit)
                .subquery()
            )
            found = (
                select(
                    nearest.c.id,
                    nearest.c.document_id,
                    Document.name,
                    nearest.c.page,
                    nearest.c.section,
                    nearest.c.text,
                    nearest.c.distance,
                )
                .join(Document, Document.id == nearest.c.document_id)
                .order_by(nearest.c.distance)
            )
            rows = (await session.execute(found)).all()
        return [_hit(row) for row in rows]

    async def _ensure_index(self, model: str, size: int) -> None:
        if (model, size) in self._indexed:
            return
        if size > INDEX_LIMIT:
            log.warning("vector_index_skipped", model=model, dimensions=size, limit=INDEX_LIMIT)
        else:
            async with AsyncSessionLocal.begin() as session:
                await session.execute(select(func.pg_advisory_xact_lock(INDEX_LOCK)))
                connection = await session.connection()
                await connection.exec_driver_sql(index_statement(model, size))
        self._indexed.add((model, size))


def index_statement(model: str, size: int) -> str:
    """SQL that makes the HNSW index of a model's vectors (``size`` numbers each) once."""
    name = hashlib.sha256(f"{model} {size}".encode()).hexdigest()[:12]
    quoted = model.replace("'", "''")
    return (
        f"CREATE INDEX IF NOT EXISTS chunks_hnsw_{name} ON chunks "
        f"USING hnsw ((embedding::vector({int(size)})) vector_cosine_ops) "
        f"WHERE embedding_model = '{quoted}'"
    )


def _hit(row: Row[Any]) -> Hit:
    return Hit(
        chunk_id=str(row.id),
        document_id=str(row.document_id),
        document_name=row.name,
        page=row.page,
        section=row.section,
        text=row.text,
        similarity=1.0 - row.distance,
    )
