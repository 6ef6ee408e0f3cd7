"""Questions and answers, with and without streaming, and the conversations they make."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

Serve = Callable[..., AbstractContextManager[Any]]


def ask(client: httpx.Client, message: str, conversation: str | None = None) -> dict[str, Any]:
    body = {"message": message} | ({"conversation_id": conversation} if conversation else {})
    response = client.post("/api/chat/query", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.fixture
def library(client: httpx.Client, documents: Callable[..., Any]) -> httpx.Client:
    """A client of an app that knows some of tests/data."""
    names = [document for _, document, _, _ in QUOTES] + ["leave-policy.md"]
    assert client.post("/api/documents", files=documents(*names)).status_code == 201
    return client


# Near quotes, because the scripted embeddings know words only.
QUOTES = [
    ("If it stays silent for an hour, open a ticket with Field Service.", "on-call-runbook.md",
     None, "On-call Runbook for Stationcloud › Gateway offline"),
    ("Rain: tipping bucket, resolution 0.2 millimetres. Air pressure: 300 to 1100 hectopascal",
     "aw-200-datasheet.pdf", 2, None),
    ("Abroad: 52 euros a day. At home: 28 euros a day. Breakfast in the hotel takes 6 euros off",
     "travel-policy.html", None, "Travel Policy › Daily allowance"),
    ("To make a claim, write with the serial number. A repaired station keeps the warranty",
     "warranty-terms.txt", None, None),
]  # fmt: skip


def test_sources_name_document_and_place(library: httpx.Client) -> None:
    for question, document, page, section in QUOTES:
        body = ask(library, question)
        first = body["sources"][0]
        assert (first["document_name"], first["page"], first["section"]) == (
            document, page, section,
        )  # fmt: skip
        assert [source["number"] for source in body["sources"]] == [1, 2, 3, 4, 5, 6]
        scores = [source["score"] for source in body["sources"]]
        assert scores == sorted(scores, reverse=True)
        assert body["answer"] == "The answer is in the document [1]."
        assert body["citations"] == [1]
        assert body["model"] == "chat-model"
        assert body["memory"] == {"status": "off", "preferences": {}, "history": []}


def test_the_model_is_given_sources_question_and_history(
    library: httpx.Client, scripted_ollama: Any
) -> None:
    asked = "Everyone has how many days of annual leave a year?"
    followed = "Up to how many days may be carried over, taken by the end of April?"
    ask(library, followed, ask(library, asked)["conversation_id"])
    system, *earlier, last = scripted_ollama.requests[-1]["messages"]
    assert system["role"] == "system"
    assert [m["content"] for m in earlier] == [
        asked,
        "The answer is in the document [1].",
    ]
    assert last["role"] == "user"
    assert "(leave-policy.md, Leave Policy › Annual leave)\nEveryone has 28 days" in last["content"]
    assert last["content"].endswith(f"Question: {followed}")
    assert scripted_ollama.requests[-1]["options"]["num_ctx"] == 4096


def test_stream_events_in_order(
    library: httpx.Client, events: Callable[[httpx.Response], Any]
) -> None:
    response = library.post("/api/chat/stream", json={"message": "How long is parental leave?"})
    found = events(response)
    names = [name for name, _ in found]
    assert names == ["start", "sources", *["token"] * 7, "done"]
    start, sources, done = found[0][1], found[1][1], found[-1][1]
    assert sources["sources"][0]["document_name"]
    assert sources["memory"]["status"] == "off"
    assert "".join(data["text"] for name, data in found if name == "token") == done["answer"]
    assert done == start | {"answer": "The answer is in the document [1].", "citations": [1]}
    url = f"/api/chat/conversations/{start['conversation_id']}/messages"
    user, assistant = library.get(url).json()["messages"]
    assert (user["role"], user["content"]) == ("user", "How long is parental leave?")
    assert assistant["id"] == start["message_id"]
    assert (assistant["role"], assistant["content"]) == ("assistant", done["answer"])
    assert assistant["sources"] == sources["sources"]


def test_tokens_arrive_while_the_model_still_thinks(
    serve: Serve, app_settings: Callable[..., Any], holding_ollama: Any
) -> None:
    with (
        serve(app_settings(ollama_base_url=holding_ollama.url)) as running,
        running.client() as client,
        client.stream("POST", "/api/chat/stream", json={"message": "Well?"}) as response,
    ):
        lines = response.iter_lines()
        assert any('"three "' in line for line in lines), "three words before the model goes on"
        holding_ollama.go_on.set()
        assert any("One two three four" in line for line in lines)


def test_a_reader_who_leaves_stops_the_model(
    serve: Serve, app_settings: Callable[..., Any], holding_ollama: Any
) -> None:
    with serve(app_settings(ollama_base_url=holding_ollama.url)) as running:
        with (
            running.client() as client,
            client.stream("POST", "/api/chat/stream", json={"message": "Well?"}) as response,
        ):
            assert any('"three "' in line for line in response.iter_lines())
        assert holding_ollama.left.wait(10)
        with running.client() as client:
            (conversation,) = client.get("/api/chat/conversations").json()["conversations"]
            url = f"/api/chat/conversations/{conversation['id']}/messages"
            deadline = time.monotonic() + 10
            while len(found := client.get(url).json()["messages"]) < 2:
                assert time.monotonic() < deadline, "what was said so far is kept"
            assert found[1]["content"] == "One two three"


def test_uncited_answers_still_list_their_sources(
    library: httpx.Client, scripted_ollama: Any
) -> None:
    scripted_ollama.answer = "Nobody knows [99]."
    body = ask(library, "Which bicycle stands does Mireille order?")
    assert body["citations"] == []
    assert body["sources"]


def test_without_documents_the_model_is_told_so(client: httpx.Client, scripted_ollama: Any) -> None:
    body = ask(client, "Anything?")
    assert body["sources"] == []
    assert "no documents" in scripted_ollama.requests[-1]["messages"][0]["content"]


def test_history_pages_backwards(client: httpx.Client) -> None:
    conversation = ask(client, "question 0")["conversation_id"]
    for number in range(1, 4):
        ask(client, f"question {number}", conversation)
    url = f"/api/chat/conversations/{conversation}/messages"
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = client.get(url, params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        seen = [m["content"] for m in page["messages"] if m["role"] == "user"] + seen
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [f"question {number}" for number in range(4)]
    assert client.get(url, params={"cursor": "nonsense"}).status_code == 422


def test_conversations_are_listed_by_last_use_and_can_be_deleted(client: httpx.Client) -> None:
    first = ask(client, "The first\nquestion")["conversation_id"]
    second = ask(client, "s" * 500)["conversation_id"]
    listed = client.get("/api/chat/conversations").json()["conversations"]
    assert [c["id"] for c in listed] == [second, first]
    assert listed[1]["title"] == "The first question"
    assert len(listed[0]["title"]) <= 80
    ask(client, "again", first)
    listed = client.get("/api/chat/conversations").json()["conversations"]
    assert [c["id"] for c in listed] == [first, second]
    assert client.delete(f"/api/chat/conversations/{first}").status_code == 204
    assert client.get(f"/api/chat/conversations/{first}/messages").status_code == 404


def test_nobody_sees_the_conversations_of_others(with_keys: Any) -> None:
    with with_keys.client("ann-key") as ann, with_keys.client("root-key") as root:
        conversation = ask(ann, "Where is my umbrella?")["conversation_id"]
        assert root.get("/api/chat/conversations").json() == {"conversations": []}
        url = f"/api/chat/conversations/{conversation}"
        body = {"message": "And mine?", "conversation_id": conversation}
        for response in (
            root.get(f"{url}/messages"),
            root.delete(url),
            root.post("/api/chat/query", json=body),
            root.post("/api/chat/stream", json=body),
        ):
            assert response.status_code == 404
            assert response.json()["error"]["code"] == "not_found"
        assert len(ann.get(f"{url}/messages").json()["messages"]) == 2


BAD_BODIES: list[tuple[Any, str | None]] = [
    ({}, "message"),
    ({"message": ""}, "message"),
    ({"message": " \n "}, "message"),
    ({"message": None}, "message"),
    ({"message": 7}, "message"),
    ({"message": ["a"]}, "message"),
    ({"message": "x" * 16_001}, "message"),
    ({"message": "a\x00b"}, "message"),
    ({"message": "\ud800"}, "message"),
    ({"message": "hello", "conversation_id": 7}, "conversation_id"),
    ([], None),
    ("text", None),
    (None, None),
]


def test_bad_bodies_are_422_with_the_field(client: httpx.Client) -> None:
    for route in ("query", "stream"):
        for body, field in BAD_BODIES:
            response = client.post(
                f"/api/chat/{route}",
                content=json.dumps(body),
                headers={"Content-Type": "application/json"},
            )
            assert response.status_code == 422, (body, response.text)
            error = response.json()["error"]
            assert (error["code"], error["field"]) == ("invalid_input", field), body
            assert error["message"]
    assert client.get("/api/chat/conversations").json() == {"conversations": []}


def test_a_body_that_is_no_json(client: httpx.Client) -> None:
    for content in (b"", b"{", b"\xff\xfe", b'{"message": "a"', b"[" * 100_000):
        response = client.post(
            "/api/chat/query", content=content, headers={"Content-Type": "application/json"}
        )
        assert response.status_code in (400, 422), content[:20]
        assert response.json()["error"]["message"]


def test_unknown_conversation(client: httpx.Client) -> None:
    for conversation in ("x", "7", "00000000-0000-0000-0000-000000000000"):
        body = {"message": "Hello?", "conversation_id": conversation}
        for route in ("query", "stream"):
            response = client.post(f"/api/chat/{route}", json=body)
            assert response.status_code == 404
            assert response.json()["error"]["field"] == "conversation_id"


def test_ollama_away(
    client: httpx.Client, scripted_ollama: Any, events: Callable[[httpx.Response], Any]
) -> None:
    scripted_ollama.down = True
    response = client.post("/api/chat/query", json={"message": "Hello?"})
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "model_server_unavailable"
    assert int(response.headers["retry-after"]) > 0
    found = events(client.post("/api/chat/stream", json={"message": "Hello?"}))
    # Where nothing is indexed no vector is needed: that there are no sources is told first.
    assert [name for name, _ in found if name != "sources"] == ["start", "error"]
    assert found[-1][1]["code"] == "model_server_unavailable"
    scripted_ollama.down = False
    assert ask(client, "Hello?")["answer"]


def test_model_missing_says_what_to_do(client: httpx.Client, scripted_ollama: Any) -> None:
    scripted_ollama.models.remove("chat-model")
    response = client.post("/api/chat/query", json={"message": "Hello?"})
    assert response.status_code == 503
    error = response.json()["error"]
    assert error["code"] == "model_missing"
    assert "ollama pull chat-model" in error["message"]


def test_an_empty_answer_is_an_error(client: httpx.Client, scripted_ollama: Any) -> None:
    scripted_ollama.answer = ""
    response = client.post("/api/chat/query", json={"message": "Hello?"})
    assert response.status_code == 503
    assert "empty answer" in response.json()["error"]["message"]


def test_many_at_once(running: Any) -> None:
    def one(number: int) -> dict[str, Any]:
        with running.client() as client:
            return ask(client, f"question {number}")

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(one, range(48)))
    assert len({answer["conversation_id"] for answer in answers}) == 48
