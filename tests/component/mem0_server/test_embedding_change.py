"""Another embedding model: refused, or its index filled beside the one that answers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx

from mem0_server.prepare import REFUSED

KEY = "mk_component-test-key-1234567890"
BASE = "/agents/helper/humans/ada"
TOLD, BATCH = 24, 4
Query = Callable[..., list[tuple[Any, ...]]]


def keep(client: httpx.Client, word: str) -> None:
    data = {"kind": "note", "data": {"tea": word}}
    assert client.post(f"{BASE}/archival", json=data).is_success


def found(client: httpx.Client) -> int:
    answer = client.post(f"{BASE}/archival/search", json={"query": "tea", "limit": 100})
    assert answer.status_code == 200, answer.text
    return len(answer.json()["records"])


def embeddings(client: httpx.Client) -> dict[str, Any]:
    return client.get("/status").json()["embeddings"]  # type: ignore[no-any-return]


def test_a_change_is_refused_until_asked_for(
    dsn: str,
    client: httpx.Client,
    another: Callable[..., Any],
    scripted_ollama: Any,
    wait: Callable[..., Any],
    query: Query,
) -> None:
    keep(client, "green")
    assert found(client) == 1
    scripted_ollama.models.append("other-model")
    env = {
        **os.environ,
        "DATABASE_URL": dsn,
        "MEM0_ADMIN_API_KEY": KEY,
        "EMBEDDING_MODEL": "other-model",
    }
    command = [sys.executable, "-m", "mem0_server.prepare"]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert ended.returncode == REFUSED, ended.stderr
    assert "set models.reindex to true" in ended.stderr
    allowed = subprocess.run(command, env=env | {"REINDEX": "true"}, timeout=120)
    assert allowed.returncode == 0
    other = another(embedding_model="other-model").client
    assert found(other) == 1, "it serves on with the index that there is"
    wait(lambda: embeddings(other)["message"], "the refusal")
    assert embeddings(other)["model"] == "embed-model"
    assert len(query("SELECT name FROM index_collections")) == 1


def test_searches_go_on_until_the_new_index_is_complete(
    client: httpx.Client,
    another: Callable[..., Any],
    scripted_ollama: Any,
    wait: Callable[..., Any],
    query: Query,
) -> None:
    for n in range(24):
        keep(client, f"green {n}")
    assert found(client) == 24
    scripted_ollama.models.append("other-model")
    scripted_ollama.dimensions["other-model"] = 96
    scripted_ollama.seconds["other-model"] = 0.05
    settings = {"embedding_model": "other-model", "index_batch": 4, "index_keep": 2}
    other = another(reindex=True, **settings).client
    progress = wait(lambda: embeddings(other)["reindex"], "the progress")
    assert (progress["model"], progress["dimensions"], progress["total"]) == (
        "other-model", 96, 24,
    )  # fmt: skip
    for number, one in enumerate((client, other, client, other), 25):
        keep(one, "late")
        assert found(one) == number, "own writes are found, before and after the switch"
    for one in (client, other):

        def switched(one: httpx.Client = one) -> bool:
            assert found(one) == 28
            return bool(embeddings(one)["model"] == "other-model")

        wait(switched, "the switch")
    scripted_ollama.embedded_by.clear()
    assert found(client) == 28
    assert set(scripted_ollama.embedded_by) == {"other-model"}
    query("UPDATE index_collections SET used_at = used_at - interval '1 h' WHERE dimensions = 64")
    wait(lambda: len(query("SELECT name FROM index_collections")) == 1, "the old one to go", 20)
    assert found(client) == 28


def test_one_that_is_killed_at_it_is_succeeded(
    client: httpx.Client,
    spawn: Callable[..., Any],
    scripted_ollama: Any,
    wait: Callable[..., Any],
    query: Query,
) -> None:
    for n in range(TOLD):
        keep(client, f"green {n}")
    assert found(client) == TOLD
    scripted_ollama.models.append("other-model")
    scripted_ollama.dimensions["other-model"] = 96
    scripted_ollama.seconds["other-model"] = 0.2
    scripted_ollama.embedded.clear()
    scripted_ollama.embedded_by.clear()
    wanted = {
        "EMBEDDING_MODEL": "other-model", "REINDEX": "true", "INDEX_BATCH": str(BATCH),
        "OLLAMA_BASE_URL": scripted_ollama.url,
    }  # fmt: skip
    victim = spawn(**wanted)

    def half_way() -> Any:
        told = embeddings(victim.client)["reindex"]
        return told and 2 * BATCH <= told["done"] < told["total"] and told

    wait(half_way, "some to be embedded")
    victim.popen.kill()
    victim.popen.wait()
    assert embeddings(client)["model"] == "embed-model", "nobody went over to a part of an index"
    keep(client, "late")
    assert found(client) == TOLD + 1
    successor = spawn(**wanted).client
    for one in (client, successor):
        # What the killed one was at is left to others after a quarter of a minute.
        wait(lambda one=one: embeddings(one)["model"] == "other-model", "the switch", 60)
        assert found(one) == TOLD + 1
    assert query("SELECT count(*) FROM index_jobs") == [(0,)]
    anew = [
        text
        for text, model in zip(scripted_ollama.embedded, scripted_ollama.embedded_by, strict=True)
        if model == "other-model" and "green" in text
    ]
    assert len(set(anew)) == TOLD
    assert len(anew) - TOLD <= BATCH, "only the batch that was under way is embedded twice"


def test_other_vectors_under_the_same_name_are_refused_and_embedded_anew_when_asked(
    client: httpx.Client,
    another: Callable[..., Any],
    scripted_ollama: Any,
    wait: Callable[..., Any],
    query: Query,
) -> None:
    keep(client, "green")
    assert found(client) == 1
    scripted_ollama.dimensions["embed-model"] = 96
    other = another().client
    refused = other.post(f"{BASE}/archival/search", json={"query": "tea"})
    assert refused.status_code == 503
    assert "vectors of length 96 now" in refused.json()["error"]["message"]
    assert "set models.reindex to true" in refused.json()["error"]["message"]
    wait(lambda: embeddings(other)["message"], "the refusal")
    assert len(query("SELECT name FROM index_collections")) == 1
    asked = another(reindex=True).client
    wait(lambda: embeddings(asked)["dimensions"] == 96, "the switch")
    for one in (asked, other):
        wait(lambda one=one: embeddings(one)["dimensions"] == 96, "all to go over")
        assert found(one) == 1
