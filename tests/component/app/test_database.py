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
from app.rag.store import VectorStore


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


async def test_search_finds_the_nearest_of_its_model_only(engine: AsyncEngine) -> None:
    store = VectorStore()
    ready, unready = await document(), await document("processing")
    for name, size in (("m'odel:small", 8), ("large", 32)):
        chunks = [Chunk(n, f"{name} {n}", n, "s") for n in range(20)]
        if name == "large":
            chunks = [Chunk(n + 100, c.text, c.page, c.section) for n, c in enumerate(chunks)]
        await store.add(ready, name, chunks, [vector(size, n) for n in range(20)])
    await store.add(unready, "large", [Chunk(0, "hidden", None, None)], [vector(32, 7)])
    for name, size in (("m'odel:small", 8), ("large", 32)):
        best, *others = await store.search(name, vector(size, 7), 5)
        assert best.text == f"{name} 7"
        assert best.page == 7
        assert best.similarity == pytest.approx(1, abs=1e-6)
        assert len(others) == 4
        assert all(other.similarity < best.similarity for other in others)
    assert await store.search("unknown", vector(8, 1), 5) == []


async def test_search_can_go_through_the_partial_index(
    engine: AsyncEngine, settings: Settings
) -> None:
    """Expression and predicate match, also in a prepared statement's generic plan.

    A small table is cheaper to sort, so sorting is made dear here.
    """
    store, owner, hidden = VectorStore(), await document(), await document("processing")
    await store.add(owner, "large", [Chunk(0, "wanted", None, None)], [vector(384, 0)])
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO chunks SELECT gen_random_uuid(), id, g, NULL, NULL, 'other', 'large',"
            " (SELECT array_agg(random() - 0.5) FROM generate_series(1, 384) WHERE g > 0)::vector"
            " FROM generate_series(1, 200) g, (VALUES (%s::uuid), (%s::uuid)) v (id)",
            [owner, hidden],
        )
        connection.execute("ANALYZE chunks")
        database = connection.info.dbname
        connection.execute(f'ALTER DATABASE "{database}" SET enable_sort = off')
        await engine.dispose()
        for _ in range(8):  # past the point where a prepared statement gets a generic plan
            found = await store.search("large", vector(384, 0), 24)
            assert len(found) == 24
            assert found[0].text == "wanted"
            assert {hit.document_id for hit in found} == {str(owner)}
        await engine.dispose()  # statistics of a connection are reported when it ends
        assert index_scans(connection) == 8


def index_scans(connection: psycopg.Connection) -> int:
    row = connection.execute(
        "SELECT coalesce(sum(idx_scan), 0) FROM pg_stat_user_indexes"
        " WHERE indexrelname LIKE 'chunks_hnsw_%'"
    ).fetchone()
    assert row is not None
    return int(row[0])


async def test_vectors_of_another_length_under_the_same_name(engine: AsyncEngine) -> None:
    store = VectorStore()
    owner = await document()
    await store.add(owner, "model", [Chunk(0, "t", None, None)], [vector(8, 1)])
    with pytest.raises(DocumentError, match="a name of its own"):
        await store.add(owner, "model", [Chunk(1, "t", None, None)], [vector(16, 1)])


async def test_vectors_too_long_for_an_index_are_searched_all_the_same(
    engine: AsyncEngine,
) -> None:
    store = VectorStore()
    owner = await document()
    await store.add(owner, "huge", [Chunk(0, "t", None, None)], [vector(3000, 1)])
    (hit,) = await store.search("huge", vector(3000, 1), 5)
    assert hit.similarity == pytest.approx(1, abs=1e-6)


async def test_a_document_deleted_meanwhile(engine: AsyncEngine) -> None:
    with pytest.raises(DocumentError, match="deleted"):
        await VectorStore().add(uuid4(), "m", [Chunk(0, "t", None, None)], [vector(8, 1)])
