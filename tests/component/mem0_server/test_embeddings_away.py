"""Ollama away: everything but search goes on, and is made up for."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from mem0_server.index import indexer
from mem0_server.store import jobs

BASE = "/agents/helper/humans/ada"


def prepare_people(client: httpx.Client) -> None:
    client.put("/agents/helper", json={"name": "Helper", "persona": ""})
    client.put("/humans/ada", json={"name": "Ada"})


def search(client: httpx.Client, text: str) -> httpx.Response:
    return client.post(f"{BASE}/archival/search", json={"query": text})


def test_away_from_the_start_and_back(
    dsn: str,
    scripted_ollama: Any,
    new_settings: Callable[..., Any],
    start: Callable[[Any], Any],
    wait: Callable[..., Any],
) -> None:
    scripted_ollama.down = True
    client = start(new_settings(dsn, scripted_ollama.url)).client
    prepare_people(client)
    assert client.get("/ready").status_code == 200
    said = client.post(f"{BASE}/recall", json={"role": "user", "content": "hello"})
    kept = client.post(f"{BASE}/archival", json={"kind": "note", "data": {"tea": "green"}})
    assert (said.status_code, kept.status_code) == (201, 201)
    listed = client.get(f"{BASE}/archival").json()["records"]
    assert [record["data"] for record in listed] == [{"tea": "green"}]
    assert search(client, "").status_code == 200
    refused = search(client, "green tea")
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    error = refused.json()["error"]
    assert error["code"] == "ollama_unavailable"
    assert scripted_ollama.url in error["message"]
    status = client.get("/status").json()
    assert status["backlog"] == 1
    assert (status["embeddings"]["status"], bool(status["embeddings"]["reason"])) == (
        "unavailable",
        True,
    )
    scripted_ollama.down = False
    wait(lambda: client.get("/status").json()["backlog"] == 0, "the queue to drain")
    found = search(client, "green tea").json()["records"]
    assert [record["data"] for record in found] == [{"tea": "green"}]
    assert client.get("/status").json()["embeddings"]["status"] == "ok"


def test_away_in_between(
    client: httpx.Client, scripted_ollama: Any, wait: Callable[..., Any]
) -> None:
    client.post(f"{BASE}/archival", json={"kind": "note", "data": {"n": "one"}})
    assert len(search(client, "one").json()["records"]) == 1
    scripted_ollama.down = True
    for number in range(40):
        answer = client.post(f"{BASE}/archival", json={"kind": "note", "data": {"n": number}})
        assert answer.status_code == 201
    assert search(client, "one").status_code == 503
    assert client.get("/status").json()["backlog"] == 40
    scripted_ollama.down = False
    wait(lambda: client.get("/status").json()["backlog"] == 0, "the queue to drain", 15)
    assert "mem0_index_records_total 41.0" in client.get("/metrics").text


def test_a_missing_model_is_named(
    client: httpx.Client, scripted_ollama: Any, wait: Callable[..., Any]
) -> None:
    wait(lambda: client.get("/status").json()["embeddings"]["status"] == "ok", "the index")
    scripted_ollama.models.remove("embed-model")
    refused = search(client, "anything")
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "model_missing"
    assert "embed-model" in refused.json()["error"]["message"]


def test_another_embedding_model_gets_an_index_of_its_own(
    client: httpx.Client,
    another: Callable[..., Any],
    scripted_ollama: Any,
    wait: Callable[..., Any],
    query: Callable[..., list[tuple[Any, ...]]],
) -> None:
    """Replicas of both settings run while a roll-out lasts; each finds everything."""
    client.post(f"{BASE}/archival", json={"kind": "note", "data": {"tea": "green"}})
    assert len(search(client, "green tea").json()["records"]) == 1
    scripted_ollama.models.append("other-model")
    other = another(embedding_model="other-model", reindex=True).client
    assert len(search(other, "green tea").json()["records"]) == 1
    client.post(f"{BASE}/archival", json={"kind": "note", "data": {"tea": "black"}})
    for one in (client, other):
        assert len(search(one, "tea").json()["records"]) == 2
    wait(lambda: len(query("SELECT name FROM index_collections")) == 2, "its index")
    client.delete("/humans/ada")
    for (name,) in query("SELECT name FROM index_collections"):
        assert query(f"SELECT count(*) FROM {name}") == [(0,)]


def test_a_deletion_during_indexing_wins(
    client: httpx.Client,
    scripted_ollama: Any,
    query: Callable[..., list[tuple[Any, ...]]],
    wait: Callable[..., Any],
) -> None:
    wait(lambda: client.get("/status").json()["embeddings"]["status"] == "ok", "the index")
    stop = threading.Event()
    failures: list[int] = []

    def write(number: int) -> None:
        while not stop.is_set():
            client.put(f"/humans/h{number}", json={})
            for _ in range(5):
                answer = client.post(
                    f"/agents/helper/humans/h{number}/archival",
                    json={"kind": "k", "data": {"x": "text"}, "replace": True},
                )
                if answer.status_code not in (201, 404):
                    failures.append(answer.status_code)
            deleted = client.delete(f"/humans/h{number}")
            if deleted.status_code != 200:
                failures.append(deleted.status_code)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    wait(lambda: len(scripted_ollama.embedded) > 60, "some embeddings", 15)
    stop.set()
    for writer in writers:
        writer.join()
    assert failures == []
    wait(lambda: client.get("/status").json()["backlog"] == 0, "an empty queue")
    (name,) = query("SELECT name FROM index_collections")[0]
    assert query(f"SELECT count(*) FROM {name}") == [(0,)]


def test_a_text_that_breaks_the_model_holds_up_no_other(
    dsn: str,
    new_settings: Callable[..., Any],
    start: Callable[[Any], Any],
    query: Callable[..., list[tuple[Any, ...]]],
    wait: Callable[..., Any],
) -> None:
    class Fragile(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            return

        def do_POST(self) -> None:
            texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
            texts = texts if isinstance(texts, list) else [texts]
            broken = any("poison" in text for text in texts)
            answer = {"error": "NaN"} if broken else {"embeddings": [[1.0, 2.0, 3.0]] * len(texts)}
            self.send_response(500 if broken else 200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

    ollama = ThreadingHTTPServer(("127.0.0.1", 0), Fragile)
    threading.Thread(target=ollama.serve_forever, args=(0.02,), daemon=True).start()
    client = start(new_settings(dsn, f"http://127.0.0.1:{ollama.server_address[1]}")).client
    prepare_people(client)
    for word in ("one", "poison", "three", "four"):
        client.post(f"{BASE}/archival", json={"kind": "note", "data": {"word": word}})
    wait(lambda: client.get("/status").json()["backlog"] == 1, "the others")
    found = search(client, "word").json()["records"]
    assert sorted(record["data"]["word"] for record in found) == ["four", "one", "three"]
    ((attempts, reason),) = query("SELECT attempts, last_error FROM index_jobs")
    assert attempts >= 1
    assert "NaN" in reason
    assert 'mem0_index_failures_total{code="model_failed"}' in client.get("/metrics").text
    ollama.shutdown()
    ollama.server_close()


def test_a_model_slower_than_a_lease_embeds_nothing_twice(
    client: httpx.Client,
    another: Callable[..., Any],
    scripted_ollama: Any,
    wait: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (jobs, indexer):
        monkeypatch.setattr(module, "LEASE_SECONDS", 1.5)
    scripted_ollama.seconds["embed-model"] = 4.0
    another()
    kept = client.post(f"{BASE}/archival", json={"kind": "note", "data": {"tea": "green"}})
    assert kept.status_code == 201
    wait(lambda: client.get("/status").json()["backlog"] == 0, "the record to be embedded")
    assert len([text for text in scripted_ollama.embedded if "green" in text]) == 1
