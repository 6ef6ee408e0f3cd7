"""The index can be made anew from the records, and one that nobody uses goes away."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from mem0_server.reindex import progress

KEY = "mk_component-test-key-1234567890"
BASE = "/agents/helper/humans/ada"
Query = Callable[..., list[tuple[Any, ...]]]


def reindex(dsn: str, ollama: str, *options: str) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "DATABASE_URL": dsn,
        "MEM0_ADMIN_API_KEY": KEY,
        "OLLAMA_BASE_URL": ollama,
        "EMBEDDING_MODEL": "embed-model",
    }
    command = [sys.executable, "-m", "mem0_server", "reindex", *options]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


def keep(client: httpx.Client, number: int) -> None:
    for n in range(number):
        client.post(f"{BASE}/archival", json={"kind": "note", "data": {"tea": f"green {n}"}})


def found(client: httpx.Client) -> int:
    return len(client.post(f"{BASE}/archival/search", json={"query": "tea"}).json()["records"])


@pytest.mark.parametrize("options", [(), ("--drop",)])
def test_every_record_is_embedded_again(
    options: tuple[str, ...],
    dsn: str,
    client: httpx.Client,
    scripted_ollama: Any,
    query: Query,
    wait: Callable[..., Any],
) -> None:
    keep(client, 5)
    client.post("/memories", json={"messages": "tea", "user_id": "ada", "infer": False})
    wait(lambda: client.get("/status").json()["backlog"] == 0, "the index")
    ((table,),) = query("SELECT name FROM index_collections")
    query(f'UPDATE {table} SET payload = payload || \'{{"data": "spoilt"}}\'')
    done = reindex(dsn, scripted_ollama.url, *options)
    assert done.returncode == 0, done.stderr
    assert "reindex: 6 records queued" in done.stderr
    assert "reindex: 6 of 6 records (100%)" in done.stderr
    assert query(f"SELECT count(*) FROM {table} WHERE payload->>'data' <> 'spoilt'") == [(6,)]
    assert found(client) == 5
    client.delete("/humans/ada")
    assert query(f"SELECT count(*) FROM {table}") == [(0,)]


def test_a_lost_table_is_made_again(
    dsn: str, client: httpx.Client, scripted_ollama: Any, query: Query, wait: Callable[..., Any]
) -> None:
    keep(client, 2)
    wait(lambda: client.get("/status").json()["backlog"] == 0, "the index")
    ((table,),) = query("SELECT name FROM index_collections")
    query(f"DROP TABLE {table}")
    done = reindex(dsn, scripted_ollama.url)
    assert done.returncode == 0, done.stderr
    assert found(client) == 2


def test_a_server_whose_index_has_gone_makes_another(
    client: httpx.Client, another: Callable[..., Any], query: Query, wait: Callable[..., Any]
) -> None:
    attentive = another(index_keep=4).client
    keep(client, 2)
    assert found(attentive) == 2
    ((table,),) = query("SELECT name FROM index_collections")
    query(f"DROP TABLE {table}")
    query("DELETE FROM index_collections")
    wait(lambda: query("SELECT name FROM index_collections"), "another index", 20)
    gc.collect()  # what was in use before must not take the connections along
    assert found(attentive) == 2


def test_queueing_alone_leaves_the_work_to_the_servers(
    dsn: str, client: httpx.Client, scripted_ollama: Any, wait: Callable[..., Any]
) -> None:
    keep(client, 2)
    wait(lambda: client.get("/status").json()["backlog"] == 0, "the index")
    before = len(scripted_ollama.embedded)
    assert reindex(dsn, scripted_ollama.url, "--no-wait").returncode == 0
    wait(lambda: len(scripted_ollama.embedded) >= before + 3, "the servers' work")
    wait(lambda: client.get("/status").json()["backlog"] == 0, "the index")


def test_an_index_that_nobody_uses_is_dropped(
    client: httpx.Client,
    another: Callable[..., Any],
    scripted_ollama: Any,
    query: Query,
    wait: Callable[..., Any],
) -> None:
    scripted_ollama.models.append("other-model")
    keep(client, 2)
    wait(lambda: client.get("/status").json()["backlog"] == 0, "the index")
    ((gone,),) = query("SELECT name FROM index_collections")
    new = another(embedding_model="other-model", index_keep=4, reindex=True).client
    for one in (new, client):  # whatever its settings, a server answers from what answers

        def follows(one: httpx.Client = one) -> bool:
            assert found(one) == 2
            return bool(one.get("/status").json()["embeddings"]["model"] == "other-model")

        wait(follows, "the switch")
    query("UPDATE index_collections SET used_at = now() - interval '1 min' WHERE name = %s", gone)
    wait(lambda: len(query("SELECT name FROM index_collections")) == 1, "the old one to go", 20)
    assert query("SELECT to_regclass(%s)", gone) == [(None,)]
    assert query("SELECT count(*) FROM index_jobs WHERE collection = %s", gone) == [(0,)]
    assert found(new) == 2
    client.post(f"{BASE}/archival", json={"kind": "note", "data": {"tea": "black"}})
    assert found(new) == 3


def test_progress_tells_a_rate_and_an_estimate() -> None:
    assert progress(0, 0, 0) == "0 of 0 records (100%)"
    assert progress(200, 200, 3) == "0 of 200 records (0%)"
    assert progress(200, 150, 10) == "50 of 200 records (25%), 5 a second, about 30 s left"
    assert progress(200, 0, 10) == "200 of 200 records (100%), 20 a second"
