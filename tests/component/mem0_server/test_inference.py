"""Facts found in appended messages, behind the answer."""

import json
from collections.abc import Callable
from typing import Any

import httpx

RECALL = "/agents/helper/humans/ada/recall"
FACT = {"memory": [{"id": "0", "text": "Ada drinks green tea", "attributed_to": "user"}]}


def append(client: httpx.Client, content: str, **more: Any) -> httpx.Response:
    return client.post(RECALL, json={"role": "user", "content": content, **more})


def facts(client: httpx.Client) -> list[str]:
    found = client.get("/memories", params={"user_id": "ada", "agent_id": "helper"}).json()
    return [one["memory"] for one in found["results"]]


def test_a_call_asks_for_it(
    client: httpx.Client, scripted_ollama: Any, wait: Callable[..., Any]
) -> None:
    scripted_ollama.answer = json.dumps(FACT)
    assert append(client, "hello").status_code == 201
    stored = append(client, "green tea for me", infer=True)
    assert (stored.status_code, stored.json()["content"]) == (201, "green tea for me")
    wait(lambda: facts(client) == ["Ada drinks green tea"], "the fact")
    (request,) = scripted_ollama.requests
    prompt = json.dumps(request["messages"])
    assert "green tea for me" in prompt
    assert "hello" in prompt  # what was said before is the context
    found = client.post("/search", json={"query": "green tea", "user_id": "ada"}).json()["results"]
    assert [one["memory"] for one in found] == ["Ada drinks green tea"]
    assert client.get("/status").json()["infer_backlog"] == 0
    assert "mem0_infer_messages_total 1.0" in client.get("/metrics").text


def test_a_deployment_asks_for_it_and_a_call_may_refuse(
    dsn: str,
    scripted_ollama: Any,
    new_settings: Callable[..., Any],
    start: Callable[[Any], Any],
    wait: Callable[..., Any],
) -> None:
    scripted_ollama.answer = json.dumps(FACT)
    client = start(new_settings(dsn, scripted_ollama.url, infer_on_append=True)).client
    client.put("/agents/helper", json={"name": "Helper", "persona": ""})
    client.put("/humans/ada", json={})
    append(client, "keep this to yourself", infer=False)
    append(client, "green tea for me")
    wait(lambda: facts(client) == ["Ada drinks green tea"], "the fact")
    assert len(scripted_ollama.requests) == 1


def test_the_write_neither_waits_nor_fails_and_is_made_up_for(
    client: httpx.Client,
    scripted_ollama: Any,
    wait: Callable[..., Any],
    query: Callable[..., list[tuple[Any, ...]]],
) -> None:
    scripted_ollama.answer = json.dumps(FACT)
    scripted_ollama.down = True
    for number in range(3):
        key = {"Idempotency-Key": str(number)}
        body = {"role": "user", "content": f"tea {number}", "infer": True}
        for status in (201, 200):  # the repeat queues nothing
            assert client.post(RECALL, json=body, headers=key).status_code == status
    assert client.get("/status").json()["infer_backlog"] == 3
    assert "mem0_infer_backlog 3.0" in client.get("/metrics").text
    assert append(client, "x", infer=True, role="tool").status_code == 201
    assert query("SELECT count(*) FROM infer_jobs") == [(3,)]
    scripted_ollama.down = False
    wait(lambda: query("SELECT count(*) FROM infer_jobs") == [(0,)], "all to be read")
    assert facts(client) == ["Ada drinks green tea"]


def test_what_the_model_cannot_read_is_given_up_in_the_end(
    client: httpx.Client,
    scripted_ollama: Any,
    wait: Callable[..., Any],
    query: Callable[..., list[tuple[Any, ...]]],
) -> None:
    scripted_ollama.answer = json.dumps({"memory": ["no object"]})
    append(client, "tea", infer=True)
    wait(lambda: query("SELECT attempts FROM infer_jobs WHERE lease IS NULL") == [(1,)], "a try")
    query("UPDATE infer_jobs SET attempts = 4, not_before = now()")
    wait(lambda: query("SELECT count(*) FROM infer_jobs") == [(0,)], "the end of trying", 20)
    assert 'mem0_infer_failures_total{code="model_failed"} 2.0' in client.get("/metrics").text
    answer = client.post("/memories", json={"messages": "tea", "user_id": "ada"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_failed")
    assert [m["content"] for m in client.get(RECALL).json()["messages"]] == ["tea"]


def test_a_deletion_meanwhile_wins(
    client: httpx.Client,
    scripted_ollama: Any,
    wait: Callable[..., Any],
    query: Callable[..., list[tuple[Any, ...]]],
) -> None:
    scripted_ollama.answer = json.dumps(FACT)
    scripted_ollama.down = True
    append(client, "green tea for me", infer=True)
    client.delete("/humans/ada")
    scripted_ollama.down = False
    assert client.get("/status").json()["infer_backlog"] == 0
    assert query("SELECT count(*) FROM archival") == [(0,)]
    assert client.get("/humans/ada").status_code == 404
