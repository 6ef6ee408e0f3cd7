"""Deleting all that is held about one human."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import psycopg

from tests.bench.mem0.peer import make_memory
from tests.bench.mem0.world import AGENT, World
from tests.bench.rows import Row, compare
from tests.component.conftest import embed

MEMORIES = 1_000
ROUNDS = 3
_RECORDS = """
INSERT INTO archival (agent_id, human_id, kind, data)
SELECT %(agent)s, %(human)s, 'note', jsonb_build_object('text', 'memory number ' || n)
FROM generate_series(1, %(count)s) n
"""


def of_a_human(world: World) -> Row:
    """A human with a thousand indexed memories, against ``Memory.delete_all``."""
    peer = make_memory(world.postgres.database("removal_peer"), str(world.folder / "removal"))
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(_ours(world))
        theirs.append(_mem0ai(peer))
    return compare(
        row=f"delete a human with {MEMORIES:,} memories",
        unit="ms",
        ours=ours,
        peer_name="mem0ai's delete_all",
        peer=theirs,
        better="lower",
        goal=50,
    )


def _ours(world: World) -> float:
    url = world.ours("removal")
    with world.client(url) as client, psycopg.connect(world.dsn("removal")) as connection:
        client.put("/humans/ada", json={}).raise_for_status()
        # A first search opens the index.
        search = f"/agents/{AGENT}/humans/ada/archival/search"
        client.post(search, json={"query": "anything"}).raise_for_status()
        connection.execute(_RECORDS, {"agent": AGENT, "human": "ada", "count": MEMORIES})
        (name,) = connection.execute("SELECT name FROM index_collections").fetchone() or ("",)
        rows = connection.execute("SELECT id, data->>'text' FROM archival").fetchall()
        with connection.cursor() as cursor:
            cursor.executemany(
                f'INSERT INTO "{name}" (id, vector, payload) VALUES (%s, %s::vector, %s::jsonb)',
                [(key, str(embed(text)), _payload("ada", text)) for key, text in rows],
            )
        connection.commit()
        began = time.perf_counter()
        deleted = client.delete("/humans/ada").raise_for_status().json()
        seconds = time.perf_counter() - began
        left = connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()
    if deleted["records"] != MEMORIES or left != (0,):
        raise RuntimeError(f"deleted {deleted}, {left} left in the index")
    return seconds * 1000


def _mem0ai(memory: Any) -> float:
    texts = [f"memory number {n}" for n in range(MEMORIES)]
    memory.vector_store.insert(
        [embed(text) for text in texts],
        [{"user_id": "ada", "data": text, "text_lemmatized": text} for text in texts],
        [str(uuid4()) for _ in texts],
    )
    began = time.perf_counter()
    memory.delete_all(user_id="ada")
    seconds = time.perf_counter() - began
    if memory.vector_store.list({"user_id": "ada"}, top_k=1)[0]:
        raise RuntimeError("mem0ai did not delete all")
    return seconds * 1000


def _payload(human: str, text: str) -> Any:
    from psycopg.types.json import Jsonb

    return Jsonb(
        {
            "user_id": human,
            "agent_id": AGENT,
            "_kind": "note",
            "data": text,
            "text_lemmatized": text,
        }
    )
