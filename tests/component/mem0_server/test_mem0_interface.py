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


def events(client: httpx.Client, memory_id: str) -> list[tuple[Any, ...]]:
    history = client.get(f"/memories/{memory_id}/history").json()
    return [
        (one["event"], one["old_memory"], one["new_memory"], one["is_deleted"]) for one in history
    ]


def keep(client: httpx.Client, text: str, **scope: str) -> str:
    body = {"messages": text, "infer": False, **scope}
    (event,) = client.post("/memories", json=body).json()["results"]
    return str(event["id"])


def test_one_memory_can_be_deleted_and_its_history_forgets_the_words(client: httpx.Client) -> None:
    memory = keep(client, "I drink green tea", user_id="ada")
    assert events(client, memory) == [("ADD", None, "I drink green tea", False)]
    assert client.delete(f"/memories/{memory}").status_code == 200
    assert client.get(f"/memories/{memory}").status_code == 404
    assert client.delete(f"/memories/{memory}").status_code == 404
    found = client.post("/search", json={"query": "green tea", "user_id": "ada"})
    assert found.json() == {"results": []}
    assert events(client, memory) == [("ADD", None, None, False), ("DELETE", None, None, True)]


def test_a_memory_is_changed_and_found_by_its_new_words(
    client: httpx.Client, wait: Callable[..., Any]
) -> None:
    memory = keep(client, "I drink green tea", user_id="ada", metadata={"a": 1})  # type: ignore[arg-type]
    wait(lambda: client.get("/status").json()["backlog"] == 0, "the index")
    changed = client.put(f"/memories/{memory}", json={"text": "I ride bicycles"})
    assert changed.json() == {"message": "Memory updated successfully!"}
    more = client.put(f"/memories/{memory}", json={"metadata": {"b": 2}})
    assert more.status_code == 200
    read = client.get(f"/memories/{memory}").json()
    assert (read["memory"], read["metadata"]) == ("I ride bicycles", {"a": 1, "b": 2})
    assert read["updated_at"] > read["created_at"]
    for query, score in (("ride bicycles", 0.5), ("green tea", None)):
        found = client.post("/search", json={"query": query, "user_id": "ada", "threshold": 0.5})
        scores = [one["score"] for one in found.json()["results"]]
        assert bool(scores) is (score is not None)
    assert events(client, memory) == [
        ("ADD", None, "I drink green tea", False),
        ("UPDATE", "I drink green tea", "I ride bicycles", False),
        ("UPDATE", "I ride bicycles", "I ride bicycles", False),
    ]
    nobody = "00000000-0000-4000-8000-000000000000"
    assert client.put(f"/memories/{nobody}", json={"text": "x"}).status_code == 404
    assert client.get(f"/memories/{nobody}/history").json() == []
    assert client.put(f"/memories/{memory}", json={}).status_code == 422


def test_all_memories_of_a_scope_can_be_deleted(
    client: httpx.Client, query: Callable[..., list[tuple[Any, ...]]]
) -> None:
    of_ada = keep(client, "tea", user_id="ada", run_id="r")
    of_helper = keep(client, "bread", user_id="ada", agent_id="helper")
    of_bob = keep(client, "milk", user_id="bob", run_id="r")
    client.post("/agents/helper/humans/ada/archival", json={"kind": "k", "data": {}})
    query(
        "INSERT INTO mem0_messages (scope, human_id, role, content)"
        """ SELECT '["ada", null, "r"]', 'ada', 'user', 'x'"""
    )
    assert client.delete("/memories").status_code == 422
    gone = client.delete("/memories", params={"user_id": "ada", "run_id": "r"})
    assert gone.json() == {"message": "All relevant memories deleted"}
    assert query("SELECT count(*) FROM mem0_messages") == [(0,)]
    left = client.get("/memories", params={"user_id": "ada"}).json()["results"]
    assert [one["id"] for one in left] == [of_helper]
    assert events(client, of_ada)[-1] == ("DELETE", None, None, True)
    assert client.delete("/memories", params={"run_id": "r"}).status_code == 200
    assert client.get(f"/memories/{of_bob}").status_code == 404
    assert client.post("/reset").json() == {"message": "All memories reset"}
    assert client.get("/memories", params={"user_id": "ada"}).json() == {"results": []}
    assert len(client.get("/agents/helper/humans/ada/archival").json()["records"]) == 1


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
