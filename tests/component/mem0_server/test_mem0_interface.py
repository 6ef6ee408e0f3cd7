"""mem0's own routes, as its users' scripts call them."""

import json
from collections.abc import Callable
from typing import Any

import httpx


def test_messages_are_kept_as_they_are_without_infer(client: httpx.Client) -> None:
    added = client.post(
        "/memories",
        json={
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "I drink green tea", "name": "ada"},
                {"role": "assistant", "content": "noted"},
            ],
            "user_id": "new user",
            "run_id": "r1",
            "metadata": {"topic": "drinks"},
            "infer": False,
        },
    )
    assert added.status_code == 200
    events = added.json()["results"]
    assert [(e["memory"], e["event"], e["role"]) for e in events] == [
        ("I drink green tea", "ADD", "user"),
        ("noted", "ADD", "assistant"),
    ]
    listed = client.get("/memories", params={"user_id": "new user"}).json()["results"]
    assert [memory["memory"] for memory in listed] == ["noted", "I drink green tea"]
    first = listed[1]
    assert first["id"] == events[0]["id"]
    assert (first["user_id"], first["run_id"]) == ("new user", "r1")
    assert (first["metadata"], first["actor_id"]) == ({"topic": "drinks"}, "ada")
    assert "agent_id" not in first
    assert client.get(f"/memories/{first['id']}").json() == first


def test_search_stays_with_its_user_and_its_filters(client: httpx.Client) -> None:
    for user, text, topic in (
        ("ada", "I drink green tea", "drinks"),
        ("ada", "my green car drinks petrol", "cars"),
        ("bob", "I drink green tea too", "drinks"),
    ):
        client.post(
            "/memories",
            json={"messages": text, "user_id": user, "metadata": {"topic": topic}, "infer": False},
        )
    client.post(
        "/agents/helper/humans/ada/archival", json={"kind": "note", "data": {"drink": "green tea"}}
    )
    found = client.post("/search", json={"query": "drink green tea", "user_id": "ada"})
    results = found.json()["results"]
    assert [r["memory"] for r in results] == ["I drink green tea", "my green car drinks petrol"]
    assert results[0]["score"] > results[1]["score"]
    filtered = client.post(
        "/search",
        json={"query": "drink green tea", "filters": {"user_id": "ada", "topic": "cars"}},
    )
    assert [r["memory"] for r in filtered.json()["results"]] == ["my green car drinks petrol"]


def test_one_memory_can_be_deleted(client: httpx.Client) -> None:
    body = {"messages": "I drink green tea", "user_id": "ada", "infer": False}
    (event,) = client.post("/memories", json=body).json()["results"]
    assert client.delete(f"/memories/{event['id']}").status_code == 200
    assert client.get(f"/memories/{event['id']}").status_code == 404
    assert client.delete(f"/memories/{event['id']}").status_code == 404
    found = client.post("/search", json={"query": "green tea", "user_id": "ada"})
    assert found.json() == {"results": []}


def test_infer_keeps_the_facts_and_uses_what_was_said_before(
    client: httpx.Client, scripted_ollama: Any, query: Callable[..., list[tuple[Any, ...]]]
) -> None:
    scripted_ollama.answer = json.dumps(
        {"memory": [{"id": "0", "text": "Ada drinks green tea", "attributed_to": "user"}]}
    )
    body = {"messages": [{"role": "user", "content": "green tea for me"}], "user_id": "ada"}
    (event,) = client.post("/memories", json=body).json()["results"]
    assert (event["memory"], event["event"]) == ("Ada drinks green tea", "ADD")
    listed = client.get("/memories", params={"user_id": "ada"}).json()["results"]
    assert [(m["id"], m["memory"]) for m in listed] == [(event["id"], "Ada drinks green tea")]
    found = client.post("/search", json={"query": "green tea", "user_id": "ada"}).json()["results"]
    assert [memory["id"] for memory in found] == [event["id"]]
    body["messages"][0]["content"] = "what did I say?"  # type: ignore[index]
    again = client.post("/memories", json=body)
    assert again.json() == {"results": []}  # the same fact is known already
    prompt = json.dumps(scripted_ollama.requests[-1]["messages"])
    assert "green tea for me" in prompt
    assert "Ada drinks green tea" in prompt
    assert query("SELECT content FROM mem0_messages ORDER BY id") == [
        ("green tea for me",),
        ("what did I say?",),
    ]
    client.delete("/humans/ada")
    assert query("SELECT count(*) FROM mem0_messages") == [(0,)]


def test_infer_says_when_the_model_is_away(client: httpx.Client, scripted_ollama: Any) -> None:
    scripted_ollama.models.remove("chat-model")
    answer = client.post("/memories", json={"messages": "hello", "user_id": "ada"})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "model_missing"
    assert client.get("/memories", params={"user_id": "ada"}).json() == {"results": []}
