"""Schema, credentials and vector indexes on a real PostgreSQL."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.core.config import Settings, load_settings
from app.db.migrate import migrate
from app.db.models import Document
from app.db.session import AsyncSessionLocal, Base, bind, driver_url, get_db
from app.errors import DatabaseUnavailableError, DocumentError
from app.rag.chunking import Chunk
from app.rag.index_change import Index, Model
from app.rag.store import IndexChangedError, VectorStore


@pytest.fixture
def settings(make_dsn: Callable[[], str]) -> Settings:
    return load_settings(database_url=make_dsn())


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    engine = bind(settings)
    yield engine
    await engine.dispose()


def vector(size: int, seed: int) -> list[float]:
    numbers = random.Random(seed)
    values = [numbers.gauss(0, 1) for _ in range(size)]
    norm = math.sqrt(sum(v * v for v in values))
    return [v / norm for v in values]


async def document(status: str = "ready") -> UUID:
    row = Document(
        id=uuid4(), name="d", media_type="text/plain", size=1, sha256=uuid4().hex, status=status,
        chunks=0, uploaded_by="ann",
    )  # fmt: skip
    async with AsyncSessionLocal.begin() as session:
        session.add(row)
    return row.id


def test_models_and_migrations_agree(settings: Settings) -> None:
    engine = create_engine(driver_url(settings, "psycopg"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        different = [
            change
            for change in compare_metadata(context, Base.metadata)
            # Indexes and constraints are checked by what they do; columns and tables by name.
            if change[0] in ("add_table", "remove_table", "add_column", "remove_column")
        ]
    assert different == []


def test_migrating_again_changes_nothing(settings: Settings) -> None:
    migrate(settings)
    migrate(settings)


async def test_importing_and_binding_connect_to_nothing(free_port: Callable[[], int]) -> None:
    engine = bind(load_settings(database_url=f"postgresql://127.0.0.1:{free_port()}/none"))
    assert engine.pool.checkedin() == 0  # type: ignore[attr-defined]
    await engine.dispose()


async def test_password_is_read_for_every_new_connection(
    make_dsn: Callable[[], str], tmp_path: Path
) -> None:
    """The files win over the URL, and a rotated password needs no restart."""
    dsn = make_dsn()
    role = f"login_{uuid4().hex[:8]}"
    user, password = tmp_path / "username", tmp_path / "password"
    user.write_text(f"{role}\n")
    password.write_text("first\n")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'first'")
        bare = make_url(dsn).set(username=None, password=None)
        settings = load_settings(
            database_url=bare.render_as_string(),
            database_user_file=user,
            database_password_file=password,
        )
        engine = bind(settings)
        async for session in get_db():
            assert await session.scalar(text("SELECT current_user")) == role
        await engine.dispose()

        other = f"{role}_b"
        connection.execute(f"CREATE ROLE {other} LOGIN PASSWORD 'second'")
        user.write_text(other)
        async with AsyncSessionLocal() as session:
            assert await session.scalar(text("SELECT current_user")) == other
        await engine.dispose()

        password.unlink()
        with pytest.raises(DatabaseUnavailableError, match=r"password.*Secret"):
            async with AsyncSessionLocal() as session:
                await session.scalar(text("SELECT 1"))
        await engine.dispose()


async def index_of(store: VectorStore, name: str, size: int, state: str = "active") -> Index:
    """A new index in that state."""
    await store.create(Model(name, None, size), state)
    live = await store.live()
    found = live.active if state == "active" else live.building
    assert found is not None
    return found


async def test_search_finds_the_nearest_of_its_index_only(engine: AsyncEngine) -> None:
    store = VectorStore()
    ready, unready = await document(), await document("processing")
    small = await index_of(store, "m'odel:small", 8)
    large = await index_of(store, "large", 32, "building")
    chunks = [Chunk(n, f"text {n}", n, "s") for n in range(20)]
    both = {i.id: [vector(i.dimensions, n) for n in range(20)] for i in (small, large)}
    await store.add(ready, chunks, both)
    hidden = {i.id: [vector(i.dimensions, 7)] for i in (small, large)}
    await store.add(unready, [Chunk(0, "hidden", None, None)], hidden)
    for index in (small, large):
        best, *others = await store.search(index, vector(index.dimensions, 7), 5)
        assert (best.text, best.page) == ("text 7", 7)
        assert best.similarity == pytest.approx(1, abs=1e-6)
        assert len(others) == 4
        assert all(other.similarity < best.similarity for other in others)


async def test_search_can_go_through_the_index(engine: AsyncEngine, settings: Settings) -> None:
    """Also in a prepared statement's generic plan.

    A small table is cheaper to sort, so sorting is made dear here.
    """
    store, owner, hidden = VectorStore(), await document(), await document("processing")
    index = await index_of(store, "large", 384)
    await store.add(owner, [Chunk(0, "wanted", None, None)], {index.id: [vector(384, 0)]})
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO chunks (id, document_id, position, text)"
            " SELECT gen_random_uuid(), id, g, 'other'"
            " FROM generate_series(1, 200) g, (VALUES (%s::uuid), (%s::uuid)) v (id)",
            [owner, hidden],
        )
        connection.execute(
            f"INSERT INTO vectors_{index.id} SELECT id, document_id,"
            " (SELECT array_agg(random() - 0.5) FROM generate_series(1, 384)"
            "  WHERE c.position > 0)::vector FROM chunks c WHERE position > 0",
        )
        connection.execute("ANALYZE chunks")
        connection.execute(f"ANALYZE vectors_{index.id}")
        database = connection.info.dbname
        connection.execute(f'ALTER DATABASE "{database}" SET enable_sort = off')
        await engine.dispose()
        for _ in range(8):  # past the point where a prepared statement gets a generic plan
            found = await store.search(index, vector(384, 0), 24)
            assert len(found) == 24
            assert found[0].text == "wanted"
            assert {hit.document_id for hit in found} == {str(owner)}
        await engine.dispose()  # statistics of a connection are reported when it ends
        assert index_scans(connection) == 8


def index_scans(connection: psycopg.Connection) -> int:
    row = connection.execute(
        "SELECT coalesce(sum(idx_scan), 0) FROM pg_stat_user_indexes"
        " WHERE indexrelname LIKE 'vectors_%_hnsw'"
    ).fetchone()
    assert row is not None
    return int(row[0])


async def test_vectors_too_long_for_an_index_are_searched_all_the_same(
    engine: AsyncEngine,
) -> None:
    store = VectorStore()
    index = await index_of(store, "huge", 3000)
    await store.add(await document(), [Chunk(0, "t", None, None)], {index.id: [vector(3000, 1)]})
    (hit,) = await store.search(index, vector(3000, 1), 5)
    assert hit.similarity == pytest.approx(1, abs=1e-6)


async def test_a_document_deleted_meanwhile(engine: AsyncEngine) -> None:
    store = VectorStore()
    index = await index_of(store, "m", 8)
    with pytest.raises(DocumentError, match="deleted"):
        await store.add(uuid4(), [Chunk(0, "t", None, None)], {index.id: [vector(8, 1)]})


async def test_vectors_of_an_index_that_answers_no_more_are_not_taken(engine: AsyncEngine) -> None:
    store, owner = VectorStore(), await document()
    former = await index_of(store, "former", 8)
    await store.add(owner, [Chunk(0, "t", None, None)], {former.id: [vector(8, 1)]})
    latter = await index_of(store, "latter", 16, "building")
    assert not await store.switch(latter), "it lacks a vector"
    (gap,) = await store.gaps(latter, None, 10)
    await store.fill(latter, [gap], [vector(16, 1)])
    assert await store.switch(latter)
    with pytest.raises(IndexChangedError):
        await store.add(owner, [Chunk(1, "t", None, None)], {former.id: [vector(8, 1)]})
    with pytest.raises(IndexChangedError):
        await store.fill(former, [gap], [vector(8, 1)])
    assert await store.search(former, vector(8, 1), 5), "questions under way are answered"
    assert await store.drop_retired(0) == ["former"]
    with pytest.raises(IndexChangedError):
        await store.search(former, vector(8, 1), 5)
    assert [hit.text for hit in await store.search(latter, vector(16, 1), 5)] == ["t"]


def test_what_was_indexed_before_there_were_indexes(
    postgres_dsn_factory: Callable[[str], str],
) -> None:
    """The vectors of the version before are the first index, and that version goes on working."""
    settings = load_settings(database_url=postgres_dsn_factory("upgraded"))
    migrate(settings, "0002")
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO documents"
            " (id, name, media_type, size, sha256, status, chunks, uploaded_by)"
            " VALUES (gen_random_uuid(), 'd', 'text/plain', 1, '', 'ready', 3, 'ann')"
        )
        earlier = (
            "INSERT INTO chunks (id, document_id, position, text, embedding_model, embedding)"
            " SELECT gen_random_uuid(), id, %s, 't', %s, %s FROM documents"
        )
        for position, (model, numbers) in enumerate([("m", "[1,2]"), ("m", "[3,4]"), ("o", "[5]")]):
            connection.execute(earlier, [position, model, numbers])
        migrate(settings)
        connection.execute(earlier, [9, "m", "[6,7]"])  # a replica that is still of that version
        active = connection.execute("SELECT model, dimensions, state FROM embedding_indexes")
        assert active.fetchall() == [("m", 2, "active")]
        kept = connection.execute("SELECT embedding::text FROM vectors_1 ORDER BY 1").fetchall()
        assert kept == [("[1,2]",), ("[3,4]",)]
        connection.execute("DELETE FROM documents")
        assert connection.execute("SELECT count(*) FROM vectors_1").fetchone() == (0,)
