"""Long-term memory through a real Mem0 server."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx

Serve = Callable[..., AbstractContextManager[Any]]
TEA = b"# Tea\n\nTea is served at four."


def ask(client: httpx.Client, message: str) -> dict[str, Any]:
    response = client.post("/api/chat/query", json={"message": message})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_what_was_said_is_remembered_in_a_new_conversation(
    remembering: Any, scripted_ollama: Any
) -> None:
    with remembering.client("ann-key") as ann, remembering.client("ben-key") as ben:
        first = ask(ann, "My favourite city is Lisbon.")
        assert first["memory"]["status"] == "ok"
        second = ask(ann, "Which city do I like?")
        assert second["conversation_id"] != first["conversation_id"]
        said = [(m["role"], m["content"]) for m in second["memory"]["history"]]
        assert said[-2:] == [
            ("user", "My favourite city is Lisbon."),
            ("assistant", "The answer is in the document [1]."),
        ]
        prompt = scripted_ollama.requests[-1]["messages"]
        assert "My favourite city is Lisbon." in prompt[0]["content"]
        other = ask(ben, "Which city do I like?")
        assert other["memory"]["history"] == []
        assert "Lisbon" not in str(scripted_ollama.requests[-1])


def test_preferences_shape_the_answer(remembering: Any, scripted_ollama: Any) -> None:
    scripted_ollama.models.append("other-model")
    with remembering.client("ann-key") as client:
        wanted = {"style": "as a list", "language": "Portuguese", "model": "other-model"}
        wishes = wanted | {"units": "metric"}
        saved = client.put("/api/memory/preferences", json=wishes)
        assert (saved.status_code, saved.json()) == (200, {"preferences": wishes})
        body = ask(client, "Hello?")
        assert body["memory"]["preferences"] == wishes
        assert body["model"] == "other-model"
        sent = scripted_ollama.requests[-1]
        assert sent["model"] == "other-model"
        for words in ("style: as a list", "language: Portuguese", "for units: metric"):
            assert words in sent["messages"][0]["content"]
        scripted_ollama.models.remove("other-model")
        assert ask(client, "Hello again?")["model"] == "chat-model", "a lost model stops nobody"
        assert client.get("/api/memory").json()["preferences"] == wishes
        client.put("/api/memory/preferences", json={"style": "", "language": "French"})
        assert client.get("/api/memory").json()["preferences"] == {"language": "French"}
        client.put("/api/memory/preferences", json={})


def test_bad_preferences_are_refused(remembering: Any) -> None:
    with remembering.client("ben-key") as client:
        for body, field in (
            ({"style": 7}, "style"),
            ({"language": "x" * 201}, "language"),
            ({"model": "no-such-model"}, "model"),
            ({"style": "a\x00b"}, "style"),
            ({"units": ["metric"]}, "units"),
            ({"units": "x" * 201}, None),
            ({"x" * 51: "y"}, None),
            ([], None),
        ):
            response = client.put("/api/memory/preferences", json=body)
            assert response.status_code == 422, (body, response.text)
            assert response.json()["error"]["field"] == field
        assert client.get("/api/memory").json()["preferences"] == {}


def test_documents_used_lately_rank_a_little_higher(remembering: Any) -> None:
    with remembering.client("root-key") as client:
        files = [("files", (name, TEA)) for name in ("first.md", "second.md")]
        client.post("/api/documents", files=files)
        used = ask(client, "When is tea served?")["sources"][0]
        assert used["boost"] == 0
        memory = client.get("/api/memory").json()
        (interaction,) = memory["interactions"]
        assert interaction["document_id"] == used["document_id"]
        assert interaction["interaction_type"] == "cited"
        assert interaction["data"]["document_name"] == used["document_name"]
        again = ask(client, "When is tea served?")["sources"]
        assert again[0]["document_id"] == used["document_id"]
        assert 0 < again[0]["boost"] <= 0.02
        assert again[1]["boost"] == 0


def test_memory_key_fingerprint(remembering: Any, mem0_key: str) -> None:
    expected = hashlib.sha256(mem0_key.encode()).hexdigest()[:12]
    with remembering.client() as client:
        url = "/api/status/memory-key"
        assert client.get(url, headers={"X-API-Key": mem0_key}).json() == {"fingerprint": expected}
        assert client.get(url, headers={"X-API-Key": "wrong"}).status_code == 401
        assert client.get(url).status_code == 401


def test_health_names_memory(remembering: Any) -> None:
    with remembering.client() as client:
        assert client.get("/api/health").json()["components"]["mem0"]["status"] == "ok"


def test_a_mem0_that_hangs_costs_one_wait(
    serve: Serve, app_settings: Callable[..., Any], mem0_key: str
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as deaf:
        settings = app_settings(
            use_mem0=True,
            mem0_endpoint=f"http://127.0.0.1:{deaf.getsockname()[1]}",
            mem0_api_key=mem0_key,
            memory_time_limit=0.5,
        )
        with serve(settings) as running, running.client() as client:
            begun = time.monotonic()
            assert ask(client, "Hello?")["memory"]["status"] == "degraded"
            first = time.monotonic() - begun
            begun = time.monotonic()
            assert ask(client, "Still there?")["memory"]["status"] == "degraded"
            second = time.monotonic() - begun
            assert second < 0.5 <= first < 2
            kept = client.put("/api/memory/preferences", json={"style": "short"})
            assert (kept.status_code, kept.json()) == (200, {"preferences": {"style": "short"}})
            shown = ask(client, "And now?")["memory"]
            assert shown["preferences"] == {"style": "short"}, "though Mem0 does not have it yet"
            assert [m["content"] for m in shown["history"] if m["role"] == "user"] == [
                "Hello?", "Still there?",
            ]  # fmt: skip


def test_memory_off(client: httpx.Client, mem0_key: str) -> None:
    nothing = {"status": "off", "preferences": {}, "history": [], "interactions": []}
    assert client.get("/api/memory").json() == nothing
    refused = client.put("/api/memory/preferences", json={"style": "short"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "memory_off")
    key = client.get("/api/status/memory-key", headers={"X-API-Key": mem0_key})
    assert (key.status_code, key.json()["error"]["code"]) == (404, "no_memory_key")
