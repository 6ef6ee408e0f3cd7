"""The vector store: chunks, and their vectors in pgvector. The only module that knows it.

Each index (:mod:`app.rag.index_change`) keeps its vectors in a table of its own: there the vectors
have one length, an HNSW index covers all of them, and dropping the table is all that is needed to
be rid of them. A vector refers to its chunk, so what is deleted is gone from every index.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from pgvector.sqlalchemy import Vector
from sqlalchemy import (
    ARRAY,
    Float,
    Row,
    Select,
    Text,
    Uuid,
    all_,
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.core.logging import get_logger
from app.db.models import Document, EmbeddingIndex
from app.db.session import AsyncSessionLocal
from app.errors import DocumentError
from app.rag.chunking import Chunk
from app.rag.index_change import Index, Live, Model
from app.rag.types import Hit
from app.rag.vector_tables import CHUNKS, table_statements, vectors_of

SEARCH_WIDTH = 100
"""hnsw.ef_search: candidates that an index scan keeps (default 40); more finds better."""
LOCK, MAKE_LOCK = 7_266_843_003, 7_266_843_004
"""Keys of the advisory locks under which one replica builds or drops indexes, or makes one."""
DROP_PATIENCE = "1s"
"""How long writers may be held up by a table that is dropped; else it is tried again later."""
UNDEFINED_TABLE = "42P01"

# Iterative: the scan goes on until enough chunks pass the filter. The documents in processing are
# asked for first, because a join against their status would hide from the planner how few they
# are, and it would not take the index.
_BEFORE_SEARCH = text(
    "SELECT set_config('hnsw.ef_search', :width, true),"
    " set_config('hnsw.iterative_scan', 'strict_order', true),"
    " ARRAY(SELECT id FROM documents WHERE status = 'processing') AS unready"
)

log = get_logger(__name__)


class IndexChangedError(Exception):
    """The index at hand answers no more; read anew which one does."""


class Gap(NamedTuple):
    """A chunk that an index has no vector of."""

    chunk_id: UUID
    document: str
    chunk: Chunk


class VectorStore:
    """Chunks, and the indexes over them."""

    async def live(self) -> Live:
        """The indexes in use at this moment, whichever replica changed them."""
        in_use = select(EmbeddingIndex).where(EmbeddingIndex.state != "retired")
        async with AsyncSessionLocal() as session:
            found = {row.state: _index(row) for row in await session.scalars(in_use)}
        return Live(found.get("active"), found.get("building"))

    async def create(self, model: Model, state: str) -> None:
        """Make an empty index; does nothing when there is one in that state."""
        async with AsyncSessionLocal.begin() as session:
            await session.execute(select(func.pg_advisory_xact_lock(MAKE_LOCK)))
            taken = select(EmbeddingIndex.id).where(EmbeddingIndex.state == state)
            if await session.scalar(taken) is not None:
                return
            row = EmbeddingIndex(
                model=model.name, digest=model.digest, dimensions=model.dimensions, state=state
            )
            session.add(row)
            await session.flush()
            connection = await session.connection()
            for statement in table_statements(row.id, int(row.dimensions)):
                await connection.exec_driver_sql(statement)
        log.info("index_made", model=model.name, dimensions=model.dimensions, state=state)

    async def add(
        self,
        document_id: UUID,
        chunks: Sequence[Chunk],
        vectors: Mapping[int, Sequence[list[float]]],
    ) -> None:
        """Store chunks of a document with their ``vectors`` by index, in one transaction.

        Raises IndexChangedError when the vectors of the active index are not among them, and
        DocumentError when the document is gone.
        """
        rows = [
            {
                "id": uuid4(),
                "document_id": document_id,
                "position": chunk.position,
                "page": chunk.page,
                "section": chunk.section,
                "text": chunk.text,
            }
            for chunk in chunks
        ]
        try:
            async with AsyncSessionLocal.begin() as session:
                live = await _held(session)
                if live.get("active") not in vectors:
                    raise IndexChangedError
                await session.execute(insert(CHUNKS), rows)
                for index in set(live.values()) & set(vectors):
                    stored = zip(rows, vectors[index], strict=True)
                    await session.execute(
                        insert(vectors_of(index)),
                        [
                            {"chunk_id": r["id"], "document_id": document_id, "embedding": v}
                            for r, v in stored
                        ],
                    )
        except IntegrityError as error:
            raise DocumentError("the document was deleted while it was processed") from error

    async def clear(self, document_id: UUID) -> None:
        """Forget the chunks of a document."""
        async with AsyncSessionLocal.begin() as session:
            await session.execute(delete(CHUNKS).where(CHUNKS.c.document_id == document_id))

    async def search(self, index: Index, vector: list[float], limit: int) -> list[Hit]:
        """The ``limit`` chunks of ``index`` nearest to ``vector``, best first.

        Chunks of documents still in processing are not found. Raises IndexChangedError when the
        index has been dropped.
        """
        table = vectors_of(index.id)
        distance = table.c.embedding.op("<=>", return_type=Float())(
            bindparam("vector", vector, Vector(index.dimensions))
        )
        try:
            async with AsyncSessionLocal() as session:
                before = (await session.execute(_BEFORE_SEARCH, {"width": str(SEARCH_WIDTH)})).one()
                unready = bindparam("unready", before.unready, ARRAY(Uuid))
                nearest = (
                    select(table.c.chunk_id, distance.label("distance"))
                    .where(table.c.document_id != all_(unready))
                    .order_by(distance)
                    .limit(limit)
                    .subquery()
                )
                found = (
                    select(
                        CHUNKS.c.id,
                        CHUNKS.c.document_id,
                        Document.name,
                        CHUNKS.c.page,
                        CHUNKS.c.section,
                        CHUNKS.c.text,
                        nearest.c.distance,
                    )
                    .select_from(nearest)
                    .join(CHUNKS, CHUNKS.c.id == nearest.c.chunk_id)
                    .join(Document, Document.id == CHUNKS.c.document_id)
                    .order_by(nearest.c.distance)
                )
                rows = (await session.execute(found)).all()
        except ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) == UNDEFINED_TABLE:
                raise IndexChangedError from error
            raise
        return [_hit(row) for row in rows]

    async def gaps(self, index: Index, after: UUID | None, limit: int) -> list[Gap]:
        """Up to ``limit`` chunks without a vector in ``index``, by id, those behind ``after``."""
        table = vectors_of(index.id)
        there = select(1).where(table.c.chunk_id == CHUNKS.c.id).exists()
        missing = (
            select(CHUNKS, Document.name)
            .join(Document, Document.id == CHUNKS.c.document_id)
            .where(~there)
            .order_by(CHUNKS.c.id)
            .limit(limit)
        )
        if after is not None:
            missing = missing.where(CHUNKS.c.id > after)
        async with _expected(), AsyncSessionLocal() as session:
            rows = (await session.execute(missing)).all()
        return [Gap(r.id, r.name, Chunk(r.position, r.text, r.page, r.section)) for r in rows]

    async def fill(self, index: Index, gaps: Sequence[Gap], vectors: Sequence[list[float]]) -> None:
        """Store the vectors of chunks that lacked one; of a chunk deleted meanwhile, nothing.

        Raises IndexChangedError when the index is neither active nor being built any more.
        """
        statement = text(
            f"INSERT INTO {vectors_of(index.id).name} (chunk_id, document_id, embedding)"  # noqa: S608
            " SELECT c.id, c.document_id, r.vector::vector"
            " FROM unnest(:ids, :vectors) AS r (id, vector)"
            " JOIN chunks c ON c.id = r.id FOR KEY SHARE OF c ON CONFLICT DO NOTHING"
        ).bindparams(
            bindparam("ids", [g.chunk_id for g in gaps], ARRAY(Uuid)),
            bindparam("vectors", [str(v) for v in vectors], ARRAY(Text)),
        )
        async with AsyncSessionLocal.begin() as session:
            if index.id not in (await _held(session)).values():
                raise IndexChangedError
            await session.execute(statement)

    async def counts(self, index: Index) -> tuple[int, int]:
        """How many chunks have a vector in ``index``, and how many there are."""
        vectors = select(func.count()).select_from(vectors_of(index.id)).scalar_subquery()
        chunks = select(func.count()).select_from(CHUNKS).scalar_subquery()
        async with _expected(), AsyncSessionLocal() as session:
            done, total = (await session.execute(select(vectors, chunks))).one()
        return int(done), int(total)

    async def note(self, index: Index, **values: Any) -> None:
        """Write what is to be told of an index: done, total, rate, trouble, digest."""
        noted = update(EmbeddingIndex).where(EmbeddingIndex.id == index.id).values(**values)
        async with AsyncSessionLocal.begin() as session:
            await session.execute(noted)

    async def switch(self, index: Index) -> bool:
        """Let ``index`` answer from now on, if no chunk lacks a vector in it; all at once.

        Writers of chunks wait for it, and it for them (:func:`_held`), so that none is missed.
        """
        async with AsyncSessionLocal.begin() as session:
            await session.execute(
                select(EmbeddingIndex.id)
                .where(EmbeddingIndex.state != "retired")
                .order_by(EmbeddingIndex.id)
                .with_for_update()
            )
            row = await session.get(EmbeddingIndex, index.id)
            there = select(1).where(vectors_of(index.id).c.chunk_id == CHUNKS.c.id).exists()
            if row is None or row.state != "building":
                raise IndexChangedError
            if await session.scalar(select(CHUNKS.c.id).where(~there).limit(1)) is not None:
                return False
            for state, follows in (("active", "retired"), ("building", "active")):
                await session.execute(
                    update(EmbeddingIndex)
                    .where(EmbeddingIndex.state == state)
                    .values(state=follows, changed_at=func.now(), trouble=None)
                )
            return True

    async def retire(self, index: Index) -> None:
        """Have the index that is being built dropped soon."""
        async with AsyncSessionLocal.begin() as session:
            await session.execute(
                update(EmbeddingIndex)
                .where(EmbeddingIndex.id == index.id, EmbeddingIndex.state == "building")
                .values(state="retired", changed_at=func.now())
            )

    async def now(self) -> datetime:
        """The database's time."""
        async with AsyncSessionLocal() as session:
            return (await session.execute(select(func.now()))).scalar_one()

    async def has_retired(self, seconds: float) -> bool:
        """Whether an index was retired at least so many seconds ago."""
        async with AsyncSessionLocal() as session:
            return await session.scalar(_retired(seconds).limit(1)) is not None

    async def drop_retired(self, seconds: float) -> list[str]:
        """Drop what was retired at least so many seconds ago; the models' names."""
        dropped = []
        async with AsyncSessionLocal.begin() as session:
            for row in await session.scalars(_retired(seconds).with_for_update()):
                await session.execute(text(f"SET LOCAL lock_timeout = '{DROP_PATIENCE}'"))
                await session.execute(text(f"DROP TABLE IF EXISTS {vectors_of(row.id).name}"))
                await session.delete(row)
                dropped.append(row.model)
        return dropped

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[AsyncConnection | None]:
        """The right to build and drop, and its connection; None while another replica has it.

        It ends with the connection, so also when the process is killed.
        """
        async with AsyncSessionLocal.kw["bind"].connect() as plain:
            connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
            if not await connection.scalar(select(func.pg_try_advisory_lock(LOCK))):
                yield None
                return
            try:
                yield connection
                await connection.execute(select(func.pg_advisory_unlock(LOCK)))
            except BaseException:
                await connection.invalidate()  # frees the lock whatever state it is in
                raise


def _retired(seconds: float) -> Select[EmbeddingIndex]:
    old = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    return select(EmbeddingIndex).where(
        EmbeddingIndex.state == "retired", EmbeddingIndex.changed_at <= old
    )


async def _held(session: AsyncSession) -> dict[str, int]:
    """The ids of the indexes in use by state; they stay so until the transaction ends."""
    in_use = select(EmbeddingIndex.state, EmbeddingIndex.id).where(
        EmbeddingIndex.state != "retired"
    )
    rows = await session.execute(in_use.with_for_update(read=True, key_share=True))
    return {row.state: row.id for row in rows}


@asynccontextmanager
async def _expected() -> AsyncIterator[None]:
    """A table that is not there any more belonged to an index that was dropped."""
    try:
        yield
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) == UNDEFINED_TABLE:
            raise IndexChangedError from error
        raise


def _index(row: EmbeddingIndex) -> Index:
    return Index(
        id=row.id,
        model=Model(row.model, row.digest, row.dimensions),
        state=row.state,  # type: ignore[arg-type]  # the table checks it
        created_at=row.created_at,
        done=row.done,
        total=row.total,
        rate=row.rate,
        trouble=row.trouble,
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
