"""Semantic search of records, with a real embedding model.

The vectors of the records are kept in ``build/``, because embedding ten thousand texts takes
minutes; the queries are embedded in each run.
"""

from __future__ import annotations

import time
from array import array
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
from psycopg.types.json import Jsonb

from app.dev import models
from app.dev.servers import free_port
from mem0_server.index.text import payload_of, text_of
from mem0_server.store.jobs import Job, Scope
from tests.bench.mem0.world import AGENT, World
from tests.bench.rows import Row, compare

RECORDS = 10_000
QUERIES = 60
BATCH = 64
LIMIT = 5
MODEL = models.SMALL_MODELS[1]
KEPT = Path(__file__).resolve().parents[3] / "build" / f"bench-{MODEL}-{RECORDS}.f32"

_PEOPLE = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana", "Ian", "Jo")
_VERBS = ("prefers", "orders", "avoids", "recommends", "asked about")
_THINGS = (
    "green tea", "night trains", "the blue folder", "short answers", "the leave policy",
    "window seats", "metric units", "release notes", "the sales handbook", "cold coffee",
)  # fmt: skip
_PLACES = ("in Oslo", "at the office", "on Mondays", "when travelling")


def against_sql(world: World) -> Row:
    """search(5) among ten thousand records, against its embedding call and one SQL query."""
    ollama = _ollama(world)
    url = world.ours("search", ollama, MODEL)
    path = f"/agents/{AGENT}/humans/ada/archival/search"
    ours: list[float] = []
    sql: list[float] = []
    with (
        world.client(url) as client,
        httpx.Client(base_url=ollama, timeout=60) as embedder,
        psycopg.connect(world.dsn("search"), autocommit=True) as connection,
    ):
        client.put("/humans/ada", json={}).raise_for_status()
        client.post(path, json={"query": "opens the index"}).raise_for_status()
        (name,) = connection.execute("SELECT name FROM index_collections").fetchone() or ("",)
        _fill(connection, name, embedder)
        nearest = (
            f'SELECT id, payload, vector <=> %s::vector AS distance FROM "{name}" '
            f"ORDER BY distance LIMIT {LIMIT}"
        )

        def ask_us(query: str) -> None:
            found = client.post(path, json={"query": query, "limit": LIMIT})
            if len(found.raise_for_status().json()["records"]) != LIMIT:
                raise RuntimeError(f"{query!r} found {found.text}")

        def ask_sql(query: str) -> None:
            vector = _embed(embedder, [query])[0]
            if len(connection.execute(nearest, [str(vector)], prepare=True).fetchall()) != LIMIT:
                raise RuntimeError(f"{query!r} found too few")

        for number in range(QUERIES + 5):
            query = f"What does {_PEOPLE[number % 10]} like in case {number}?"
            turns = [(ask_us, ours), (ask_sql, sql)]
            for ask, samples in turns if number % 2 else reversed(turns):
                began = time.perf_counter()
                ask(query)
                if number >= 5:  # the first ones warm up caches on both sides
                    samples.append((time.perf_counter() - began) * 1000)
    return compare(
        row=f"archival search({LIMIT}) at {RECORDS:,} records",
        unit="ms",
        ours=ours,
        peer_name="the embedding call and a nearest-neighbour query",
        peer=sql,
        better="lower",
        at_most=1.2,
        reason="beside the embedding, mem0ai always asks for 60 candidates by meaning and 60 by "
        "words and ranks them; whether own writes wait, HTTP and reading the records are the rest",
    )


def _ollama(world: World) -> str:
    """An Ollama with the model: one that runs, or one of ours that ends with the world."""
    if f"{MODEL}:latest" in (models.installed(models.DEFAULT_URL) or []):
        return models.DEFAULT_URL
    started = models.small(free_port(), world.folder / "ollama.log")
    if started.child is not None:
        world.ends_with(started.child.stop)
    return started.url


def _fill(connection: Any, collection: str, embedder: httpx.Client) -> None:
    """The records and their index, as the server writes both."""
    data = [{"note": text} for text in _texts()]
    texts = [text_of("note", one) for one in data]
    ids = [uuid4() for _ in data]
    with connection.cursor() as cursor:
        with cursor.copy("COPY archival (id, agent_id, human_id, kind, data) FROM STDIN") as copy:
            for key, one in zip(ids, data, strict=True):
                copy.write_row((key, AGENT, "ada", "note", Jsonb(one)))
        with cursor.copy(f'COPY "{collection}" (id, vector, payload) FROM STDIN') as copy:
            for key, one, text, vector in zip(
                ids, data, texts, _vectors(texts, embedder), strict=True
            ):
                job = Job(key, Scope(human_id="ada", agent_id=AGENT), "note", one, "2026-01-01")
                copy.write_row((key, str(vector), Jsonb(payload_of(job, text, text.lower()))))
    connection.execute("VACUUM ANALYZE")


def _texts() -> list[str]:
    """Ten thousand different notes of a sentence."""
    parts = [
        f"{person} {verb} {thing} {place}"
        for person in _PEOPLE
        for verb in _VERBS
        for thing in _THINGS
        for place in _PLACES
    ]
    return [f"{parts[n % len(parts)]}, case {n}" for n in range(RECORDS)]


def _vectors(texts: list[str], embedder: httpx.Client) -> list[list[float]]:
    if not KEPT.is_file():
        made = array("f")
        for start in range(0, len(texts), BATCH):
            for vector in _embed(embedder, texts[start : start + BATCH]):
                made.extend(vector)
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.with_suffix(".part").write_bytes(made.tobytes())
        KEPT.with_suffix(".part").rename(KEPT)
    values = array("f")
    values.frombytes(KEPT.read_bytes())
    width = len(values) // len(texts)
    return [list(values[n * width : (n + 1) * width]) for n in range(len(texts))]


def _embed(embedder: httpx.Client, texts: list[str]) -> list[list[float]]:
    answer = embedder.post("/api/embed", json={"model": MODEL, "input": texts})
    vectors: list[list[float]] = answer.raise_for_status().json()["embeddings"]
    return vectors
