"""The shared library: uploads become documents that can be searched.

Every upload is kept, also one that could not be read: it stands in the list as ``failed`` with the
reason, and uploading it again tries anew. Nothing assumes one replica: whoever claims a document's
row processes it.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from app.core.auth import User
from app.core.config import Settings
from app.core.logging import get_logger
from app.core.metrics import DOCUMENTS, EMBEDDED
from app.db.models import Document, DocumentFile
from app.db.session import AsyncSessionLocal
from app.errors import AppError, ForbiddenError, ModelServerError, NotFoundError
from app.rag.chunking import Chunk, chunked
from app.rag.documents import media_type_of, parse
from app.rag.embedding import embedded_text
from app.rag.embedding_models import EmbeddingModels
from app.rag.index_change import Index
from app.rag.store import IndexChangedError, VectorStore

CLAIM = timedelta(minutes=10)
"""A document in processing for longer was left by a process that died; it may be taken over."""
AT_ONCE = 2
"""Uploads that one process works on at a time; the others wait their turn."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")

log = get_logger(__name__)


@dataclass(frozen=True)
class Upload:
    """A file as it came in."""

    name: str
    content: bytes


class Library:
    """All documents of the instance."""

    def __init__(self, settings: Settings, embedding: EmbeddingModels, store: VectorStore) -> None:
        self._settings = settings
        self._embedding = embedding
        self._store = store
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def add(self, upload: Upload, user: User) -> dict[str, Any]:
        """Keep a file, make it searchable, and return the document.

        The same name and bytes again are the same document: nothing is done when it is ready, it
        is tried again when it failed. A file that cannot be read or embedded is no exception here
        but a document with ``status`` ``failed``. Raises only when the database fails.
        """
        document_id, claimed = await self._claim(upload, user)
        if not claimed:
            DOCUMENTS.labels("known").inc()
            return await self.get(document_id)
        try:
            async with self._turns:
                count = await self._process(document_id, upload)
        except AppError as error:
            log.warning("document_failed", document=str(document_id), reason=error.code)
            await self._fail(document_id, error.message)
        except BaseException:
            # Shut down or out of memory: let nobody wait for the claim to run out.
            await asyncio.shield(
                self._fail(document_id, "processing was interrupted; upload it again")
            )
            raise
        else:
            log.info("document_ready", document=str(document_id), chunks=count)
            await self._finish(document_id, "ready", chunks=count)
        return await self.get(document_id)

    async def listed(self, limit: int) -> list[dict[str, Any]]:
        """The newest ``limit`` documents, newest first."""
        newest = select(Document).order_by(Document.created_at.desc(), Document.id).limit(limit)
        async with AsyncSessionLocal() as session:
            return [self._view(document) for document in await session.scalars(newest)]

    async def get(self, document_id: UUID) -> dict[str, Any]:
        """One document; raises NotFoundError."""
        async with AsyncSessionLocal() as session:
            document = await session.get(Document, document_id)
        if document is None:
            raise _unknown(document_id)
        return self._view(document)

    async def file(self, document_id: UUID) -> tuple[dict[str, Any], bytes]:
        """A document and its original bytes; raises NotFoundError."""
        document = await self.get(document_id)
        async with AsyncSessionLocal() as session:
            file = await session.get(DocumentFile, document_id)
        if file is None:
            raise _unknown(document_id)
        return document, file.content

    async def delete(self, document_id: UUID, user: User) -> None:
        """Forget a document with its chunks; for its uploader and for admins."""
        document = await self.get(document_id)
        if document["uploaded_by"] != user.id and not user.is_admin:
            raise ForbiddenError(
                f"{document['name']} was uploaded by {document['uploaded_by']}; only they or an "
                "admin can delete it"
            )
        async with AsyncSessionLocal.begin() as session:
            await session.execute(delete(Document).where(Document.id == document_id))

    async def _claim(self, upload: Upload, user: User) -> tuple[UUID, bool]:
        """The document's id, and whether it is ours to process now."""
        digest = hashlib.sha256(upload.content).hexdigest()
        fresh = (
            insert(Document)
            .values(
                id=uuid4(),
                name=upload.name,
                media_type=media_type_of(upload.name),
                size=len(upload.content),
                sha256=digest,
                status="processing",
                chunks=0,
                embedding_model=self._embedding.wanted_name,
                uploaded_by=user.id,
            )
            .on_conflict_do_nothing(index_elements=["sha256", "name"])
            .returning(Document.id)
        )
        same = and_(Document.sha256 == digest, Document.name == upload.name)
        again = (
            update(Document)
            .where(
                same,
                or_(
                    Document.status == "failed",
                    and_(Document.status == "processing", Document.started_at < func.now() - CLAIM),
                ),
            )
            .values(status="processing", error=None, started_at=func.now(), chunks=0)
            .returning(Document.id)
        )
        async with AsyncSessionLocal.begin() as session:
            if new := await session.scalar(fresh):
                session.add(DocumentFile(document_id=new, content=upload.content))
                return new, True
            if taken := await session.scalar(again):
                return taken, True
            known = await session.scalar(select(Document.id).where(same))
        if known is None:  # deleted between the two statements
            return await self._claim(upload, user)
        return known, False

    async def _process(self, document_id: UUID, upload: Upload) -> int:
        """Parse, chunk, embed and store; the number of chunks."""
        await self._store.clear(document_id)
        chunks = await asyncio.to_thread(self._chunks, upload)
        for batch in _batches(chunks, self._settings.embedding_batch_size):
            stored = False
            while not stored:
                stored = await self._keep(document_id, upload.name, batch)
            EMBEDDED.inc(len(batch))
        return len(chunks)

    async def _keep(self, document_id: UUID, name: str, batch: list[Chunk]) -> bool:
        """Embed and store some chunks; false when another index has come to answer meanwhile."""
        live = await self._store.live()
        if live.active is None:
            await self._store.create(await self._embedding.wanted(), "active")
            return False
        vectors = {live.active.id: await self._embedded(live.active, name, batch)}
        if live.building is not None:
            # What fails here is made up for before that index answers.
            with suppress(ModelServerError):
                vectors[live.building.id] = await self._embedded(live.building, name, batch)
        try:
            await self._store.add(document_id, batch, vectors)
        except IndexChangedError:
            return False
        return True

    async def _embedded(self, index: Index, name: str, batch: list[Chunk]) -> list[list[float]]:
        texts = [embedded_text(index.model.name, name, chunk) for chunk in batch]
        return await self._embedding.embed(index, texts)

    def _chunks(self, upload: Upload) -> list[Chunk]:
        passages = parse(upload.name, upload.content)
        return list(chunked(passages, self._settings.chunk_size, self._settings.chunk_overlap))

    async def _fail(self, document_id: UUID, reason: str) -> None:
        # In this order: only chunks of a document in processing are kept out of searches.
        await self._store.clear(document_id)
        await self._finish(document_id, "failed", error=reason)

    async def _finish(
        self, document_id: UUID, status: str, *, chunks: int = 0, error: str | None = None
    ) -> None:
        DOCUMENTS.labels(status).inc()
        done = (
            update(Document)
            .where(Document.id == document_id)
            .values(status=status, chunks=chunks, error=error)
        )
        async with AsyncSessionLocal.begin() as session:
            await session.execute(done)

    @staticmethod
    def _view(document: Document) -> dict[str, Any]:
        """The document as the API shows it, with what has become of it since."""
        status, error = document.status, document.error
        if status == "processing" and datetime.now(UTC) - document.started_at > CLAIM:
            status, error = "failed", "processing was interrupted; upload it again"
        return {
            "id": str(document.id),
            "name": document.name,
            "media_type": document.media_type,
            "size": document.size,
            "chunks": document.chunks,
            "status": status,
            "error": error,
            "uploaded_by": document.uploaded_by,
            "created_at": document.created_at.isoformat(),
        }


def safe_name(name: str | None) -> str:
    """A file name to show and keep: no folders, no control characters, at most 200 characters."""
    plain = _UNPRINTABLE.sub("", (name or "").encode("utf-8", "replace").decode("utf-8"))
    base = plain.replace("\\", "/").rsplit("/", 1)[-1].strip()
    if len(base) > 200:
        stem, dot, ending = base.rpartition(".")
        base = f"{stem[: 199 - len(ending)]}{dot}{ending}" if len(ending) <= 10 else base[:200]
    return base or "unnamed"


def _batches(chunks: Iterable[Chunk], size: int) -> Iterator[list[Chunk]]:
    iterator = iter(chunks)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _unknown(document_id: UUID) -> NotFoundError:
    return NotFoundError(f"there is no document {document_id}; it may have been deleted")
